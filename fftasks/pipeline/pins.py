"""Say which image each task of a workflow runs: the one in which its nodes last changed.

A new image has another digest, and Kubeflow Pipelines' default cache key holds the image. Would all tasks
run the newest image, an edit of one function would throw away the cached results of all. A task's
fingerprint holds all that it uses of its image, so an older one does as well.

    the task's fingerprint                    its image
    as it was, and its image is there         the one that it had
    known from earlier, or to the registry    the one that it had then
    new                                       the newest
    none, for it can never be equal           the newest

The images that the tasks of a workflow are pinned to: chosen and shared through the registry.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fftasks.cache.cluster_fingerprint import ClusterFingerprint
from fftasks.errors import FFTasksError, escape_controls
from fftasks.image.builders import make_registry
from fftasks.image.project_recipe import read_cluster_fingerprints
from fftasks.project import Project
from fftasks.records import Record, digest_json
from fftasks.runner.image_check import combine

VERSION = 1

_MAX_KNOWN = 4000
_SHORT = (
    40  # hex digits: nobody makes two that are alike, and KFP passes a pipeline as one argument
)


class FindTags(Protocol):
    """Asks the registry which of some tags a repository has."""

    def __call__(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return the digest of each tag that is there."""


class AddTags(Protocol):
    """Gives an image in the registry more tags."""

    def __call__(self, repository: str, digest: str, tags: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class PinRequest:
    """What images are to be chosen for.

    fingerprints: of each task, "" if it has none
    free: tasks that a run parameter reaches, so that their fingerprints do not decide alone
    newest: the image that was pushed last, "repository@sha256:…"
    pin: "node", or "pipeline" for the newest image for all
    """

    fingerprints: Mapping[str, str]
    free: frozenset[str]
    newest: str
    pin: str

    @property
    def repository(self) -> str:
        """The repository that all images must be in."""
        return self.newest.partition("@")[0]


def make_pins_record(
    wish: PinRequest,
    *,
    find_tags: FindTags,
    add_tags: AddTags,
    old: Record | None = None,
    gone: Collection[str] = (),
) -> Record:
    """Return the record of a workflow's images.

    old: the record that make() gave last; gone: references that are not in the registry any more
    "tasks": task -> "reference", "fingerprint" and "cache_key", the last two "" if it has none
    "known": [fingerprint, reference] of all that is known, the latest first; the registry has the same
    as tags, so that it is shared with whoever pushes to the repository.
    """
    known = _read_known(wish, old, gone)
    wanted = [f for f in wish.fingerprints.values() if f] if wish.pin == "node" else []
    known |= _ask(wish.repository, [f for f in wanted if f not in known], find_tags, gone)
    new = dict.fromkeys(f for f in wanted if f not in known)
    if new:
        add_tags(wish.repository, wish.newest.partition("@")[2], [name_tag(f) for f in new])
    known = dict.fromkeys(new, wish.newest) | known
    tasks = {
        task: {
            "reference": known.get(fingerprint, wish.newest) if wish.pin == "node" else wish.newest,
            "fingerprint": fingerprint,
            "cache_key": "" if task in wish.free else _shorten(fingerprint),
        }
        for task, fingerprint in wish.fingerprints.items()
    }
    return {
        "stage": "pins",
        "version": VERSION,
        "inputs": list_pin_inputs(wish),
        "output": digest_json(tasks),
        "tasks": tasks,
        "known": [list(pair) for pair in known.items()][:_MAX_KNOWN],
    }


def list_pin_inputs(wish: PinRequest) -> dict[str, str]:
    """Return the inputs that a record for this wish would have.

    The newest image is none of them where each task has a fingerprint: it is for those that change.
    """
    inputs = {f"task {task}": fingerprint for task, fingerprint in wish.fingerprints.items()}
    inputs |= {"repository": wish.repository, "pin": wish.pin, "free": " ".join(sorted(wish.free))}
    if wish.pin != "node" or not all(wish.fingerprints.values()):
        inputs["image"] = wish.newest
    return inputs


def describe_pins(record: Record) -> str:
    """Return what a record says, in a line."""
    count: dict[str, int] = {}
    for task in record["tasks"].values():
        count[task["reference"]] = count.get(task["reference"], 0) + 1
    parts = [f"{n} of {len(record['tasks'])} in …{ref[-12:]}" for ref, n in count.items()]
    return f"{', '.join(parts[:4])}{' …' if len(parts) > 4 else ''}"  # noqa: PLR2004


def name_tag(fingerprint: str) -> str:
    """Return the tag that says in a registry for which fingerprint an image was made."""
    return f"node-{_shorten(fingerprint)}"


def list_pin_reasons(old: Record | None, wish: PinRequest) -> Iterator[str]:
    """Yield why images must be chosen again, a sentence each; none if the record holds."""
    if old is None:
        yield "never ran"
        return
    before, now = old["inputs"], list_pin_inputs(wish)
    if old.get("version") != VERSION:
        yield "the algorithm of this stage changed"
    elif before.get("repository") != now["repository"]:
        yield f"images are in {now['repository']} now"
    elif before.get("pin") != now["pin"]:
        yield f"setting image.pin: {before.get('pin')} -> {now['pin']}"
    else:
        yield from _compare_tasks(before, now)


def _compare_tasks(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        kind, _, task = name.partition(" ")
        if before.get(name) == now.get(name):
            continue
        if name == "free":
            yield "run parameters reach other nodes"
        elif kind != "task":
            yield "there is a newer image"
        elif name not in now:
            yield f"{task} is not there any more"
        else:
            yield f"{task} {'changed' if name in before else 'is new'}"


def _shorten(fingerprint: str) -> str:
    return fingerprint.removeprefix("sha256:")[:_SHORT]


def _read_known(wish: PinRequest, old: Record | None, gone: Collection[str]) -> dict[str, str]:
    if old is None or old.get("version") != VERSION:
        return {}
    return {
        fingerprint: reference
        for fingerprint, reference in old["known"]
        if reference.partition("@")[0] == wish.repository and reference not in gone
    }


def _ask(
    repository: str, fingerprints: Sequence[str], find_tags: FindTags, gone: Collection[str]
) -> dict[str, str]:
    tags = {name_tag(fingerprint): fingerprint for fingerprint in fingerprints}
    found = find_tags(repository, list(tags)) if tags else {}
    references = {tags[tag]: f"{repository}@{digest}" for tag, digest in found.items()}
    return {fingerprint: one for fingerprint, one in references.items() if one not in gone}


def make_pin_request(
    project: Project, workflow: str, components: Record, pushed: Record
) -> PinRequest:
    """Return what images are to be chosen for, given the records of components and push."""
    found = read_cluster_fingerprints(project, workflow)
    return make_task_pin_request(project, components["tasks"], found, pushed["reference"])


def make_task_pin_request(
    project: Project,
    tasks: Mapping[str, Record],
    found: Mapping[str, ClusterFingerprint],
    newest: str,
) -> PinRequest:
    """Return the wish for some tasks; found: the fingerprints of nodes; newest: the newest image."""
    nodes_of = {name: task["nodes"] for name, task in tasks.items()}
    return PinRequest(
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


def choose_pins(
    project: Project, wish: PinRequest, old: Record | None, gone: Collection[str] = ()
) -> Record:
    """Return the record of the pins stage; ask the registry about fingerprints that are new here.

    What it does not say or take is done without, and with a word: then nobody else knows of the images.
    """
    from fftasks.registry.oci_registry import RepositoryTags

    there = RepositoryTags(lambda host: make_registry(project, host))

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

    return make_pins_record(wish, find_tags=find, add_tags=add, old=old, gone=gone)
