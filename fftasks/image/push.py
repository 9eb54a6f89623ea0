"""Part."""

from __future__ import annotations

from fftasks.errors import SettingsError
from fftasks.image.build import plan_image
from fftasks.image.builders import find_image_repository, make_builder
from fftasks.image.recipe import ImageNotFoundError, PushImage
from fftasks.project import Project
from fftasks.records import Record
from fftasks.registry import reference as push
from fftasks.registry.reference import _TAG, PUSH_VERSION, check_docker_hub_owner, list_push_inputs
from fftasks.stage import Stage, execute_stage, list_input_changes, require_record


def push_image(image: Record, *, push: PushImage, repository: str, tag: str) -> Record:
    """Push the image that a record names; output is the digest of its manifest.

    repository: as name_repository() gives it. The image is pushed under the tag, and under one of
    its own, so that a registry which cleans up what has no tag keeps older ones.
    "reference": the image by digest, as pods are given it.
    Raises SettingsError for a tag that is none, and for a repository that cannot be pushed to.
    """
    if not _TAG.fullmatch(tag):
        raise SettingsError(
            f"push: {tag!r} is no tag",
            tip="set image.tag to letters, digits, and _ . - after the first, at most 128",
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
    """Return the step of the push; it builds the image again if it has gone."""
    tag = project.settings.image.tag
    built = project.record_path("image")

    def list_reasons(old: Record | None) -> list[str]:
        inputs = push.list_push_inputs(require_record(built), find_image_repository(project), tag)
        return list_input_changes(old, push.PUSH_VERSION, inputs, push.describe_push_inputs)

    def make() -> Record:
        try:
            return _send_image(project, require_record(built))
        except ImageNotFoundError:  # somebody has tidied up the engine
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
