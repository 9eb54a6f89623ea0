"""Preflight: is everything there that `doit submit` needs? Each check says what it found, and a cure."""
