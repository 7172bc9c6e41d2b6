"""Benchmarks: asv suites per floor, and `python -m benchmarks.compare` against other libraries."""
