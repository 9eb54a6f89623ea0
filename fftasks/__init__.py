"""The public names of fftasks (filled in with the frontend)."""
