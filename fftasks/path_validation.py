r"""Validate names and paths from other machines before they are used in the file system.

Object keys, members of archives, ids of runs and names of tasks come from other machines. One rule applies to
all of them:

    name    is neither empty nor "." or ".."; has no "/", no "\", no control character and no drive letter
            ("c:"); is valid UTF-8 of at most 255 bytes
    path    one name, or several with "/" between them

A name is also forbidden if its percent-decoded form is, because a server may decode it.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from fftasks.errors import ToolError

_MOST_BYTES = 255  # maximum length of a name on all common file systems
_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line ends


def explain_unsafe_name(name: str) -> str:
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


def check_path_name(name: str, what: str) -> str:
    """Return a name that can be a part of a path.

    Args:
        name: The name from another machine.
        what: Description of the name for the message, such as "id of a run".

    Raises:
        ToolError: The name cannot be a part of a path.
    """
    problem = explain_unsafe_name(name)
    if problem:
        raise ToolError(f"unsafe {what}: {problem}", found=[f"the name is {name!r}"])
    return name


def join_untrusted(folder: Path, *names: str) -> Path:
    """Join a folder and names from the cluster to a path.

    Raises:
        ToolError: A name cannot be a part of a path.
    """
    return folder.joinpath(*(check_path_name(name, "name from the cluster") for name in names))


def split_untrusted_path(path: str) -> tuple[str, ...]:
    """Split a relative path into its names.

    Raises:
        ValueError: A name cannot be a part of a path; the message is the reason.
    """
    if path.startswith("/"):
        raise ValueError("it is absolute")
    names = tuple(path.split("/"))
    for name in names:
        if problem := explain_unsafe_name(name):
            raise ValueError(problem)
    return names
