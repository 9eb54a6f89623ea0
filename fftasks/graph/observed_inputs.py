"""Trace what the workflow file reads while it is imported, and digest these inputs of the graph record."""

from __future__ import annotations

import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.api.names import make_slug
from fftasks.cache.stat_cache import StatCache
from fftasks.codehash.code_origin import list_installed, walk_code
from fftasks.records import digest_json
from fftasks.runner.source import NON_PROJECT_FOLDERS, import_workflows, make_project_relative

if TYPE_CHECKING:
    from fftasks.codehash.source_tree import SourceTree

_PATHLIB_MODULES = ("pathlib", "pathlib._local", "pathlib._abc")
_EVENTS = {"open": "file", "os.listdir": "folder", "os.scandir": "folder"}
# functions that check whether a path exists, and the modules that they are defined in
_EXISTENCE_CHECKS = ("exists", "lexists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink",
           "realpath")  # fmt: skip
_EXISTENCE_MODULES = ("genericpath", "posixpath", *_PATHLIB_MODULES)


@contextmanager
def trace_import(root: Path, variables: dict[str, str] | None = None) -> Iterator[set[str]]:
    """Collect the reads of project files and environment variables in a with block, as names of graph inputs.

    Files and folder listings are traced by audit events, which C code raises, too, also for files that do not
    exist. Environment variables are traced only if code of the project reads them.

    Args:
        root: Folder of the project.
        variables: Mapping that receives the values of the variables that are read, by name.

    Yields:
        The names, see read_graph_inputs; the set grows during the block.
    """
    names: set[str] = set()
    active = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event in _EVENTS and isinstance(arguments[0], (str, bytes, os.PathLike)):
            _note_read(root, event, arguments, names)

    sys.addaudithook(watch)  # an audit hook cannot be removed, only deactivated
    kind = type(os.environ)
    os.environ.__class__ = _trace_environment(root, names, {} if variables is None else variables)
    asks = os.stat, os.lstat
    os.stat, os.lstat = (_trace_stat(root, ask, names) for ask in asks)
    importlib.invalidate_caches()  # otherwise Python uses its cached listing of the project's folder
    try:
        yield names
    finally:
        active = False
        os.environ.__class__ = kind
        os.stat, os.lstat = asks


def list_imported_files(root: Path) -> set[str]:
    """Return the project's files that are imported in this process, as names of graph inputs."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    found = (make_project_relative(root, file) for file in files if isinstance(file, str))
    return {f"file:{path}" for path in found if path is not None}


def list_module_lookups(project: SourceTree) -> set[str]:
    """Return the paths at which code of a project was searched for, as names of graph inputs."""
    kinds = {"modules": project.listed, "tree": project.walked, "there": project.asked}
    pairs = (
        (kind, make_project_relative(project.root, str(p)))
        for kind, paths in kinds.items()
        for p in paths
    )
    return {f"{kind}:{name}" for kind, name in pairs if name is not None}


def list_importable(folder: Path) -> list[str]:
    """Return the names of the modules and packages in a folder."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_importable(entry))


def _is_importable(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name in NON_PROJECT_FOLDERS:
        return False
    if entry.is_dir():
        with os.scandir(entry.path) as inner:  # a package's code may be in packages below it
            return any(child.name.endswith(".py") or child.is_dir() for child in inner)
    return entry.name.endswith((".py", ".so"))


def _note_read(root: Path, event: str, arguments: tuple[Any, ...], names: set[str]) -> None:
    mode = arguments[1] if event == "open" else None
    path = make_project_relative(root, os.fsdecode(arguments[0]))
    if path is None or (isinstance(mode, str) and "r" not in mode):
        return
    kind = _EVENTS[event]
    if kind == "folder":
        # Python lists the folders that it imports from; only importable names in them count
        caller = sys._getframe(2).f_globals.get("__name__", "")
        names.add(f"{'modules' if 'importlib' in caller else 'folder'}:{path}")
    elif not (root / path).is_dir():
        is_text = path.endswith(".py") and not _is_import()
        names.add(f"{'text' if is_text else 'file'}:{path}")


def _is_import() -> bool:
    """Return whether a code file is opened by the import system, not read by code of the user."""
    frame = sys._getframe(3)
    while frame.f_back and frame.f_globals.get("__name__") in _PATHLIB_MODULES:
        frame = frame.f_back
    caller = frame.f_globals.get("__name__", "")
    return "importlib" in caller or caller == import_workflows.__module__


def _trace_stat(
    root: Path, ask: Callable[..., os.stat_result], names: set[str]
) -> Callable[..., os.stat_result]:
    """Wrap os.stat or os.lstat to record whether a path was checked for existence or its data were used."""

    @wraps(ask)
    def watched(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        is_named = isinstance(path, str | bytes | os.PathLike) and options.get("dir_fd") is None
        name = make_project_relative(root, os.fsdecode(path)) if is_named else None
        if name is None:
            return ask(path, *arguments, **options)
        names.add(f"there:{name}")
        found = ask(path, *arguments, **options)
        if stat.S_ISREG(found.st_mode) and not _is_existence_check():
            names.add(f"file:{name}")
        return found

    return watched


def _is_existence_check() -> bool:
    """Return whether stat() is called to check that a path exists, not for its size or time."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__") in _EXISTENCE_MODULES:
        if frame.f_code.co_name in _EXISTENCE_CHECKS:
            return True
        frame = frame.f_back
    return False


def _trace_environment(
    root: Path, names: set[str], variables: dict[str, str]
) -> type[os._Environ[str]]:
    folder = f"{root}{os.sep}"

    class Watched(os._Environ):  # type: ignore[type-arg]
        def __getitem__(self, key: str) -> str:
            frame = sys._getframe(1)
            while frame.f_back and frame.f_globals.get("__name__") in ("os", "collections.abc"):
                frame = frame.f_back
            file = frame.f_code.co_filename
            is_own = file.startswith(folder) and make_project_relative(root, file) is not None
            if is_own:
                names.add(f"env:{key}")
            value = str(super().__getitem__(key))
            if is_own:
                variables[key] = value
            return value

    return Watched


@dataclass(frozen=True)
class GraphFile:
    """A workflow file and the location of its graph record.

    Attributes:
        root: Folder of the project.
        file: Path of the workflow file, relative to the folder.
        folder: The state folder.
    """

    root: Path
    file: str
    folder: Path

    @property
    def path(self) -> Path:
        """Path of the graph record."""
        return self.folder / "graph" / f"{make_slug(self.file)}.json"


def read_graph_inputs(source: GraphFile, names: list[str]) -> dict[str, str | None]:
    """Return the current values of inputs of a graph record; None for an input that does not exist.

    name             value
    file:sums.py     digest of the file, relative to the project's folder
    text:sums.py     the same for a code file that code of the user reads as text
    folder:data      digest of the names in a folder
    modules:.        digest of the names of the modules and packages in a folder
    tree:.           digest of the names of all files of code in a folder, to any depth
    there:data       kind of a path: file or folder
    env:ALPHA        digest of the value of a variable, because the value may be a secret
    installed        digest of the names of all installed distributions, with their versions
    python           version of the interpreter
    """
    signatures = StatCache(source.folder / "graph" / "files.signatures")
    return {name: _read_input(source.root, name, signatures) for name in names}


def _read_input(root: Path, name: str, signatures: StatCache) -> str | None:
    kind, _, rest = name.partition(":")
    if kind == "installed":
        return digest_json(list_installed())
    if kind == "python":
        return _PYTHON
    try:
        if kind in ("file", "text"):
            return signatures.digest(root / rest)
        return digest_json(os.environ[rest]) if kind == "env" else _LOOKUPS[kind](root / rest)
    except (OSError, KeyError):
        return None


def _digest_names(folder: Path) -> str:
    return digest_json(sorted(path.name for path in folder.iterdir()))


def _digest_importable(folder: Path) -> str:
    return digest_json(list_importable(folder))


def _digest_tree(folder: Path) -> str:
    return digest_json(sorted(os.path.relpath(path, folder) for path in walk_code(folder)))


def _read_path_kind(path: Path) -> str:
    return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"


_PYTHON = sys.version.split()[0]
_LOOKUPS = {
    "folder": _digest_names,
    "modules": _digest_importable,
    "tree": _digest_tree,
    "there": _read_path_kind,
}
