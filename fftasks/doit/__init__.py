"""What fftasks gives to doit: how it looks, acts, remembers and reports."""
