"""What decides an image, and what it is made of."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fftasks.errors import SettingsError
from fftasks.image import context
from fftasks.image import recipe as image
from fftasks.image.base import BaseImage
from fftasks.image.recipe import BuiltImage, ImageRecipe

IMAGE, BASE = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sums.py").write_text("a = 1\n")
    (folder / "requirements.txt").write_text("numpy\n")
    return folder


@pytest.fixture
def recipe(folder) -> ImageRecipe:
    return make_recipe(folder)


def make_recipe(folder: Path) -> ImageRecipe:
    copy = folder / ".fftasks/context"
    return ImageRecipe(
        context.copy_context(folder, copy),
        copy,
        "python:3.11-slim",
        "linux/amd64",
        workflows=("sums.py",),
        runtime="sha256:" + "ef" * 32,
    )


def test_record(recipe, tmp_path):
    calls = []

    def build(*args, log):
        calls.append((*args, log))
        return BuiltImage(IMAGE, BASE)

    record = image.build_image(recipe, build=build, log=tmp_path / "log")

    assert record == {
        "stage": "image",
        "version": image.IMAGE_VERSION,
        "inputs": image.list_image_inputs(recipe),
        "output": IMAGE,
        "base": BASE,
        "builder": "docker",
    }
    assert calls == [(recipe, image.collect_layer_contents(recipe), tmp_path / "log")]


def test_inputs_have_names(recipe):
    assert set(image.list_image_inputs(recipe)) == {
        "context",
        "base",
        "platform",
        "requirements",
        "runtime",
        "workflows",
        "build_env",
        "fingerprints",
    }


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"base": "python:3.12"}, "base"),
        ({"platform": "linux/arm64"}, "platform"),
        ({"workflows": ("sums.py", "requirements.txt")}, "workflows"),
        ({"build_env": {"PIP_INDEX_URL": "https://x/simple"}}, "build_env"),
        ({"build_env": {"TOKEN": "x"}}, "build_env"),
        ({"requirements": ""}, "requirements"),
        ({"runtime": IMAGE}, "runtime"),
        ({"fingerprints": {"sums": {"one": IMAGE}}}, "fingerprints"),
    ],
)
def test_a_change_of_settings_changes_one_input(recipe, change, name):
    before = image.list_image_inputs(recipe)

    after = image.list_image_inputs(replace(recipe, **change))

    assert [key for key in before if before[key] != after[key]] == [name]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "sums:latest"},
        {"base_origin": "config/prod.yaml line 3"},
        {"ca_cert": Path("/etc/ca.pem")},
    ],
)
def test_what_does_not_decide_is_no_input(recipe, change):
    assert image.list_image_inputs(replace(recipe, **change)) == image.list_image_inputs(recipe)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"PIP_INDEX_URL": "https://me:old@x/s"}, {"PIP_INDEX_URL": "https://me:new@x/s"}),
        ({"PIP_INDEX_URL": "https://token@x/s"}, {"PIP_INDEX_URL": "https://x/s"}),
        ({"GITHUB_TOKEN": "old"}, {"GITHUB_TOKEN": "new"}),
    ],
)
def test_another_secret_keeps_the_inputs(recipe, old, new):
    before, after = (image.list_image_inputs(replace(recipe, build_env=env)) for env in (old, new))

    assert before == after


def test_another_index_changes_the_inputs(recipe):
    urls = ("https://me:x@one/s", "https://me:x@two/s")

    one, two = (
        image.list_image_inputs(replace(recipe, build_env={"PIP_INDEX_URL": url})) for url in urls
    )

    assert one != two


def test_secrets_are_not_in_the_repr_of_a_recipe(recipe):
    assert "hunter2" not in repr(replace(recipe, build_env={"TOKEN": "hunter2"}))


def test_a_base_that_is_resolved_counts_by_what_it_is(recipe):
    one, other = BaseImage(IMAGE), BaseImage(BASE)

    inputs = image.list_image_inputs(replace(recipe, resolved=one))

    assert inputs["base"] == IMAGE
    assert inputs == image.list_image_inputs(replace(recipe, base="other/name", resolved=one))
    assert inputs != image.list_image_inputs(replace(recipe, resolved=other))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"resolved": BaseImage(BASE)}, False),
        ({"resolved": BaseImage(IMAGE, "python@sha256:0")}, True),
        ({"platform": "linux/arm64"}, False),
        ({"build_env": {"PIP_INDEX_URL": "https://x/simple"}}, False),
        ({"requirements": ""}, False),
        ({"workflows": ("sums.py", "requirements.txt")}, True),
        ({"name": "other:1"}, True),
    ],
)
def test_surroundings_are_all_but_the_code(recipe, change, same):
    recipe = replace(recipe, resolved=BaseImage(IMAGE))

    before, after = (
        image.digest_image_environment(one) for one in (recipe, replace(recipe, **change))
    )

    assert (before == after) == same


def test_code_edit_keeps_the_surroundings(folder, recipe):
    before = image.digest_image_environment(recipe)
    (folder / "sums.py").write_text("a = 2\n")

    assert image.digest_image_environment(make_recipe(folder)) == before


def test_code_edit_keeps_requirements_and_runtime(folder, recipe):
    before = image.list_image_inputs(recipe)
    (folder / "sums.py").write_text("a = 2\n")

    after = image.list_image_inputs(make_recipe(folder))

    assert [key for key in before if before[key] != after[key]] == ["context"]


def test_edit_of_requirements_changes_requirements(folder, recipe):
    before = image.list_image_inputs(recipe)
    (folder / "requirements.txt").write_text("numpy>1\n")

    after = image.list_image_inputs(make_recipe(folder))

    assert [key for key in before if before[key] != after[key]] == ["context", "requirements"]


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_empty_requirements_make_no_layer(folder, text):
    (folder / "requirements.txt").write_text(text)

    assert image.collect_layer_contents(make_recipe(folder)).requirements == ()


def test_no_requirements_make_no_layer(folder):
    (folder / "requirements.txt").unlink()

    assert image.collect_layer_contents(make_recipe(folder)).requirements == ()


def test_requirements_that_were_asked_for_must_be_there(recipe):
    with pytest.raises(SettingsError, match=r"deps\.txt was not found in the context"):
        image.collect_layer_contents(replace(recipe, requirements="deps.txt"))


def test_code_is_the_context_with_links_and_folders(folder):
    (folder / "link").symlink_to("sums.py")
    (folder / "empty").mkdir()

    layers = image.collect_layer_contents(make_recipe(folder))

    assert [entry.path for entry in layers.code] == ["requirements.txt", "sums.py", "link", "empty"]
    assert [entry.path for entry in layers.requirements] == ["requirements.txt"]


@pytest.mark.parametrize("name", ["gone.py", "a:b.py", "a\nb.py"])
def test_workflow_that_cannot_be_found_in_the_image_is_refused(recipe, name):
    with pytest.raises(SettingsError, match="file"):
        image.collect_layer_contents(replace(recipe, workflows=(name,)))


def test_finding_inputs_imports_no_docker(folder):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from fftasks.image import context, recipe\n"
        "f = Path(sys.argv[2]); record = context.copy_context(f, f / '.fftasks/context')\n"
        "made = recipe.ImageRecipe(record, f, 'python', '', ('sums.py',), runtime='')\n"
        "recipe.list_image_inputs(made)\n"
        "print({'docker', 'requests', 'cloudpickle', 'kfp'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]

    answer = subprocess.run(
        [sys.executable, "-c", program, str(root), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "set()\n"


def test_the_image_says_for_which_fingerprints_it_was_made(recipe):
    made = replace(recipe, fingerprints={"sums": {"one": IMAGE}})

    layers = image.collect_layer_contents(made)

    assert layers.code[:-1] == image.collect_layer_contents(recipe).code
    assert layers.code[-1].path == ".fftasks/fingerprints.json"
    assert json.loads(layers.code[-1].content) == {"sums": {"one": IMAGE}}
