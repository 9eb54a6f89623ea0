"""See which files of the project a node's function opens, and whether to read or to write them.

Through audit events, which Python raises for all that opens files by its means; a library that opens files
in C alone is not seen. What is seen is only ever used to leave out files that nodes themselves make.

Import the file that builds a workflow, under the guard: the graph is built, and nothing starts.

The file is imported as a module, never as __main__, so that what it defines can be found by name when a
result is read. Its `if __name__ == "__main__":` block is executed only if no workflow was found without it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fftasks.api.workflow_graph import building
from fftasks.errors import WorkflowError
from fftasks.state_folder import STATE_FOLDER

if TYPE_CHECKING:
    from fftasks.api.node import Node
    from fftasks.api.workflow_graph import Workflow

NOT_THE_PROJECTS = frozenset(
    {STATE_FOLDER, ".git", "__pycache__", ".venv", "venv", "site-packages"}
)
_EVENTS = frozenset({"open", "import", "os.rename"})
_watch: Callable[[str, tuple[Any, ...]], None] | None = None
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Observed:
    """Files of the project, relative to its folder, that were opened to be read, and to be written.

    imported: whether anything may have been imported
    """

    read: set[str]
    written: set[str]
    imported: bool = False


def relate(root: Path, path: str) -> str | None:
    """Return a path relative to the project, or None for what is not the project's own."""
    relative = Path(os.path.relpath(path, root))
    if relative.parts[:1] == ("..",) or NOT_THE_PROJECTS.intersection(relative.parts):
        return None
    return relative.as_posix()


class observe_files:  # noqa: N801 - contextmanager would be more to copy for each node's process
    """Collect what this process opens, code aside."""

    def __init__(self, root: Path) -> None:
        install_hook()
        self._root, self._own = root, f"{root}{os.sep}.fftasks{os.sep}"
        self._observed = Observed(set(), set())

    def __enter__(self) -> Observed:
        global _watch
        self._before, _watch = _watch, self._note
        return self._observed

    def __exit__(self, *_error: object) -> None:
        global _watch
        _watch = self._before

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            _note(self._root, self._own, self._observed, event, arguments)


@functools.cache
def install_hook() -> None:
    """Get ready to observe; a process that does it before it forks spares its children the work."""
    # a hook cannot be taken away, only told to look elsewhere
    sys.addaudithook(lambda event, arguments: _watch and _watch(event, arguments))


def _note(root: Path, own: str, observed: Observed, event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.fsdecode(arguments[0])
        if name.endswith((".py", ".pyc")):
            observed.imported = True
        # a node's own inputs and outputs are most of what it opens
        elif not name.startswith(own) or ".." in name:
            is_written = _is_writing(arguments[1], arguments[2])
            _add(root, name, observed.written if is_written else observed.read)
    elif event == "import":
        observed.imported = True
    elif event == "os.rename":
        _add(root, os.fsdecode(arguments[1]), observed.written)


def _add(root: Path, name: str, paths: set[str]) -> None:
    path = relate(root, name)
    if path is not None:
        paths.add(path)


def _is_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)


_STOPPED = "__fftasks_stopped__"


def find_import_root(root: Path, file: str) -> Path:
    """Return the folder from which a file is imported: the first above it that is no package."""
    folder = (root / file).parent
    while (folder / "__init__.py").exists() and folder != root:
        folder = folder.parent
    return folder


def name_module(root: Path, file: str) -> str:
    """Return the dotted name under which a file of the project is imported."""
    path = (root / file).relative_to(find_import_root(root, file))
    return ".".join(path.with_suffix("").parts)


def add_import_paths(root: Path, file: str) -> None:
    """Let the file's neighbours and the project's own packages be imported.

    Where one is called as a module of Python's that is imported by now, the name goes on to mean Python's.
    """
    for folder in (str(root), str(find_import_root(root, file))):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def list_namesakes(root: Path, file: str) -> dict[str, Path]:
    """Return the project's modules that are called as one of Python's own, as far as they can be imported."""
    found = {}
    for folder in (root, find_import_root(root, file)):
        for entry in folder.iterdir() if folder.is_dir() else ():
            name = entry.stem if entry.suffix == ".py" else entry.name
            is_module = name != entry.name or (entry / "__init__.py").exists()
            if name in sys.stdlib_module_names and is_module:
                found[name] = entry
    return found


def list_hidden(root: Path, file: str) -> list[str]:
    """Return a sentence for each of these modules whose name means Python's own in this process.

    In another, which has not imported Python's, it may be the project's.
    """
    return [
        f"{path.relative_to(root).as_posix()}: `import {name}` can give Python's own {name} instead:"
        " rename it"
        for name, path in sorted(list_namesakes(root, file).items())
        if name in sys.modules and not _is_from(sys.modules[name], path)
    ]


def _is_from(module: ModuleType, path: Path) -> bool:
    return str(getattr(module, "__file__", "")).startswith(str(path))


def import_workflows(
    root: Path, file: str, name: str | None = None, *, notes: list[str] | None = None
) -> list[Workflow]:
    """Return the workflows that a file builds; if a name is given, at least the one of that name.

    root: the project's folder; file: relative to it
    notes: takes a sentence if the file goes wrong after its workflow, where results are not there yet

    Raises WorkflowError if there is none, or with the user's traceback if the file does not import.
    """
    add_import_paths(root, file)
    path = root / file
    with building() as workflows:
        module = _make_module(name_module(root, file), path)
        tree = _parse(path, file)
        main = _split_main(tree)
        _execute(tree, module, root, file, workflows)
        if not any(name in (None, workflow.name) for workflow in workflows):
            _execute(main, module, root, file, workflows)
        if notes is not None and workflows:
            notes += module.__dict__.pop(_STOPPED, [])
    if not workflows:
        raise WorkflowError(
            f"{file} builds no workflow",
            tip='write Workflow(node, name="...") at the end of it, with the nodes that you want to have',
        )
    return workflows


def find_node(workflows: list[Workflow], workflow: str | None, name: str) -> Node:
    """Return a node by its name; raise WorkflowError that lists the names there are."""
    chosen = [w for w in workflows if workflow in (None, w.name)]
    nodes = {node.name: node for w in chosen for node in w.nodes}
    if name not in nodes:
        where = f"workflow {workflow!r}" if workflow else "the workflows"
        known = ", ".join(repr(known) for known in nodes) or "none"
        raise WorkflowError(f"there is no node {name!r} in {where}", found=[f"nodes: {known}"])
    return nodes[name]


class CheckedModules:
    """Modules of the project must be what the graph record saw, or a result would be filed wrongly.

    files: path relative to the project's folder -> digest; others are not looked at
    """

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        self._expected = {str(root / file): digest for file, digest in files.items()}
        self._seen: set[str] = set()

    def check(self) -> None:
        """Raise WorkflowError if a module that was imported since the last call has changed."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file in self._expected and file not in self._seen:
                self._seen.add(file)
                digest = "sha256:" + hashlib.sha256(Path(file).read_bytes()).hexdigest()
                if digest != self._expected[file]:
                    raise WorkflowError(f"{file} was edited while the run went on", tip="run again")


def _make_module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise WorkflowError(f"{path} is no Python file")
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module


def _parse(path: Path, file: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except FileNotFoundError:
        raise WorkflowError(
            f"{file} does not exist", tip="look at `workflows:` in config/"
        ) from None
    except SyntaxError as error:
        shown = traceback.format_exception_only(type(error), error)
        raise WorkflowError(f"{file} cannot be imported", found=["".join(shown)]) from None


def _split_main(tree: ast.Module) -> ast.Module:
    """Take the `if __name__ == "__main__":` blocks out of a module, and return what is in them."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and _is_main(node.test)]
    tree.body = [node for node in tree.body if node not in blocks]
    return ast.Module([statement for block in blocks for statement in block.body], type_ignores=[])


def _is_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.Eq)
        and {ast.unparse(test.left), ast.unparse(test.comparators[0])} == {"__name__", "'__main__'"}
    )


def _execute(
    tree: ast.Module, module: ModuleType, root: Path, file: str, workflows: list[Workflow]
) -> None:
    path = str(module.__file__)
    arguments, sys.argv = sys.argv, [path]
    try:
        # dont_inherit: else the __future__ imports of this module would hold in the user's file
        code = compile(tree, path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - this is what importing does
    except WorkflowError:
        raise
    except (Exception, SystemExit) as error:
        if workflows:  # what follows a .run() works with results that are not there yet
            module.__dict__[_STOPPED] = [f"{file} stopped after its workflow: {error!r}"]
            return
        del sys.modules[module.__name__]
        raise WorkflowError(
            f"{file} cannot be imported",
            found=[_format_user_traceback(error)],
            tip="; ".join(_list_tips(root, file, error)),
        ) from error
    finally:
        sys.argv = arguments


def _list_tips(root: Path, file: str, error: BaseException) -> Iterator[str]:
    if not isinstance(error, (ImportError, AttributeError)):
        return
    hidden = list_hidden(root, file)
    yield from hidden
    if isinstance(error, ModuleNotFoundError) and error.name and not hidden:
        package = error.name.partition(".")[0]
        if package not in sys.modules:  # else it is there, and lacks a module of that name
            yield (
                f"if {package} is a package: pip install it for this Python, and name it in"
                " requirements.txt, for the image; if it is a file of yours: look at its name"
            )


def _format_user_traceback(error: BaseException) -> str:
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
