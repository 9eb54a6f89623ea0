"""Which modules of this package a container needs to run a node, and the digest of what they do."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from fftasks.image.layers import LayerEntry, make_file_entry
from fftasks.records import digest_json, read_state_file, write_state_file

# All that a pod runs: `python -m fftasks.runner` and the names that users import from fftasks. Everything
# else of the package (commands, reports, stages) stays on the user's machine. The digest of these modules is
# part of each cluster fingerprint: the shorter the list, the fewer upgrades invalidate results.
# tests/image/test_runtime.py compares the list with the imports of its modules.
RUNTIME_MODULES = (
    "fftasks/__init__.py",
    "fftasks/errors.py",
    "fftasks/state_folder.py",
    "fftasks/api",
    "fftasks/runner",
    "cloudpickle",
)
RUNTIME_DIGEST_VERSION = 1
DIGEST_CACHE = "runtime.json"


@functools.cache
def list_runtime() -> tuple[LayerEntry, ...]:
    """Return the files of RUNTIME_MODULES, sorted by path; they are read once in a process."""
    files: dict[str, Path] = {}
    for name in RUNTIME_MODULES:
        package, _, inside = name.partition("/")
        top = _find_package(package)
        path = top / inside
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            files[f"{package}/{file.relative_to(top).as_posix()}"] = file
    return tuple(make_file_entry(path, file.read_bytes()) for path, file in sorted(files.items()))


@functools.cache
def digest_runtime(state_folder: Path) -> str:
    """Return the digest of the syntax of the runtime's modules.

    Comments, docstrings, layout and the version of Python do not change it. To parse the modules takes about
    0.2 s, so the result is kept in the state folder together with the digest of the files that it is for.

    Args:
        state_folder: The project's `.fftasks`.

    Returns:
        "sha256:<64 hex>".
    """
    files = list_runtime()
    content = digest_json([RUNTIME_DIGEST_VERSION, [[one.path, one.digest] for one in files]])
    known = read_state_file(state_folder / DIGEST_CACHE) or {}
    syntax = known.get("syntax")
    if known.get("content") == content and isinstance(syntax, str):
        return syntax
    syntax = digest_json([[one.path, _digest_syntax(one)] for one in files])
    write_state_file(state_folder / DIGEST_CACHE, {"content": content, "syntax": syntax})
    return syntax


def _digest_syntax(module: LayerEntry) -> str:
    """Return the digest of a module's syntax tree without docstrings and other statements without effect."""
    import ast

    from fftasks.codehash.syntax_digest import digest_tree, is_idle

    assert isinstance(module.content, bytes)  # noqa: S101 - list_runtime() reads the files
    tree = ast.parse(module.content, module.path)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # of a lambda, it is an expression
            node.body = [one for one in body if not is_idle(one)]  # type: ignore[attr-defined]
    return digest_tree(tree)


def _find_package(name: str) -> Path:
    # without importing it: looking at what would be built must stay fast
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(spec.submodule_search_locations[0])
