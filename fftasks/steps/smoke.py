"""The trial of a new image before it is pushed: are all nodes in it?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from fftasks.distribution import read_distributions
from fftasks.errors import escape_controls
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages import smoke
from fftasks.stages.image import Recipe, digest_surroundings


def try_image(project: Project, recipe: Recipe, record: Record, log: Path) -> Record:
    """Return the record of an image, with "checked" if image.check is set.

    Raises ToolError if nodes cannot be imported in it. Where nothing that decides it has changed since
    the last image, it is not tried again: an edit of a function's lines must not wait for a container.
    """
    if not project.settings.image.check:
        return record
    sources = list(_list_sources(project, recipe))
    key = smoke.digest_imports(digest_surroundings(recipe), recipe.context, sources)
    old = read_record(project.record_path("image"))
    if old is None or old.get("checked") != key:
        if record["builder"] == "docker":
            _try(project, record["output"], log)
        else:
            _look(project, recipe, record["output"], sources)
    return {**record, "checked": key}


def _look(project: Project, recipe: Recipe, image: str, sources: list[Path]) -> None:
    """Say what may be missing in an image that cannot be run here."""
    from fftasks.ports.smoke import list_modules

    modules = list_modules(project.folder / "layers", image)
    unknown = smoke.find_unknown(recipe.context, sources, modules)
    if unknown:
        installed = read_distributions().tops
        unknown = [escape_controls(module) for module in unknown]
        names = ", ".join(smoke.name_requirement(module, installed) for module in unknown)
        sys.stderr.write(
            f"image: made without an engine, so nobody has tried it; {', '.join(unknown)} comes with"
            f" nothing in {recipe.requirements}: if the base does not have it, add {names}\n"
        )


def _try(project: Project, image: str, log: Path) -> None:
    from fftasks.ports.smoke import try_image as attempt

    smoke.check(
        image,
        attempt,
        requirements=project.settings.image.requirements,
        read_installed=lambda: read_distributions().tops,
        log=log,
    )


def _list_sources(project: Project, recipe: Recipe) -> Iterator[Path]:
    """Yield the modules of the project that its workflows import, in the copy of the context."""
    there = {path for path, *_ in recipe.context["files"]}
    names = {name.removeprefix("file:") for graph in project.graphs for name in graph["inputs"]}
    for path in sorted(names & there):
        if path.endswith(".py"):
            yield recipe.folder / path
