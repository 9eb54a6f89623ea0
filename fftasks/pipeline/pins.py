"""Stage pins: choose the image that each task of a workflow runs, the one in which its nodes last changed.

KFP's default cache key contains the image, and each new image has another digest. If all tasks ran the newest
image, an edit of one function would discard the cached results of all tasks. A task's fingerprint covers
everything that the task uses of its image, so an older image with the same fingerprint gives the same result.

    the task's fingerprint                    its image
    unchanged, and its image is there         the image that it had
    known from an earlier run or a tag        the image that had this fingerprint
    new                                       the newest image
    none, because the task is never cached    the newest image

Tags in the registry share the choice with everybody who pushes to the repository.
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
from fftasks.runner.image_check import combine_fingerprints

VERSION = 1

_MAX_KNOWN = 4000
# Number of hex digits: enough to exclude collisions, and short because KFP passes a pipeline as one argument.
_SHORT = 40


class FindTags(Protocol):
    """Looks up tags in a repository of the registry."""

    def __call__(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return the digest of each tag that exists."""


class AddTags(Protocol):
    """Adds tags to an image in the registry."""

    def __call__(self, repository: str, digest: str, tags: Sequence[str]) -> None:
        """Add the tags to the image with this digest."""


@dataclass(frozen=True)
class PinRequest:
    """Inputs of stage pins.

    Attributes:
        fingerprints: Fingerprint of each task by name; "" if the task is never cached.
        free: Tasks that use a run parameter, so that the fingerprint alone does not determine their result.
        newest: Reference of the image that was pushed last, "repository@sha256:...".
        pin: Setting image.pin: "node", or "pipeline" to run all tasks in the newest image.
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
    request: PinRequest,
    *,
    find_tags: FindTags,
    add_tags: AddTags,
    old: Record | None = None,
    gone: Collection[str] = (),
) -> Record:
    """Return the record of stage pins.

    Args:
        request: Tasks that images are chosen for.
        find_tags: Looks up tags in the registry.
        add_tags: Adds tags in the registry.
        old: Last record of the stage.
        gone: References of images that the registry does not have any more.

    Returns:
        Record with `tasks` and `known`. `tasks` maps the name of a task to its "reference", "fingerprint" and
        "cache_key"; the last two are "" if the task has none. `known` lists [fingerprint, reference] of all
        known images, the latest first. The registry has the same as tags, which other people's projects read.
    """
    known: dict[str, str] = {}
    if old is not None and old.get("version") == VERSION:
        known = {
            fingerprint: reference
            for fingerprint, reference in old["known"]
            if reference.partition("@")[0] == request.repository and reference not in gone
        }
    wanted = [f for f in request.fingerprints.values() if f] if request.pin == "node" else []
    tags = {name_tag(f): f for f in wanted if f not in known}
    for tag, digest in (find_tags(request.repository, list(tags)) if tags else {}).items():
        reference = f"{request.repository}@{digest}"
        if reference not in gone:
            known[tags[tag]] = reference
    new = dict.fromkeys(f for f in wanted if f not in known)
    if new:
        digest = request.newest.partition("@")[2]
        add_tags(request.repository, digest, [name_tag(f) for f in new])
    known = dict.fromkeys(new, request.newest) | known
    chosen = known if request.pin == "node" else {}
    tasks = {
        task: {
            "reference": chosen.get(fingerprint, request.newest),
            "fingerprint": fingerprint,
            "cache_key": "" if task in request.free else _shorten(fingerprint),
        }
        for task, fingerprint in request.fingerprints.items()
    }
    return {
        "stage": "pins",
        "version": VERSION,
        "inputs": list_pin_inputs(request),
        "output": digest_json(tasks),
        "tasks": tasks,
        "known": [list(pair) for pair in known.items()][:_MAX_KNOWN],
    }


def list_pin_inputs(request: PinRequest) -> dict[str, str]:
    """Return the inputs in the record that make_pins_record would return for a request.

    If each task has a fingerprint, the newest image is not an input: it is used only by tasks that change.
    """
    inputs = {f"task {task}": fingerprint for task, fingerprint in request.fingerprints.items()}
    free = " ".join(sorted(request.free))
    inputs |= {"repository": request.repository, "pin": request.pin, "free": free}
    if request.pin != "node" or not all(request.fingerprints.values()):
        inputs["image"] = request.newest
    return inputs


def describe_pins(record: Record) -> str:
    """Return a line with the number of tasks in each image."""
    count: dict[str, int] = {}
    for task in record["tasks"].values():
        count[task["reference"]] = count.get(task["reference"], 0) + 1
    parts = [f"{n} of {len(record['tasks'])} in …{ref[-12:]}" for ref, n in count.items()]
    return f"{', '.join(parts[:4])}{' …' if len(parts) > 4 else ''}"  # noqa: PLR2004


def name_tag(fingerprint: str) -> str:
    """Return the tag by which the image for a task's fingerprint is found in the registry."""
    return f"node-{_shorten(fingerprint)}"


def list_pin_reasons(old: Record | None, request: PinRequest) -> Iterator[str]:
    """Yield why images have to be chosen again, one sentence each.

    Args:
        old: Last record of the stage, None if there is none.
        request: Current inputs of the stage.
    """
    if old is None:
        yield "never ran"
        return
    before, now = old["inputs"], list_pin_inputs(request)
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


def make_pin_request(
    project: Project, workflow: str, components: Record, pushed: Record
) -> PinRequest:
    """Return the request for the tasks of a workflow and the image that was pushed last.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        components: Record of stage tasks.
        pushed: Record of stage push.
    """
    found = read_cluster_fingerprints(project, workflow)
    return make_task_pin_request(project, components["tasks"], found, pushed["reference"])


def make_task_pin_request(
    project: Project,
    tasks: Mapping[str, Record],
    found: Mapping[str, ClusterFingerprint],
    newest: str,
) -> PinRequest:
    """Return the request for tasks, given the fingerprints of their nodes.

    Args:
        project: The current project.
        tasks: Tasks by name.
        found: Id of a node -> its fingerprint.
        newest: Reference of the newest image, "repository@sha256:...".
    """
    nodes_of = {name: task["nodes"] for name, task in tasks.items()}
    return PinRequest(
        fingerprints={
            name: combine_fingerprints([found[node].digest for node in nodes])
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
    project: Project, request: PinRequest, old: Record | None, gone: Collection[str] = ()
) -> Record:
    """Return the record of stage pins, with tags read from and written to the registry.

    If the registry fails, a warning is printed and the images are not shared with other people.

    Args:
        project: The current project.
        request: Tasks that images are chosen for.
        old: Last record of the stage.
        gone: References of images that the registry does not have any more.
    """
    from fftasks.registry.oci_registry import RepositoryTags

    repository_tags = RepositoryTags(lambda host: make_registry(project, host))

    def find_tags(repository: str, tags: Sequence[str]) -> dict[str, str]:
        try:
            return repository_tags.find(repository, tags)
        except FFTasksError as error:
            cause = escape_controls(error.attempted)
            sys.stderr.write(f"pins: cannot look up images of other projects: {cause}\n")
            return {}

    def add_tags(repository: str, digest: str, tags: Sequence[str]) -> None:
        try:
            repository_tags.add(repository, digest, tags)
        except FFTasksError as error:
            cause = escape_controls(error.attempted)
            sys.stderr.write(f"pins: cannot share this image with other projects: {cause}\n")

    return make_pins_record(request, find_tags=find_tags, add_tags=add_tags, old=old, gone=gone)
