"""How fast fftasks is, each figure beside its reference in the same run: `python -m tests.benchmarks`."""
