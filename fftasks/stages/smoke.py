"""Say what to do about an image in which nodes cannot be imported, before it is pushed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fftasks.errors import ToolError
from fftasks.record import digest_json

# modules whose distributions are called otherwise; what is installed here says it for all others
_DISTRIBUTIONS = {
    "Crypto": "pycryptodome",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "jwt": "pyjwt",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


class Try(Protocol):
    """Tries an image: imports what builds workflows, without a network and without secrets."""

    def __call__(self, image: str, *, log: Path) -> Sequence[Mapping[str, Any]]:
        """Return what runtime/trial.py found; raise ToolError if the image cannot be run at all."""


class ReadInstalled(Protocol):
    """Says what is installed here."""

    def __call__(self) -> Mapping[str, list[str]]:
        """Return top-level module -> distributions that have it, as "numpy 2.4.6"."""


def check(
    image: str, attempt: Try, *, requirements: str, read_installed: ReadInstalled, log: Path
) -> None:
    """Raise ToolError if nodes cannot be imported in an image.

    requirements: the file that pip reads, for the tip
    """
    problems = attempt(image, log=log)
    if not problems:
        return
    modules = sorted({problem["module"] for problem in problems if "module" in problem})
    found = [line for problem in problems for line in _describe(problem)]
    if not modules:
        raise ToolError(
            "image: nodes cannot be imported in it, and would fail on the cluster",
            found=found,
            tip=f"what is different there? full log: {log}; `image.check: false` pushes it as it is",
        )
    installed = read_installed()
    names = ", ".join(name_requirement(module, installed) for module in modules)
    raise ToolError(
        f"image: it lacks {', '.join(modules)}, and nodes would fail on the cluster",
        found=found,
        tip=f"add to {requirements or 'image.requirements'}: {names}",
    )


def name_requirement(module: str, installed: Mapping[str, list[str]]) -> str:
    """Return what pip must be asked for to get a module: as it is installed here, if it is."""
    top = module.partition(".")[0]
    if installed.get(top):
        name, _, version = installed[top][0].partition(" ")
        return f"{name}=={version}" if version else name
    return _DISTRIBUTIONS.get(top, top)


def find_unknown(
    context: Mapping[str, Any], sources: Iterable[Path], modules: Collection[str]
) -> list[str]:
    """Return the top-level modules that sources import, and that nobody knows to be in the image.

    modules: those of the requirements. Python's own and the project's are known; the base may have others.
    """
    ours = {part.removesuffix(".py") for path, *_ in context["files"] for part in path.split("/")}
    known = {*modules, *ours, *sys.stdlib_module_names, "fftasks", "cloudpickle"}
    wanted = {name for source in sources for name in _list_tops(source)}
    return sorted(wanted - known)


def _list_tops(source: Path) -> set[str]:
    names: set[str] = set()
    for node in _find_imports(source):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def digest_imports(surroundings: str, context: Mapping[str, Any], sources: Iterable[Path]) -> str:
    """Return a digest of what decides whether imports work, so that most edits need no new check.

    That is what the code stands on, which files there are, and what the sources import.
    """
    paths = [path for path, *_ in context["files"]]
    imports = [
        [source.name, [ast.unparse(node) for node in _find_imports(source)]] for source in sources
    ]
    return digest_json([surroundings, paths, context["links"], imports])


def _find_imports(source: Path) -> list[ast.Import | ast.ImportFrom]:
    try:
        tree = ast.parse(source.read_bytes())
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def _describe(problem: Mapping[str, Any]) -> list[str]:
    if "module" not in problem:
        return [str(problem["error"])]
    return [f"{problem.get('where', problem['file'])}: No module named {problem['module']!r}"]
