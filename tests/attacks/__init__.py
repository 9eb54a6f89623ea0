"""Attacks: what must not happen, whatever lies in a file, a bucket or an answer."""
