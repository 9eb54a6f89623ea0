"""Which installed distribution a module comes from, and which version of it is installed.

Only names and metadata are read; no module is imported.

Where functions and classes come from: the project, an installed distribution, or Python.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.records import digest_json, read_record, write_record

if TYPE_CHECKING:
    from importlib import metadata


_KINDS = (".dist-info", ".egg-info")
_MODULES = (".py", ".so", ".pyd")
_PACKAGES = {"site-packages", "dist-packages"}


def is_standard(name: str) -> bool:
    """Return whether a top-level module is part of Python."""
    return name in sys.stdlib_module_names


def is_installed_path(path: Path) -> bool:
    """Return whether a path is in a folder of installed packages."""
    return not _PACKAGES.isdisjoint(path.parts)


def list_installed() -> list[str]:
    """Return the names of what says which distributions are installed, such as "numpy-2.4.6.dist-info".

    Only folders of packages are looked into: the others on the path depend on how Python was started.
    """
    folders = [folder for folder in dict.fromkeys(sys.path) if is_installed_path(Path(folder))]
    return sorted({name for names in _list_metadata_names(folders)[1:] for name in names})


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
    listing = digest_json(_list_metadata_names(sys.path))
    record = read_record(cache) if cache else None
    if record is None or record["output"] != listing:
        tops, editable = _read_all()
        record = {"output": listing, "tops": tops, "editable": editable}
        if cache:
            _write_cache(cache, record)
    return Distributions(record["tops"], record["editable"])


def _write_cache(cache: Path, record: dict[str, object]) -> None:
    try:
        write_record(cache, record)
    except OSError:
        return  # it only saves time


def _list_metadata_names(folders: Iterable[str]) -> list[list[str]]:
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
        for top in _list_top_modules(distribution):
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


def _list_top_modules(distribution: metadata.Distribution) -> set[str]:
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


_TOOL = "fftasks"
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement or type()


def find_origin(value: Any) -> str | None:
    """Return where a function, class or module is installed, "numpy 2.4.6" or "Python".

    None for what is the project's, and for what was made on the spot: its code must count. Of a function
    that wraps another one it is the wrapper's.
    """
    if isinstance(value, types.FunctionType):
        # not __module__: a wrapper has that of what it wraps, and exec gives "builtins"
        module = value.__globals__.get("__name__", "")
        return _find_origin(module.partition(".")[0], value.__code__.co_filename)
    if isinstance(value, types.ModuleType):
        name = value.__name__
    elif _is_in_its_module(value):
        name = value.__module__
    else:
        return None
    path = getattr(sys.modules.get(name), "__file__", None)
    return _find_origin(name.partition(".")[0], path)


def _find_origin(top: str, path: str | None) -> str | None:
    if top in ("__main__", "__mp_main__"):
        return None
    if top == _TOOL:
        return _TOOL
    if path is None or path.startswith("<frozen"):
        return "Python" if is_standard(top) else None
    if is_installed_path(Path(path)):
        return ", ".join(read_distributions().tops.get(top, [top]))
    return "Python" if Path(path).is_relative_to(sysconfig.get_path("stdlib")) else None


def _is_in_its_module(value: Any) -> bool:
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        return True  # compiled
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is value


_NOT_CODE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


_CODE = (".py", ".so", ".pyd")


def walk_code(root: Path) -> Iterator[Path]:
    """Yield the files of code in a folder, to any depth, but in folders of others such as environments."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _NOT_CODE
            and not name.startswith(".")
            and not Path(folder, name, "pyvenv.cfg").exists()
        )
        yield from (Path(folder, name) for name in names if name.endswith(_CODE))
