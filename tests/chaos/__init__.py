"""Faults of all kinds, by chance, while clients ask: what the server promises must hold all the same.

``python -m tests.chaos --help`` runs it for as long as one likes; ``test_chaos.py`` is the short variant.
``python -m tests.chaos.reloads`` measures what a reload, a scaling and a crash loop cost.
"""
