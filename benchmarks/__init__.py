"""Measurements: ``python -m benchmarks`` prints them and writes ``RESULTS.md``. Nothing here is a test."""
