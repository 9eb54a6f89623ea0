"""Rules that all HTTP clients share: where credentials may be sent, and how answers are read."""
