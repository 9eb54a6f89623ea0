"""The images that the tasks of a workflow are pinned to: chosen and shared through the registry."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

from fftasks.errors import FFTasksError, escape_controls
from fftasks.project import Project
from fftasks.record import Record
from fftasks.runtime.manifest import combine
from fftasks.stages import pins
from fftasks.stages.fingerprint import Fingerprint
from fftasks.steps.connect import make_registry
from fftasks.steps.recipe import read_fingerprints


def make_wish(project: Project, workflow: str, components: Record, pushed: Record) -> pins.Wish:
    """Return what images are to be chosen for, given the records of components and push."""
    found = read_fingerprints(project, workflow)
    return wish_for(project, components["tasks"], found, pushed["reference"])


def wish_for(
    project: Project,
    tasks: Mapping[str, Record],
    found: Mapping[str, Fingerprint],
    newest: str,
) -> pins.Wish:
    """Return the wish for some tasks; found: the fingerprints of nodes; newest: the newest image."""
    nodes_of = {name: task["nodes"] for name, task in tasks.items()}
    return pins.Wish(
        fingerprints={
            name: combine([found[node].digest for node in nodes])
            for name, nodes in nodes_of.items()
        },
        free=frozenset(
            name
            for name, nodes in nodes_of.items()
            if any(found[node].parameters for node in nodes)
        ),
        newest=newest,
        pin=project.settings.image.pin,
    )


def choose(
    project: Project, wish: pins.Wish, old: Record | None, gone: Collection[str] = ()
) -> Record:
    """Return the record of the pins stage; ask the registry about fingerprints that are new here.

    What it does not say or take is done without, and with a word: then nobody else knows of the images.
    """
    from fftasks.ports.registry_tags import Tags

    there = Tags(lambda host: make_registry(project, host))

    def find(repository: str, tags: Sequence[str]) -> dict[str, str]:
        try:
            return there.find(repository, tags)
        except FFTasksError as error:
            said = escape_controls(error.attempted)
            sys.stderr.write(f"pins: images of others are not used: {said}\n")
            return {}

    def add(repository: str, digest: str, tags: Sequence[str]) -> None:
        try:
            there.add(repository, digest, tags)
        except FFTasksError as error:
            said = escape_controls(error.attempted)
            sys.stderr.write(f"pins: others will not use this image: {said}\n")

    return pins.make(wish, find_tags=find, add_tags=add, old=old, gone=gone)
