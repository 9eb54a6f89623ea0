"""Which installed distribution a module comes from, and which version of it is installed.

Only names and metadata are read; no module is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fftasks.record import digest_json, read_record, write_record

if TYPE_CHECKING:
    from importlib import metadata

_KINDS = (".dist-info", ".egg-info")
_MODULES = (".py", ".so", ".pyd")
_PACKAGES = {"site-packages", "dist-packages"}


def is_standard(name: str) -> bool:
    """Tell whether a top-level module is part of Python."""
    return name in sys.stdlib_module_names


def is_installed_path(path: Path) -> bool:
    """Tell whether a path is in a folder of installed packages."""
    return not _PACKAGES.isdisjoint(path.parts)


def list_installed() -> list[str]:
    """Return the names of what says which distributions are installed, such as "numpy-2.4.6.dist-info".

    Only folders of packages are looked into: the others on the path depend on how Python was started.
    """
    folders = [folder for folder in dict.fromkeys(sys.path) if is_installed_path(Path(folder))]
    return sorted({name for names in _list_names(folders)[1:] for name in names})


class Distributions:
    """The installed distributions.

    tops: top-level module -> distributions that provide it, as "numpy 2.4.6"
    editable: folders of source from which distributions are installed without being copied
    """

    def __init__(self, tops: dict[str, list[str]], editable: list[str]) -> None:
        self.tops = tops
        self.editable = editable


@lru_cache(maxsize=8)
def read_distributions(cache: Path | None = None) -> Distributions:
    """Return what is installed on this interpreter's path.

    cache: file in which to keep the answer; it holds as long as no distribution comes or goes
    """
    listing = digest_json(_list_names(sys.path))
    record = read_record(cache) if cache else None
    if record is None or record["output"] != listing:
        tops, editable = _read_all()
        record = {"output": listing, "tops": tops, "editable": editable}
        if cache:
            _keep(cache, record)
    return Distributions(record["tops"], record["editable"])


def _keep(cache: Path, record: dict[str, object]) -> None:
    try:
        write_record(cache, record)
    except OSError:
        return  # it only saves time


def _list_names(folders: Iterable[str]) -> list[list[str]]:
    names = []
    for folder in folders:
        try:
            entries = [entry.name for entry in Path(folder or ".").iterdir()]
        except OSError:
            continue
        names.append(sorted(entry for entry in entries if entry.endswith(_KINDS)))
    return [sys.version.split()[:1], *names]


def _read_all() -> tuple[dict[str, list[str]], list[str]]:
    from importlib import metadata  # as long to import as a small project takes to analyse

    tops: dict[str, set[str]] = {}
    editable = []
    for distribution in metadata.distributions():
        name, version = _read_name(distribution)
        if not name:
            continue  # a folder that pip left behind half removed
        for top in _list_tops(distribution):
            tops.setdefault(top, set()).add(f"{name} {version}")
        editable += _find_source(distribution) if name != "fftasks" else []
    return {top: sorted(names) for top, names in sorted(tops.items())}, sorted(set(editable))


def _read_name(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return name and version; the library would parse all of a README each time that it is asked."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in head if line.startswith(("Name: ", "Version: ")))
    if len(fields) == len(("Name", "Version")):
        return fields["Name"].strip(), fields["Version"].strip()
    return distribution.metadata["Name"], distribution.metadata["Version"]


def _list_tops(distribution: metadata.Distribution) -> set[str]:
    tops = set((distribution.read_text("top_level.txt") or "").split())
    if tops:
        return {top.partition("/")[0] for top in tops}
    firsts = {
        path.partition("/")[0] for path in _list_files(distribution) if path.endswith(_MODULES)
    }
    names = {first.partition(".")[0] for first in firsts if not first.endswith(_KINDS)}
    return {name for name in names if name.isidentifier() and name != "__pycache__"}


def _list_files(distribution: metadata.Distribution) -> Iterator[str]:
    record = distribution.read_text("RECORD")
    if record is None:
        yield from (str(path) for path in distribution.files or ())
        return
    for (
        line
    ) in record.splitlines():  # an object for each would take as long as a small project's run
        yield line.partition(",")[0].strip('"')


def _find_source(distribution: metadata.Distribution) -> list[str]:
    """Return the source folders of an editable distribution; none for any other."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return []
    if not origin.get("dir_info", {}).get("editable"):
        return []
    from urllib.parse import unquote, urlparse

    folder = Path(unquote(urlparse(origin["url"]).path))
    return [str(part) for part in (folder / "src", folder) if part.is_dir()]
