"""Digest the code of nodes: their source code, and the state of functions that their source does not show."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from fftasks.api.node import CallNode, Node
from fftasks.api.plugin import bind_plugin
from fftasks.codehash.dependencies import (
    CodeDependencies,
    digest_without_source,
    find_dependencies,
    make_dependencies,
)
from fftasks.codehash.python_values import describe_constant, digest_constant, digest_function_state
from fftasks.codehash.source_tree import SourceTree
from fftasks.errors import WorkflowError
from fftasks.records import digest_json
from fftasks.runner.source import find_import_root
from fftasks.state_folder import STATE_FOLDER

_BOUND_ONCE = (["function"], ["class"])  # how often a name is bound, and by what


class CodeDigester:
    """Digests the code of nodes; each function is analysed once.

    Attributes:
        root: Folder of the project.
        pieces: Digest of code -> its parts with their digests.
        files: Project files that were read.
        notes: Reasons why code counts that a function does not name.
        is_source_only: Whether all digests depend only on source files, not on values of functions.
        project: Source files of the project.
    """

    def __init__(self, root: Path, file: str | None) -> None:
        roots = [root] if file is None else [find_import_root(root, file), root]
        cache = Path(os.environ.get("FFTASKS_FOLDER", root / STATE_FOLDER)) / "closures"
        self.root = root.resolve()
        self.notes: dict[str, None] = {}
        self.pieces: dict[str, dict[str, str]] = {}
        self.files: set[str] = set()
        self.is_source_only = True
        self.project = SourceTree(root, roots, cache)
        self._entry = file
        self._digests: dict[tuple[int, str], str] = {}
        self._alive: list[Callable[..., Any]] = []
        self._relative: dict[str, str | None] = {}

    def digest(self, node: Node) -> str:
        """Return the digest of the code that a node and its plugin need."""
        if node.plugin is not None:
            return self._add_plugin(node, self._digest_callee(node))
        return self._digest_callee(node)

    def _digest_callee(self, node: Node) -> str:
        if isinstance(node, CallNode):  # a method can use the whole class
            return self.digest_function(node.object.func)
        return self.digest_function(node.func)

    def digest_function(self, func: Callable[..., Any]) -> str:
        """Return the digest of the code that a function or class needs."""
        func = getattr(func, "func", func) if inspect.isfunction(func) else func
        key = id(func), getattr(func, "__qualname__", "")
        if key not in self._digests:
            self._alive.append(func)  # keeps it alive, so that its id is not reused
            closure = self._find(func)
            self._digests[key] = closure.digest  # for a function whose closure contains itself
            if not closure.files:
                self.is_source_only = False
            elif not self._is_written(func):
                self.is_source_only = False
                closure = self._add_function_state(func, closure)
            self._digests[key] = closure.digest
            self.pieces[closure.digest] = dict(closure.pieces)
            self.files |= set(closure.files)
            self.notes |= dict.fromkeys(closure.notes)
        return self._digests[key]

    def digest_function_in_value(self, func: Callable[..., Any]) -> str:
        """Return the digest of the code of a function or class that is part of a value."""
        self.is_source_only = False
        return self.digest_function(func)

    def _is_written(self, func: Callable[..., Any]) -> bool:
        """Return whether the source file alone determines a function or class and its wrappers.

        This is not the case for a function that another function or a loop creates, or whose name is defined
        twice: one source text then creates several functions with different values.
        """
        base = inspect.unwrap(func)
        if inspect.ismethod(base):
            return False
        source = self.project.load(self.root / (self._find_file(base) or ""))
        numbers = source.names.get(base.__qualname__, ()) if source else ()
        if source is None or [source.units[n]["kind"] for n in numbers] not in _BOUND_ONCE:
            return False
        if func is base:
            return True
        named = base.__globals__.get(base.__qualname__)
        return func is named or func is getattr(named, "func", None)

    def _add_function_state(
        self, func: Callable[..., Any], closure: CodeDependencies
    ) -> CodeDependencies:
        """Add the code of the wrappers of a function, and the values in its closure, to its dependencies."""
        parts = [closure, *map(self._find_wrapper, _list_wrappers(func))]
        digest, stable = digest_function_state(func, code_of=self.digest_function_in_value)
        name = f"{self._find_file(inspect.unwrap(func))}: {func.__qualname__}()"
        notes = {note for part in parts for note in part.notes}
        if not stable:
            notes.add(f"{name} keeps a value that has no stable digest: only its type counts")
        pieces = {name: digest for part in parts for name, digest in part.pieces.items()}
        files = {name: digest for part in parts for name, digest in part.files.items()}
        return make_dependencies(
            {**pieces, f"{name}, with what it was made of": digest}, files, [*notes]
        )

    def _find_wrapper(self, wrapper: FunctionType) -> CodeDependencies:
        # the name of a wrapper is that of the wrapped function
        file = self.relate(Path(wrapper.__code__.co_filename))
        if file is None:
            return digest_without_source(wrapper)
        line = wrapper.__code__.co_firstlineno
        return find_dependencies(self.project, file, "", entry=self._entry, line=line)

    def _add_plugin(self, node: Node, code: str) -> str:
        self.is_source_only = False
        # bound to the node, because a plugin that seeds by name gives each node other results
        bound = bind_plugin(node.plugin, node.name)
        digest, stable = digest_constant(bound, code_of=self.digest_function_in_value)
        if not stable:
            raise WorkflowError(
                f"the plugin of node {node.name!r} looks different in each process",
                found=[describe_constant(bound)],
                tip="give it plain data and functions, and open files and connections when it is called",
            )
        whole = digest_json([code, digest])
        self.pieces[whole] = {**self.pieces[code], f"plugin {type(bound).__qualname__}": digest}
        return whole

    def locate(self, node: Node) -> dict[str, Any]:
        """Return where a node's function is: module, qualname, file and line."""
        func = inspect.unwrap(node.func)
        file = self._find_file(func)
        return {
            "module": getattr(func, "__module__", "") or "",
            "qualname": node.qualname,
            "file": file or "",
            "line": getattr(getattr(func, "__code__", None), "co_firstlineno", 0),
        }

    def _find(self, func: Callable[..., Any]) -> CodeDependencies:
        func = inspect.unwrap(func)
        file = self._find_file(func)
        if file is None:
            return digest_without_source(func)
        line = getattr(getattr(func, "__code__", None), "co_firstlineno", 0)
        return find_dependencies(
            self.project, file, func.__qualname__, entry=self._entry, line=line
        )

    def _find_file(self, func: Callable[..., Any]) -> str | None:
        try:
            source = inspect.getsourcefile(func) or ""
        except TypeError:
            return None
        if source not in self._relative:
            self._relative[source] = self.relate(Path(source))
        return self._relative[source]

    def relate(self, path: Path) -> str | None:
        """Return a file's path relative to the project's folder; None for a file elsewhere."""
        if path.is_file() and path.resolve().is_relative_to(self.root):
            return path.resolve().relative_to(self.root).as_posix()
        return None


def _list_wrappers(func: Any) -> Iterator[FunctionType]:
    while hasattr(func, "__wrapped__"):
        if isinstance(func, FunctionType):
            yield func
        func = func.__wrapped__
