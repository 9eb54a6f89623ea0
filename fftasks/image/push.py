"""The stage "push": push the image into the registry, and record its reference there."""

from __future__ import annotations

from fftasks.errors import SettingsError
from fftasks.image.build import plan_image
from fftasks.image.builders import find_image_repository, make_builder
from fftasks.image.recipe import ImageNotFoundError, PushImage
from fftasks.project import Project
from fftasks.records import Record
from fftasks.registry.reference import (
    PUSH_VERSION,
    TAG,
    check_docker_hub_owner,
    describe_push_inputs,
    list_push_inputs,
)
from fftasks.stage import Stage, execute_stage, list_input_changes, require_record


def push_image(image: Record, *, push: PushImage, repository: str, tag: str) -> Record:
    """Push an image and return the record of the push.

    The image gets two tags: the given one, and one of its own, so that a registry that removes untagged
    images keeps older ones.

    Args:
        image: The record of the image.
        push: The builder that has the image.
        repository: "host[:port]/path".
        tag: Setting image.tag.

    Returns:
        The record. Its output is the digest of the manifest; "reference" is "repository@sha256:…".

    Raises:
        SettingsError: The tag is invalid, or the repository has no owner.
    """
    if not TAG.fullmatch(tag):
        raise SettingsError(
            f"push: invalid value of image.tag: {tag!r}",
            tip="use at most 128 letters, digits and _ . -; the first is a letter, a digit or _",
        )
    check_docker_hub_owner(repository)
    own_tag = f"image-{image['output'].removeprefix('sha256:')[:16]}"
    digest = push(image["output"], repository, (own_tag, tag))
    return {
        "stage": "push",
        "version": PUSH_VERSION,
        "inputs": list_push_inputs(image, repository, tag),
        "output": digest,
        "reference": f"{repository}@{digest}",
    }


def plan_push(project: Project) -> Stage:
    """Return the stage of the push; it builds the image again if the engine has removed it."""
    tag = project.settings.image.tag
    built = project.record_path("image")

    def list_reasons(old: Record | None) -> list[str]:
        inputs = list_push_inputs(require_record(built), find_image_repository(project), tag)
        return list_input_changes(old, PUSH_VERSION, inputs, describe_push_inputs)

    def make() -> Record:
        try:
            return _send_image(project, require_record(built))
        except ImageNotFoundError:  # such as after `docker system prune`
            execute_stage(plan_image(project))
            return _send_image(project, require_record(built))

    return Stage(
        path=project.record_path("push"),
        needs=project.list_needs("push"),
        list_reasons=list_reasons,
        make=make,
        describe=lambda record: str(record["reference"]),
    )


def _send_image(project: Project, record: Record) -> Record:
    sender = make_builder(project, record["builder"])
    repository, tag = find_image_repository(project), project.settings.image.tag
    return push_image(record, push=sender.push, repository=repository, tag=tag)
