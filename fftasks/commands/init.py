"""`fftasks init`: write a project that runs."""

from __future__ import annotations

from pathlib import Path

from fftasks.errors import SettingsError
from fftasks.settings import format_default

_TEMPLATE = Path(__file__).parent / "template"

# written as -> file of the template; the names differ so that no tool takes the template for a project
_FILES = {
    "dodo.py": "dodo.txt",
    "words.py": "words.txt",
    "requirements.txt": "requirements.txt",
    ".dockerignore": "dockerignore.txt",
}


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project and return their paths; what is there already is never changed.

    Raises SettingsError if a file is there with another content; then nothing is written.
    """
    files = {folder / name: (_TEMPLATE / file).read_text("utf-8") for name, file in _FILES.items()}
    files[folder / "config" / "default.yaml"] = format_default(("words.py",))
    there = [path for path, text in files.items() if path.exists() and not _holds(path, text)]
    if there:
        raise SettingsError(
            f"init: {folder.resolve()} has files that would be overwritten",
            found=[str(path) for path in there],
            tip="name an empty folder: fftasks init my-project",
        )
    new = {path: text for path, text in files.items() if not path.exists()}
    for path, text in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(new)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
