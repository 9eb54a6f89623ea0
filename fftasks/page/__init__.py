"""The page of a run: what stands on it (content.py), how it becomes one file (html.py), and its server."""
