"""The configuration of an image: what its containers start with."""

import dataclasses
import json

import pytest

from fftasks.errors import SettingsError
from fftasks.image.layers import Blob
from fftasks.image.recipe import (
    CONTAINER_COMMAND,
    ImageRecipe,
    ParentImage,
    make_image_configuration,
)

BASE = ParentImage(
    {"Env": ["PATH=/bin", "PYTHONPATH=/theirs"], "User": "me", "Cmd": ["sh"], "Hostname": "h"},
    "linux",
    "arm64",
    ("sha256:base",),
)
RECIPE = ImageRecipe(
    {}, None, "python:3.11-slim", "linux/arm64", workflows=("a.py", "b.py"), runtime=""
)
CODE = Blob("sha256:code", "sha256:packed", 1)


def configure(below):
    return json.loads(make_image_configuration(RECIPE, below, [("code", CODE)]))


def test_what_is_the_bases_stays_and_ours_comes_first():
    made = configure(BASE)

    assert made["config"] == {
        "User": "me",
        "Cmd": list(CONTAINER_COMMAND),
        "WorkingDir": "/ffrun",
        "Env": ["PATH=/bin", "PYTHONPATH=/opt/fftasks:/theirs", "FFWORKFLOWS=a.py:b.py"],
    }
    assert made["rootfs"]["diff_ids"] == ["sha256:base", "sha256:code"]
    assert [row["created_by"] for row in made["history"]] == ["base", "fftasks: code"]
    assert (made["os"], made["architecture"]) == ("linux", "arm64")


def test_a_variant_of_the_architecture_is_kept():
    assert "variant" not in configure(BASE)
    assert configure(dataclasses.replace(BASE, variant="v8"))["variant"] == "v8"


def test_folders_of_packages_are_found_with_their_programs():
    env = configure(dataclasses.replace(BASE, paths=("/packages",)))["config"]["Env"]

    assert env[:2] == ["PATH=/packages/bin:/bin", "PYTHONPATH=/opt/fftasks:/packages:/theirs"]


def test_a_base_that_leaves_instructions_is_refused():
    with pytest.raises(SettingsError, match="ONBUILD") as caught:
        configure(dataclasses.replace(BASE, settings={"OnBuild": ["RUN make"]}))

    assert caught.value.found == ("RUN make",)
