"""Recognition of secrets in files, settings and values."""
