"""A stress test of the whole server: no response may be lost, doubled or given to the wrong connection.

``python -m tests.stress --help`` runs it for as long as one likes; ``test_stress.py`` is the short variant.
"""
