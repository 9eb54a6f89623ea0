"""Results that are pictures, for the page: drawn in a process of its own, since it loads the user's classes.

python -m fftasks.page.pictures ROOT
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.page.documents import Document, find_pictures, make_documents
from fftasks.project import Project
from fftasks.runtime.start import make_command

_MOST = 24
_LARGEST_BYTES = 1_500_000
_TIMEOUT_S = 60
# how a preview begins of what may be a picture: nothing else is loaded
_BEGINNINGS = ("<Figure", "<PIL.", "<IPython", r"b'\x89PNG", r"b'\xff\xd8\xff", "b'GIF8")
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


@dataclass(frozen=True)
class Drawable:
    """A result that may be a picture: whose, the file that builds its workflow, and where it is."""

    label: str
    file: str
    path: Path


def may_be_picture(preview: str) -> bool:
    """Tell whether a result that is shown so is worth to be loaded."""
    return preview.startswith(_BEGINNINGS)


def render_pictures(project: Project, results: Iterable[Drawable]) -> dict[str, tuple[str, ...]]:
    """Return pictures as data: URLs, by label; those that cannot be drawn are left out."""
    wanted = [
        {"label": one.label, "file": one.file, "path": str(one.path)}
        for one in results
        if one.path.is_file() and one.path.stat().st_size <= 4 * _LARGEST_BYTES
    ]
    if not wanted:
        return {}
    command = [*make_command("fftasks.page.pictures"), str(project.root)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(wanted[:_MOST]).encode(),
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
            cwd=project.root,
        )
        drawn = json.loads(done.stdout) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError):
        return {}
    return {label: (url,) for label, url in drawn.items()}


@dataclass(frozen=True)
class Pages:
    """What the files hold in which a result is shown; see runtime/show.py."""

    metrics: dict[str, float] = field(default_factory=dict)
    text: str = ""
    pictures: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


def read_pages(paths: Sequence[Path]) -> Pages:
    """Return what files show: numbers, texts, documents, and the pictures of figures."""
    return make_pages({p.name: p.read_text("utf-8", "replace") for p in paths if p.is_file()})


def make_pages(files: Mapping[str, str]) -> Pages:
    """Return what files show, by their names; see runtime/show.py."""
    try:
        metrics = json.loads(files.get("metrics.json", "{}"))
    except ValueError:
        metrics = {}
    rows = metrics.items() if isinstance(metrics, dict) else ()
    numbers = {str(k): v for k, v in rows if isinstance(v, (int, float))}
    pictures = find_pictures(files.get("page.html", ""))
    return Pages(numbers, files.get("page.md", ""), pictures, make_documents(files))


def draw_value(value: Any) -> str:
    """Return a picture as a data: URL, "" for what is none: bytes of one, a figure, or what draws itself."""
    if isinstance(value, bytes):
        content = value
    elif callable(getattr(value, "savefig", None)):  # matplotlib, and what is like it
        buffer = io.BytesIO()
        value.savefig(buffer, format="png", bbox_inches="tight")
        content = buffer.getvalue()
    else:
        drawn = getattr(value, "_repr_png_", lambda: None)()  # the protocol of notebooks
        content = drawn if isinstance(drawn, bytes) else b""
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")
    if not kind or len(content) > _LARGEST_BYTES:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def main(root: Path) -> int:
    """Read which results to draw from stdin, and write their pictures to stdout, as JSON."""
    from fftasks.runtime.artifact import read_artifact
    from fftasks.runtime.source import add_import_paths
    from fftasks.runtime.worker import take_stdout
    from fftasks.workflow.guard import building

    answers, drawn = take_stdout(), {}
    for one in json.load(sys.stdin):
        try:
            add_import_paths(root, one["file"])
            with building():
                url = draw_value(read_artifact(Path(one["path"])))
        except Exception:  # noqa: BLE001, S112 - the border to the user's code: there is no picture then
            continue
        if url:
            drawn[one["label"]] = url
    answers.write(json.dumps(drawn).encode())
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
