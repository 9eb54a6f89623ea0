"""Import the user's files that build workflows, observe which files a node opens, and show user tracebacks.

A user's file is imported as a module, never as __main__, so that pickle finds its definitions by name when a
result is read. Its `if __name__ == "__main__":` block is executed only if the rest builds no workflow.

Opened files are observed by audit events, which Python raises whenever Python code opens a file. A library
that opens files in C is not seen. The observed files serve only to exclude files that the nodes themselves
write from the project's files.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from fftasks.api.workflow_graph import collecting_workflows
from fftasks.errors import WorkflowError
from fftasks.state_folder import STATE_FOLDER

if TYPE_CHECKING:
    from fftasks.api.node import Node
    from fftasks.api.workflow_graph import Workflow

NON_PROJECT_FOLDERS = frozenset(
    {STATE_FOLDER, ".git", "__pycache__", ".venv", "venv", "site-packages"}
)
_EVENTS = frozenset({"open", "import", "os.rename"})
_active_tracer: Callable[[str, tuple[Any, ...]], None] | None = None
# parent folder of all code of ours; not resolved, because the file names in code objects are not either
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_STOPPED = (
    "__fftasks_stopped__"  # temporary global of a user's module that stopped after its workflow
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class TracedFiles:
    """Files of the project that a node has opened, relative to the project's folder.

    Attributes:
        read: Files that were opened for reading.
        written: Files that were opened for writing, or were the target of a rename.
        imported: Whether a module may have been imported.
    """

    read: set[str]
    written: set[str]
    imported: bool = False


def make_project_relative(root: Path, path: str) -> str | None:
    """Return a path relative to the project; None for a path outside of it, or in an excluded folder."""
    relative = Path(os.path.relpath(path, root))
    if relative.parts[:1] == ("..",) or NON_PROJECT_FOLDERS.intersection(relative.parts):
        return None
    return relative.as_posix()


class trace_files:  # noqa: N801 - contextlib.contextmanager would cost each node's process more time
    """Context manager that collects the files that this process opens, except Python modules."""

    def __init__(self, root: Path) -> None:
        install_hook()
        self._root, self._own = root, f"{root}{os.sep}.fftasks{os.sep}"
        self._observed = TracedFiles(set(), set())

    def __enter__(self) -> TracedFiles:
        global _active_tracer
        self._before, _active_tracer = _active_tracer, self._handle_event
        return self._observed

    def __exit__(self, *_error: object) -> None:
        global _active_tracer
        _active_tracer = self._before

    def _handle_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        observed = self._observed
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            name = os.fsdecode(arguments[0])
            if name.endswith((".py", ".pyc")):
                observed.imported = True
            # most files that a node opens are its own inputs and outputs
            elif not name.startswith(self._own) or ".." in name:
                is_written = _is_writing(arguments[1], arguments[2])
                self._add(name, observed.written if is_written else observed.read)
        elif event == "import":
            observed.imported = True
        elif event == "os.rename":
            self._add(os.fsdecode(arguments[1]), observed.written)

    def _add(self, name: str, paths: set[str]) -> None:
        path = make_project_relative(self._root, name)
        if path is not None:
            paths.add(path)


@functools.cache
def install_hook() -> None:
    """Install the audit hook of this process; a worker does it before it forks, to save its children time."""
    # a hook cannot be removed, so it calls the current observer, if there is one
    sys.addaudithook(lambda event, arguments: _active_tracer and _active_tracer(event, arguments))


def _is_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)


def find_import_root(root: Path, file: str) -> Path:
    """Return the folder from which a file is imported: the nearest parent folder that is not a package."""
    folder = (root / file).parent
    while (folder / "__init__.py").exists() and folder != root:
        folder = folder.parent
    return folder


def name_module(root: Path, file: str) -> str:
    """Return the dotted name under which a file of the project is imported."""
    path = (root / file).relative_to(find_import_root(root, file))
    return ".".join(path.with_suffix("").parts)


def add_import_paths(root: Path, file: str) -> None:
    """Add the project's folder and the import root of a file to sys.path.

    A name that a module of the standard library has, and that is imported already, continues to mean that
    module.

    Args:
        root: The project's folder.
        file: A file of the project, relative to it.
    """
    for folder in (str(root), str(find_import_root(root, file))):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def list_same_named_modules(root: Path, file: str) -> dict[str, Path]:
    """Return the project's importable modules that have the name of a standard library module."""
    found = {}
    for folder in (root, find_import_root(root, file)):
        for entry in folder.iterdir() if folder.is_dir() else ():
            name = entry.stem if entry.suffix == ".py" else entry.name
            is_module = name != entry.name or (entry / "__init__.py").exists()
            if name in sys.stdlib_module_names and is_module:
                found[name] = entry
    return found


def list_shadowed_modules(root: Path, file: str) -> list[str]:
    """Return a message for each module of the project that a standard library module hides in this process.

    In a process that has not imported the standard library module, the name may mean the project's module.
    """
    return [
        f"{path.relative_to(root).as_posix()}: `import {name}` can give Python's own {name} instead:"
        " rename it"
        for name, path in sorted(list_same_named_modules(root, file).items())
        if name in sys.modules
        and not str(getattr(sys.modules[name], "__file__", "")).startswith(str(path))
    ]


def import_workflows(
    root: Path, file: str, name: str | None = None, *, notes: list[str] | None = None
) -> list[Workflow]:
    """Import a file and return the workflows that it builds, without running anything.

    Args:
        root: The project's folder.
        file: The file, relative to it.
        name: Name of a workflow. If the file builds it only in its `if __name__ == "__main__":` block, the
            block is executed too. None accepts any workflow.
        notes: List that gets a message if the file raises an error after its workflow, for example because it
            uses results, which do not exist yet.

    Returns:
        All workflows of the file.

    Raises:
        WorkflowError: The file does not exist, cannot be imported (with the user's traceback), or builds no
            workflow.
    """
    add_import_paths(root, file)
    path = root / file
    with collecting_workflows() as workflows:
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
            tip='write Workflow(node, name="...") at its end, with the nodes whose results you want',
        )
    return workflows


def find_node(workflows: list[Workflow], workflow: str | None, name: str) -> Node:
    """Return a node by its name.

    Args:
        workflows: The workflows to search.
        workflow: Name of the workflow; None for any.
        name: Name of the node.

    Raises:
        WorkflowError: The node was not found. The error lists the existing names.
    """
    chosen = [w for w in workflows if workflow in (None, w.name)]
    nodes = {node.name: node for w in chosen for node in w.nodes}
    if name not in nodes:
        where = f"workflow {workflow!r}" if workflow else "the workflows"
        known = ", ".join(repr(known) for known in nodes) or "none"
        raise WorkflowError(f"there is no node {name!r} in {where}", found=[f"nodes: {known}"])
    return nodes[name]


class CheckedModules:
    """Check that imported modules of the project have not changed since the graph record was made.

    Otherwise the result would be stored under the fingerprint of other code.

    Args:
        root: The project's folder.
        files: Path relative to it -> expected digest. Other files are not checked.

    Attributes:
        root: The project's folder.
    """

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        self._expected = {str(root / file): digest for file, digest in files.items()}
        self._seen: set[str] = set()

    def check(self) -> None:
        """Check the modules imported since the last call; raise WorkflowError if one has changed."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file in self._expected and file not in self._seen:
                self._seen.add(file)
                digest = "sha256:" + hashlib.sha256(Path(file).read_bytes()).hexdigest()
                if digest != self._expected[file]:
                    raise WorkflowError(f"{file} was edited during the run", tip="run again")


def _make_module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise WorkflowError(f"{path} is not a Python file")
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module


def _parse(path: Path, file: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except FileNotFoundError:
        raise WorkflowError(f"{file} does not exist", tip="check `workflows:` in config/") from None
    except SyntaxError as error:
        shown = traceback.format_exception_only(type(error), error)
        raise WorkflowError(f"{file} cannot be imported", found=["".join(shown)]) from None


def _split_main(tree: ast.Module) -> ast.Module:
    """Remove the `if __name__ == "__main__":` blocks from a module; return their statements as a module."""
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
    """Execute a part of the user's file in its module; raise WorkflowError if it fails before a workflow."""
    path = str(module.__file__)
    arguments, sys.argv = sys.argv, [path]
    try:
        # dont_inherit: else the __future__ imports of this module would hold in the user's file
        code = compile(tree, path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - this is what importing does
    except WorkflowError:
        raise
    except (Exception, SystemExit) as error:
        if workflows:  # code after a .run() uses results that do not exist yet
            module.__dict__[_STOPPED] = [f"{file} stopped after its workflow: {error!r}"]
            return
        del sys.modules[module.__name__]
        raise WorkflowError(
            f"{file} cannot be imported",
            found=[format_user_traceback(error)],
            tip="; ".join(_list_import_hints(root, file, error)),
        ) from error
    finally:
        sys.argv = arguments


def _list_import_hints(root: Path, file: str, error: BaseException) -> list[str]:
    """Return suggested fixes for an error that may come from a missing or a hidden module."""
    if not isinstance(error, (ImportError, AttributeError)):
        return []
    hidden = list_shadowed_modules(root, file)
    if isinstance(error, ModuleNotFoundError) and error.name and not hidden:
        package = error.name.partition(".")[0]
        if package not in sys.modules:  # otherwise the package exists and lacks that module
            tip = (
                f"if {package} is a package: pip install it for this Python, and name it in"
                " requirements.txt, for the image; if it is a file of yours: look at its name"
            )
            return [tip]
    return hidden


def format_user_traceback(error: BaseException) -> str:
    """Return the traceback of an error of the user's code, without the frames of fftasks that called it.

    Removed are frames before the user's code, and those between two functions of the user, such as the
    wrapper of @workflow. Frames of fftasks that the user's code called last are shown: they raised the error.
    """
    shown = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    waiting: list[Any] = [shown]
    while waiting:
        one = waiting.pop()
        frames = list(one.stack)
        is_ours = [frame.filename.startswith(_PACKAGE) for frame in frames]
        last = max((n for n, ours in enumerate(is_ours) if not ours), default=-1)
        one.stack[:] = [f for n, f in enumerate(frames) if n > last or not is_ours[n]]
        causes = (one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ()))
        waiting += [cause for cause in causes if cause is not None]
    return "".join(shown.format()).rstrip()


def find_user_traceback(error: BaseException) -> TracebackType | None:
    """Return the part of an error's traceback that begins in the user's code; all of it if there is none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace or error.__traceback__
