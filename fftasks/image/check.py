"""The image check (setting image.check): can all workflows be imported in a new image?

With an engine, a container without a network imports them. Without one, the imports of the project's modules
are compared with the packages in the layers. Missing modules are named with a suggested requirement.
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

# modules whose distributions have other names; used for modules that are not installed here
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
    """Function that imports all workflows in an image, without a network and without secrets."""

    def __call__(self, image: str, *, log: Path) -> Sequence[Mapping[str, Any]]:
        """Return the failures; raise ToolError if the image cannot be run."""


class ReadInstalled(Protocol):
    """Function that lists the packages that are installed on this machine."""

    def __call__(self) -> Mapping[str, list[str]]:
        """Return top-level module -> distributions that contain it, such as "numpy 2.4.6"."""


def check_imports(
    image: str,
    attempt: RunImageCheck,
    *,
    requirements: str,
    read_installed: ReadInstalled,
    log: Path,
) -> None:
    """Raise ToolError if workflows cannot be imported in an image.

    Args:
        image: Id of the image.
        attempt: Imports the workflows.
        requirements: Setting image.requirements, for the tip.
        read_installed: Lists the packages on this machine, whose versions are suggested.
        log: File for the output of the container.
    """
    problems = attempt(image, log=log)
    if not problems:
        return
    modules = sorted({problem["module"] for problem in problems if "module" in problem})
    found = [line for problem in problems for line in _describe(problem)]
    if not modules:
        raise ToolError(
            "image: workflows cannot be imported in it, and would fail on the cluster",
            found=found,
            tip=f"compare the image with this machine; full log: {log}; `image.check: false` skips the check",
        )
    installed = read_installed()
    names = ", ".join(name_requirement(module, installed) for module in modules)
    raise ToolError(
        f"image: module not found: {', '.join(modules)}; nodes would fail on the cluster",
        found=found,
        tip=f"add to {requirements or 'image.requirements'}: {names}",
    )


def name_requirement(module: str, installed: Mapping[str, list[str]]) -> str:
    """Return the requirement for a module, with the version that is installed on this machine."""
    top = module.partition(".")[0]
    if installed.get(top):
        name, _, version = installed[top][0].partition(" ")
        return f"{name}=={version}" if version else name
    return _DISTRIBUTIONS.get(top, top)


def find_unknown_modules(
    context: Mapping[str, Any], sources: Iterable[Path], modules: Collection[str]
) -> list[str]:
    """Return the imported top-level modules that are not known to be in the image.

    Args:
        context: The record of the context, whose modules are in the image.
        sources: The project's modules.
        modules: Top-level modules of the requirements. The standard library is known too; the base may
            contain other modules.
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
    """Return a digest of the inputs of the check, so that most edits need no new check.

    Args:
        surroundings: Digest of the image without the project's files.
        context: The record of the context; the names of its files count.
        sources: The project's modules; their import statements count.
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
    """Run the entry point with --try in a container of the image, and return the failures.

    The output of the user's modules is appended to the log.

    Raises:
        ToolError: The container could not be run, or its answer is invalid.
    """
    with open_engine() as client, wrap_engine_errors("image: the check could not be run"):
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
            tip=f"check that python3 in the base is Python 3.10 or newer; full log: {log}",
        ) from None
    return problems


def list_requirement_modules(layers: Path, image: str) -> set[str]:
    """Return the top-level modules of the requirements in an image that was built without an engine.

    Args:
        layers: The folder of the layer cache.
        image: The digest of its manifest.
    """
    blobs = LayerCache(layers)
    manifest = json.loads(blobs.read(image))
    found: set[str] = set()
    for layer in manifest["layers"]:
        if blobs.has(layer["digest"]):  # those of the base are not in the cache
            with tarfile.open(blobs.path(layer["digest"]), "r:gz") as archive:
                found |= {_name_top(member.name) for member in archive}
    return found - {""}


def _name_top(path: str) -> str:
    folder, _, rest = path.partition(f"{REQUIREMENTS_FOLDER}/")
    top = rest.partition("/")[0] if not folder else ""
    return "" if top.endswith((".dist-info", ".data")) else top.partition(".")[0]


def check_image(project: Project, recipe: ImageRecipe, record: Record, log: Path) -> Record:
    """Check an image if image.check is set, and return its record with the key "checked".

    The check is skipped if its inputs are those of the last image: an edit of a function need not wait for a
    container.

    Args:
        project: The project.
        recipe: The inputs of the image.
        record: The record of the image.
        log: File for the output of the container.

    Raises:
        ToolError: Workflows cannot be imported.
    """
    if not project.settings.image.check:
        return record
    sources = list(_list_sources(project, recipe))
    key = digest_imports(digest_image_environment(recipe), recipe.context, sources)
    old = read_record(project.record_path("image"))
    if old is None or old.get("checked") != key:
        if record["builder"] == "docker":
            check_imports(
                record["output"],
                run_image_check,
                requirements=project.settings.image.requirements,
                read_installed=lambda: read_distributions().tops,
                log=log,
            )
        else:
            _check_without_engine(project, recipe, record["output"], sources)
    return {**record, "checked": key}


def _check_without_engine(
    project: Project, recipe: ImageRecipe, image: str, sources: list[Path]
) -> None:
    """Warn about modules that may be missing in an image that cannot be run on this machine."""
    modules = list_requirement_modules(project.folder / "layers", image)
    unknown = find_unknown_modules(recipe.context, sources, modules)
    if unknown:
        installed = read_distributions().tops
        unknown = [escape_controls(module) for module in unknown]
        names = ", ".join(name_requirement(module, installed) for module in unknown)
        sys.stderr.write(
            f"image: built without an engine, so imports were not checked; {', '.join(unknown)} is not in"
            f" the packages of {recipe.requirements}: if it is not in the base, add {names}\n"
        )


def _list_sources(project: Project, recipe: ImageRecipe) -> Iterator[Path]:
    """Yield the project's modules that its workflows import, in the copy of the context."""
    there = {path for path, *_ in recipe.context["files"]}
    names = {name.removeprefix("file:") for graph in project.graphs for name in graph["inputs"]}
    for path in sorted(names & there):
        if path.endswith(".py"):
            yield recipe.folder / path
