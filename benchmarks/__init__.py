"""The benchmarks: ``python -m benchmarks --help``. What they measure and what was seen: docs/benchmarks.md."""
