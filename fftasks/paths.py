r"""Names and paths that others have chosen, checked before they touch the file system.

Object keys, members of archives, ids of runs and names of tasks come from outside of this machine. One rule
holds for all of them:

    name    is neither empty nor "." or ".."; has no "/", no "\", no control character and no drive letter
            ("c:"); is valid UTF-8 of at most 255 bytes
    path    one name, or several with "/" between them

A name stays forbidden if percent-encoding hides what is forbidden in it, because a server may decode it.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from fftasks.errors import ToolError

_MOST_BYTES = 255  # of a name, on all common file systems
_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line ends


def explain_name(name: str) -> str:
    """Return why a name cannot be a part of a path; "" if it can."""
    if not name:
        return "it has an empty name"
    if _SEPARATORS.search(name) or _DRIVE.match(name):
        return "it has a separator or a drive letter in a name"
    if len(name.encode("utf-8", "surrogatepass")) > _MOST_BYTES:
        return f"it has a name of more than {_MOST_BYTES} bytes"
    decoded = ""
    while decoded != name:
        decoded, name = name, unquote(name)
        if any(part in (".", "..") for part in _SEPARATORS.split(decoded)):
            return 'it has "." or ".." as a name'
        if any(unicodedata.category(character) in _FORBIDDEN for character in decoded):
            return "it has a control character, or a character that is not valid UTF-8"
    return ""


def check_name(name: str, what: str) -> str:
    """Return a name that can be a part of a path.

    Args:
        name: The name, as somebody else gave it.
        what: What the name is of, such as "id of a run"; for the message.

    Raises:
        ToolError: The name cannot be a part of a path.
    """
    problem = explain_name(name)
    if problem:
        raise ToolError(f"unsafe {what}: {problem}", found=[f"the name is {name!r}"])
    return name


def locate(folder: Path, *names: str) -> Path:
    """Return the path below a folder that has these names, which came from the cluster.

    Raises:
        ToolError: A name cannot be a part of a path.
    """
    return folder.joinpath(*(check_name(name, "name from the cluster") for name in names))


def split_path(path: str) -> tuple[str, ...]:
    """Return the names of a path that is relative to some folder.

    Raises:
        ValueError: One of them cannot be a part of a path; the message says why.
    """
    if path.startswith("/"):
        raise ValueError("it is absolute")
    names = tuple(path.split("/"))
    for name in names:
        if problem := explain_name(name):
            raise ValueError(problem)
    return names
