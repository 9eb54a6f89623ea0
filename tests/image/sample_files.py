"""Files of a project whose context is made."""

from pathlib import Path


def write(path: Path, text: str = "") -> Path:
    """Write a file, and the folders that it needs; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
