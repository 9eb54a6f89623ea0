"""Which files of the context pip needs to install a requirements file.

Besides the file itself: what it takes in by `-r` and `-c` (relative to the file that says so, like
pip), and local packages (`./package`, relative to the top of the context).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fftasks.errors import SettingsError

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(-r|-c|-f|-e|--[a-z-]+)(?:\s*=\s*|\s+|(?<=-[rcfe]))(\S.*)")
_INCLUDES = frozenset({"-r", "--requirement"})
_CONSTRAINTS = frozenset({"-c", "--constraint"})
_EDITABLES = frozenset({"-e", "--editable"})
_FOLDERS = frozenset({"-f", "--find-links"})
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2")


def collect(name: str, paths: Mapping[str, object], folder: Path) -> tuple[str, ...]:
    """Return the paths in the context that `pip install -r name` reads, sorted; name among them.

    An empty tuple if there is nothing to install. paths: the context's files; folder: its copy.
    Raises SettingsError, with the line, for what is not in the context or would not stay in the
    image.
    """
    if name not in paths:
        return ()
    found: dict[str, None] = {}
    requirements = _follow(name, paths, folder, found)
    return tuple(sorted(found)) if requirements else ()


def read_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and content of each line that says something; continued lines are joined."""
    start, whole = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            whole += raw[:-1] + " "
            continue
        line = _COMMENT.sub("", whole + raw).strip()
        if line:
            yield start, line
        start, whole = 0, ""
    if whole.strip():
        yield start, whole.strip()


def _follow(name: str, paths: Mapping[str, object], folder: Path, found: dict[str, None]) -> int:
    """Note what a file needs; return how many of its lines name something to install."""
    if name in found:
        return 0
    found[name] = None
    count = 0
    text = (folder / name).read_text("utf-8-sig", "replace")
    for number, line in read_lines(text):
        where = f"{name} line {number}"
        option, value = match.groups() if (match := _OPTION.fullmatch(line)) else ("", "")
        if option in _INCLUDES | _CONSTRAINTS:
            included = _find(posixpath.dirname(name), value, where, paths)
            inside = sum(_follow(path, paths, folder, found) for path in included)
            count += inside if option in _INCLUDES else 0
        elif option in _FOLDERS:
            found.update(dict.fromkeys(_find(posixpath.dirname(name), value, where, paths)))
        elif option in _EDITABLES:
            raise SettingsError(
                f"image: {where} installs in place, which would not outlast the build: {line}",
                tip="write the folder alone, as in ./package",
            )
        elif not line.startswith("-"):
            found.update(dict.fromkeys(_find_local(line, where, paths)))
            count += 1
    return count


def _find_local(line: str, where: str, paths: Mapping[str, object]) -> list[str]:
    """Return the files of the local package that a requirement is, if it is one (pip's rule)."""
    target = re.split(r"[\s;\[]", line.removeprefix("file:"), maxsplit=1)[0]
    if "@" in line or not (target.startswith(".") or "/" in target or target.endswith(_ARCHIVES)):
        return []
    return _find("", target, where, paths)


def _find(base: str, target: str, where: str, paths: Mapping[str, object]) -> list[str]:
    """Return the file, or all files of the folder, that a line names."""
    target = target.strip("\"'")
    if re.match(r"[\w+]+://", target):
        return []  # pip fetches it
    path = posixpath.normpath(posixpath.join(base, target))
    if path in paths:
        return [path]
    inside = [one for one in paths if path == "." or one.startswith(f"{path}/")]
    if not inside:
        raise SettingsError(
            f"image: {where} names {target}, which is not in the context",
            tip="check the path, and .dockerignore; it must lie in the project's folder",
        )
    return inside
