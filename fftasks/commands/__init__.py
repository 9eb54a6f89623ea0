"""Commands: `fftasks` itself, and those that doit gets from us."""
