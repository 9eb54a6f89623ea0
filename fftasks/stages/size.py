"""How large the copy may be, and what would make it smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from fftasks.errors import FFTasksError, SettingsError
from fftasks.stages.dockerignore import quote

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SHOWN = 10
_MOST_PATTERNS = 5
_CODE = ".py"
_ANYWHERE = "**/"


class SizeError(FFTasksError):
    """Keep large files out of the image, or raise the limit."""


def parse_size(text: str) -> int:
    """Return the bytes that "500MB", "1.5 GB" or "0" mean; raise SettingsError for what is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]?B|)", text.strip())
    if not match:
        raise SettingsError(
            f"context.max_size: {text!r} is no size",
            tip='write a number and kB, MB, GB or TB, such as "500MB"; "0" sets no limit',
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def format_size(size_bytes: int) -> str:
    """Return a size for people: "20.3 MB"."""
    size, units = float(size_bytes), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":  # noqa: PLR2004
        size, unit = size / 1000, next(units)
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def list_largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the ten largest files, the largest first."""
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]


def check(sizes: Mapping[str, int], max_size: str) -> None:
    """Raise SizeError if files are larger than max_size altogether, with what would help.

    sizes: path -> bytes. Raises SettingsError if max_size is no size.
    """
    limit, total = parse_size(max_size), sum(sizes.values())
    if not limit or total <= limit:
        return
    largest = [f"{format_size(size):>10}  {path}" for path, size in list_largest(sizes)]
    patterns = [
        f"{format_size(size):>10}  {pattern}  ({count} {'file' if count == 1 else 'files'})"
        for pattern, size, count in suggest(sizes, total - limit)
    ]
    raise SizeError(
        f"context: {len(sizes)} files have {format_size(total)}, more than the {max_size} "
        "of context.max_size",
        found=["the largest:", *largest, "lines for .dockerignore that would help:", *patterns],
        tip="data that nodes read from a storage need not be in the image; "
        "else raise context.max_size in config/default.yaml",
    )


def suggest(sizes: Mapping[str, int], excess: int) -> Iterator[tuple[str, int, int]]:
    """Yield patterns that keep out at least `excess` bytes: each with the bytes and the files.

    A folder without code, all files of one suffix, or a single file: whichever holds most of what
    is left; of equals a folder or a file, and the narrowest. At most five.
    """
    left = {path: size for path, size in sizes.items() if size}
    for _ in range(_MOST_PATTERNS):
        if excess <= 0 or not left:
            return
        groups = _group(left, sizes)
        pattern = max(
            groups,
            key=lambda name: (
                sum(left[path] for path in groups[name]),
                not name.startswith(_ANYWHERE),
                len(name),
            ),
        )
        out = groups[pattern]
        size = sum(left.pop(path) for path in out)
        yield pattern, size, len(out)
        excess -= size


def _group(left: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the paths that each pattern would keep out."""
    coded = {str(parent) for path in sizes if path.endswith(_CODE) for parent in _parents(path)}
    groups: dict[str, list[str]] = {}
    for path in left:
        suffix = PurePosixPath(path).suffix
        names = [quote(str(parent)) for parent in _parents(path) if str(parent) not in coded]
        names += [f"{_ANYWHERE}*{quote(suffix)}"] if suffix not in ("", _CODE) else []
        for name in (*names, quote(path)):
            groups.setdefault(name, []).append(path)
    return groups


def _parents(path: str) -> list[PurePosixPath]:
    return list(PurePosixPath(path).parents)[:-1]
