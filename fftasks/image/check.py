"""Say what to do about an image in which nodes cannot be imported, before it is pushed.

Ports of the trial of an image: a container without a network, or a look into its layers.

The trial of a new image before it is pushed: are all nodes in it?
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fftasks.codehash.code_origin import read_distributions
from fftasks.errors import ToolError, escape_controls
from fftasks.image.engine import open_engine, wrap_engine_errors
from fftasks.image.layers import LayerCache
from fftasks.image.recipe import CONTAINER_COMMAND, ImageRecipe, digest_image_environment
from fftasks.image.wheels import REQUIREMENTS_FOLDER
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record
from fftasks.state_folder import open_in_place

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


class RunImageCheck(Protocol):
    """Tries an image: imports what builds workflows, without a network and without secrets."""

    def __call__(self, image: str, *, log: Path) -> Sequence[Mapping[str, Any]]:
        """Return what runtime/trial.py found; raise ToolError if the image cannot be run at all."""


class ReadInstalled(Protocol):
    """Says what is installed here."""

    def __call__(self) -> Mapping[str, list[str]]:
        """Return top-level module -> distributions that have it, as "numpy 2.4.6"."""


def check_imports(
    image: str,
    attempt: RunImageCheck,
    *,
    requirements: str,
    read_installed: ReadInstalled,
    log: Path,
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


def find_unknown_modules(
    context: Mapping[str, Any], sources: Iterable[Path], modules: Collection[str]
) -> list[str]:
    """Return the top-level modules that sources import, and that nobody knows to be in the image.

    modules: those of the requirements. Python's own and the project's are known; the base may have others.
    """
    ours = {part.removesuffix(".py") for path, *_ in context["files"] for part in path.split("/")}
    known = {*modules, *ours, *sys.stdlib_module_names, "fftasks", "cloudpickle"}
    wanted = {name for source in sources for name in _list_top_modules(source)}
    return sorted(wanted - known)


def _list_top_modules(source: Path) -> set[str]:
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


_SHOWN = 12


def run_image_check(image: str, *, log: Path) -> Sequence[Mapping[str, Any]]:
    """Run the entry point's check in a container of the image, and return what it found.

    What the user's modules print goes into the log. Raises ToolError if there is no answer.
    """
    with open_engine() as client, wrap_engine_errors("image: it cannot be tried"):
        made = client.create_container(
            image,
            [*CONTAINER_COMMAND[1:], "--try"],
            entrypoint=[CONTAINER_COMMAND[0]],
            network_disabled=True,
            labels={"fftasks": "check"},
        )
        try:
            client.start(made["Id"])
            code = client.wait(made["Id"])["StatusCode"]
            said = client.logs(made["Id"], stdout=False, stderr=True).decode(errors="replace")
            answer = client.logs(made["Id"], stdout=True, stderr=False)
        finally:
            client.remove_container(made["Id"], force=True, v=True)
    descriptor = open_in_place(log, os.O_WRONLY | os.O_APPEND)
    with open(descriptor, "a", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(f"\nimporting all workflows in {image}\n{said}")
    try:
        problems: list[dict[str, Any]] = json.loads(answer)
    except ValueError:
        raise ToolError(
            f"image: the process that imports its workflows ended with {code}",
            found=said.splitlines()[-_SHOWN:],
            tip=f"does the base have Python 3.10 or newer, as python3? full log: {log}",
        ) from None
    return problems


def list_requirement_modules(layers: Path, image: str) -> set[str]:
    """Return the top-level modules that the requirements of an image gave it, made without an engine.

    layers: the folder in which its layers are kept; image: the digest of its manifest
    """
    blobs = LayerCache(layers)
    manifest = json.loads(blobs.read(image))
    found: set[str] = set()
    for layer in manifest["layers"]:
        if blobs.has(layer["digest"]):  # those of the base stay in their registry
            with tarfile.open(blobs.path(layer["digest"]), "r:gz") as archive:
                found |= {_name_top(member.name) for member in archive}
    return found - {""}


def _name_top(path: str) -> str:
    folder, _, rest = path.partition(f"{REQUIREMENTS_FOLDER}/")
    top = rest.partition("/")[0] if not folder else ""
    return "" if top.endswith((".dist-info", ".data")) else top.partition(".")[0]


def check_image(project: Project, recipe: ImageRecipe, record: Record, log: Path) -> Record:
    """Return the record of an image, with "checked" if image.check is set.

    Raises ToolError if nodes cannot be imported in it. Where nothing that decides it has changed since
    the last image, it is not tried again: an edit of a function's lines must not wait for a container.
    """
    if not project.settings.image.check:
        return record
    sources = list(_list_sources(project, recipe))
    key = digest_imports(digest_image_environment(recipe), recipe.context, sources)
    old = read_record(project.record_path("image"))
    if old is None or old.get("checked") != key:
        if record["builder"] == "docker":
            _check_in_container(project, record["output"], log)
        else:
            _check_without_engine(project, recipe, record["output"], sources)
    return {**record, "checked": key}


def _check_without_engine(
    project: Project, recipe: ImageRecipe, image: str, sources: list[Path]
) -> None:
    """Say what may be missing in an image that cannot be run here."""
    modules = list_requirement_modules(project.folder / "layers", image)
    unknown = find_unknown_modules(recipe.context, sources, modules)
    if unknown:
        installed = read_distributions().tops
        unknown = [escape_controls(module) for module in unknown]
        names = ", ".join(name_requirement(module, installed) for module in unknown)
        sys.stderr.write(
            f"image: made without an engine, so nobody has tried it; {', '.join(unknown)} comes with"
            f" nothing in {recipe.requirements}: if the base does not have it, add {names}\n"
        )


def _check_in_container(project: Project, image: str, log: Path) -> None:

    check_imports(
        image,
        run_image_check,
        requirements=project.settings.image.requirements,
        read_installed=lambda: read_distributions().tops,
        log=log,
    )


def _list_sources(project: Project, recipe: ImageRecipe) -> Iterator[Path]:
    """Yield the modules of the project that its workflows import, in the copy of the context."""
    there = {path for path, *_ in recipe.context["files"]}
    names = {name.removeprefix("file:") for graph in project.graphs for name in graph["inputs"]}
    for path in sorted(names & there):
        if path.endswith(".py"):
            yield recipe.folder / path
