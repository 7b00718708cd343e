"""Comparison with gunicorn: ``python -m tests.benchmarks``. Reports; never fails a test run."""
