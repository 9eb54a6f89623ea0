"""The files of a project, and what an import in one of them leads to."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from fftasks.codehash.code_origin import (
    Distributions,
    is_installed_path,
    is_standard,
    read_distributions,
    walk_code,
)
from fftasks.codehash.known_calls import TOOLS
from fftasks.codehash.module_analysis import (
    Analysis,
    CodeUnit,
    analyse,
    drop_empty_fields,
    number_names,
    restore_empty_fields,
)
from fftasks.records import digest_bytes, read_state_file, write_state_file


@dataclass(frozen=True)
class ModuleLocation:
    """What a module's name leads to.

    kind: "module" (a file), "package" (its __init__.py), "namespace" (folders), "binary" (a compiled
        file), "external" (not the project's), "missing"
    """

    kind: str
    name: str
    path: Path = Path()
    folders: tuple[Path, ...] = ()


class SourceFile:
    """A Python file of the project.

    label: its path relative to the project's folder; names: name -> numbers of the units that bind it
    """

    def __init__(self, label: str, path: Path, source: bytes, analysis: Analysis) -> None:
        self.label = label
        self.path = path
        self.digest = digest_bytes(source)
        self.error = analysis["error"]
        self.units: list[CodeUnit] = analysis["units"]
        self.stars = analysis["stars"]
        self.shared = analysis["shared"]
        self.typing = frozenset(analysis["typing"])
        self.names = number_names(self.units)

    @property
    def folder(self) -> Path:
        """The folder from which its relative imports start."""
        return self.path.parent


class SourceTree:
    """A snapshot of a project: files are read when first needed, and then not again.

    root: the project's folder
    roots: the folders from which its modules are imported, the first first
    cache: folder in which analyses of files are kept by the digest of their text; None for nowhere
    path: further folders that are searched for modules, as in sys.path
    further: those of them, and of editable installations, that are not Python's own

    surroundings: what importing a set of files does, worked out once by whoever asks for it
    walked: folders in which files were looked for, to any depth
    asked: files that were looked for by their path
    """

    def __init__(
        self,
        root: Path,
        roots: Iterable[Path],
        cache: Path | None = None,
        path: Iterable[str] | None = None,
    ) -> None:
        self.root = root.resolve()
        self.cache = cache / f"python3.{sys.version_info.minor}" if cache else None
        self._path = list(sys.path if path is None else path)
        own = [folder.resolve() for folder in roots]
        self._own = list(dict.fromkeys([*own, self.root]))
        self.further = list(self._list_further())
        self.roots = list(dict.fromkeys([*(own or self._own), *self.further]))
        self.surroundings: dict[tuple[object, ...], Any] = {}
        self._files: dict[Path, SourceFile | None] = {}
        self.walked: set[Path] = set()
        self.asked: set[Path] = set()
        self._entries: dict[Path, dict[str, bool]] = {}
        self._binaries: dict[Path, dict[str, str]] = {}
        self._tops: dict[tuple[str, bool], tuple[ModuleLocation, ...]] = {}
        self._subs: dict[tuple[ModuleLocation, str], ModuleLocation | None] = {}

    @cached_property
    def distributions(self) -> Distributions:
        """Names of installed modules."""
        return read_distributions(self.cache / "distributions.json" if self.cache else None)

    @property
    def listed(self) -> set[Path]:
        """The folders in which modules were looked for."""
        return set(self._entries)

    def label(self, path: Path) -> str:
        """Return the name under which a file is known: relative to the project's folder."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def load(self, path: Path) -> SourceFile | None:
        """Return a file, analysed; None if it cannot be read."""
        if path not in self._files:
            try:
                source = path.read_bytes()
            except OSError:
                self._files[path] = None
            else:
                analysis = self._analyse(source)
                self._files[path] = SourceFile(self.label(path), path, source, analysis)
        return self._files[path]

    def find_import(
        self, file: SourceFile, level: int, module: str, *, wild: bool
    ) -> list[tuple[ModuleLocation, ...]]:
        """Return what importing a module executes: for each part of its name the places it leads to.

        level: leading dots; module: dotted name, "" for the package itself
        wild: whether modules may also be anywhere in the project, since something changes sys.path
        """
        parts = [part for part in module.split(".") if part]
        if level:
            folder = file.folder
            for _ in range(level - 1):
                folder = folder.parent
            steps: list[tuple[ModuleLocation, ...]] = [(self._find_package(folder),)]
        elif parts:
            steps = [self.find_top(parts.pop(0), wild=wild)]
        else:
            return []
        for part in parts:
            found = (self.find_sub(place, part) for place in steps[-1])
            steps.append(tuple(place for place in found if place))
        return steps

    def find_top(self, name: str, *, wild: bool) -> tuple[ModuleLocation, ...]:
        """Return the places that a top-level module's name may lead to; at least one."""
        key = name, wild
        if key not in self._tops:
            self._tops[key] = tuple(self._find_top(name, wild=wild))
        return self._tops[key]

    def find_sub(self, place: ModuleLocation, name: str) -> ModuleLocation | None:
        """Return the module of a name in a package, or None."""
        key = place, name
        if key not in self._subs:
            self._subs[key] = self._find_sub(place, name)
        return self._subs[key]

    def find_packages_above(self, path: Path) -> list[Path]:
        """Return the __init__.py files that importing a file executes before it, outermost first."""
        found = []
        folder = path.parent
        while "__init__.py" in self._list_folder(folder) and folder != folder.parent:
            found.append(folder / "__init__.py")
            folder = folder.parent
        return [init for init in reversed(found) if init != path]

    def has_file(self, path: Path) -> bool:
        """Return whether a file is there."""
        self.asked.add(path)
        return path.is_file()

    def list_python_files(self, folders: Iterable[Path] = ()) -> list[Path]:
        """Return all Python files below folders (default: the project's own)."""
        roots = list(folders) or self._own
        self.walked.update(roots)
        return sorted({path for root in roots for path in walk_code(root) if path.suffix == ".py"})

    def _analyse(self, source: bytes) -> Analysis:
        kept = self.cache / f"{digest_bytes(source)[7:]}.json" if self.cache else None
        if kept:
            try:
                return restore_empty_fields(cast("Analysis", read_state_file(kept) or {}))
            except (KeyError, TypeError, AttributeError):
                pass  # missing, or in an older format: analysed again
        analysis = analyse(source)
        if kept:
            with suppress(OSError):  # it only saves time
                write_state_file(kept, drop_empty_fields(analysis))
        return analysis

    def _list_further(self) -> Iterator[Path]:
        """Yield folders outside of Python and its installed packages from which modules are imported."""
        for entry in (*self._path, *self.distributions.editable):
            folder = Path(entry).resolve()
            is_python = any(folder.is_relative_to(part) for part in _list_python_folders())
            if entry and not is_python and not is_installed_path(folder) and folder.is_dir():
                yield folder

    def _find_top(self, name: str, *, wild: bool) -> Iterator[ModuleLocation]:
        if name in TOOLS:
            yield ModuleLocation("external", name)
            return
        spaces = []
        for root in self.roots:
            place = self._find_in(root, name, name)
            if place and place.kind == "namespace":
                spaces.append(root / name)
            elif place:
                yield place
                break
        else:
            yield from self._find_outside(name, tuple(spaces), wild=wild)
            return
        if wild:
            yield from self._find_anywhere(name)

    def _find_outside(
        self, name: str, spaces: tuple[Path, ...], *, wild: bool
    ) -> Iterator[ModuleLocation]:
        if is_standard(name) or name in self.distributions.tops:
            yield ModuleLocation("external", name)
            if wild:
                yield from self._find_anywhere(name)
        elif spaces:
            yield ModuleLocation("namespace", name, folders=spaces)
        else:
            yield from list(self._find_anywhere(name)) or [ModuleLocation("missing", name)]

    def _find_anywhere(self, name: str) -> Iterator[ModuleLocation]:
        """Yield modules of that name in any folder of the project: sys.path may be anything when it runs."""
        for folder in self._places.get(name, ()):
            place = self._find_in(folder, name, name)
            if place and place.kind != "namespace":
                yield place

    @cached_property
    def _places(self) -> dict[str, list[Path]]:
        places: dict[str, list[Path]] = {}
        self.walked.add(self.root)
        for path in sorted(walk_code(self.root)):
            if path.name == "__init__.py":
                places.setdefault(path.parent.name, []).append(path.parent.parent)
            else:
                places.setdefault(path.name.partition(".")[0], []).append(path.parent)
        return places

    def _find_package(self, folder: Path) -> ModuleLocation:
        if "__init__.py" in self._list_folder(folder):
            return ModuleLocation("package", folder.name, folder / "__init__.py", (folder,))
        return ModuleLocation("namespace", folder.name, folders=(folder,))

    def _find_sub(self, place: ModuleLocation, name: str) -> ModuleLocation | None:
        dotted = f"{place.name}.{name}"
        if place.kind in ("external", "missing"):
            return ModuleLocation(place.kind, dotted)
        spaces: list[Path] = []
        for folder in place.folders:
            found = self._find_in(folder, name, dotted)
            if found and found.kind != "namespace":
                return found
            if found:
                spaces += found.folders
        return ModuleLocation("namespace", dotted, folders=tuple(spaces)) if spaces else None

    def _find_in(self, folder: Path, name: str, dotted: str) -> ModuleLocation | None:
        entries = self._list_folder(folder)
        inner = folder / name
        if entries.get(name) and "__init__.py" in self._list_folder(inner):
            return ModuleLocation("package", dotted, inner / "__init__.py", (inner,))
        if name in self._binaries.get(folder, ()):
            return ModuleLocation("binary", dotted, folder / self._binaries[folder][name])
        if f"{name}.py" in entries:
            return ModuleLocation("module", dotted, folder / f"{name}.py")
        return ModuleLocation("namespace", dotted, folders=(inner,)) if entries.get(name) else None

    def _list_folder(self, folder: Path) -> dict[str, bool]:
        """Return the names in a folder, and whether each is a folder itself."""
        if folder not in self._entries:
            try:
                with os.scandir(folder) as entries:
                    self._entries[folder] = {entry.name: entry.is_dir() for entry in entries}
            except OSError:
                self._entries[folder] = {}
            compiled = [e for e in self._entries[folder] if e.endswith((".so", ".pyd", ".pyc"))]
            if compiled:
                self._binaries[folder] = {entry.partition(".")[0]: entry for entry in compiled}
        return self._entries[folder]


@lru_cache(maxsize=1)
def _list_python_folders() -> list[Path]:
    """Return the folders of Python's own modules and programs."""
    names = ("stdlib", "platstdlib", "scripts")
    return [Path(sysconfig.get_path(name)).resolve() for name in names]
