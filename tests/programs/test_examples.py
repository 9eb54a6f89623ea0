"""The repository's own project: its examples run here and on the cluster, with equal results."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fftasks
from tests.programs.test_submit import find_result
from tests.sample import Sample

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for name in ("docs/examples", "config"):
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("dodo.py", "requirements.txt", ".dockerignore"):
        shutil.copy(REPOSITORY / name, root)
    return Sample(root)


def test_the_examples_run_here(project):
    output = project.doit("run")

    assert "food = 555" in output
    assert "over_budget = ['food in January', 'travel in February']" in output
    assert "best = 'support vectors'" in output
    assert "17 ran" in output
    (page,) = (project.root / ".fftasks" / "shown" / "picture").glob("*/page.html")
    assert 'src="data:image/png;base64,iVBOR' in page.read_text()
    assert f"shown in {page.relative_to(project.root)}" in output
    assert np.sum(fftasks.load("confusion", project.root).rows) == 899


def test_another_budget_runs_only_the_node_that_depends_on_it(project):
    project.doit("run")

    output = project.doit("run", "budget=310")

    assert "over_budget = ['travel in February']" in output
    assert "1 ran, 16 up to date" in output


@pytest.fixture
def remote_base(engine, base_image, registry):
    """Give the name of the base in the registry: no engine is asked for it."""
    name = f"{registry.server}/bases/python:1"
    engine.images.get(base_image).tag(name)
    engine.images.push(name, auth_config=registry.credentials)
    return name


@pytest.mark.parametrize("builder", ["docker", "oci"])
def test_the_examples_run_on_the_cluster(
    project, registry, kfp_cluster, cluster, base_image, remote_base, builder
):
    project.doit("run")
    settings = {
        "IMAGE__BUILDER": builder,
        "IMAGE__BASE": base_image if builder == "docker" else remote_base,
        "REGISTRY__REPOSITORY": f"examples/{builder}",
        "REGISTRY__SERVER": registry.server,
        "REGISTRY__USERNAME": registry.credentials["username"],
        "REGISTRY__PASSWORD": registry.credentials["password"],
        "KFP__HOST": kfp_cluster.url,
    }

    environ = {f"FFTASKS_{name}": value for name, value in settings.items()}
    if builder == "oci":
        environ["DOCKER_HOST"] = "unix:///nowhere.sock"

    output = project.doit("submit", **environ)

    digits, sums = (
        kfp_cluster.wait(run, timeout_s=300) for run in re.findall(r"run ([\w-]+): http", output)
    )
    assert (digits.state, sums.state) == ("SUCCEEDED", "SUCCEEDED"), digits.error or sums.error
    if "food" in digits.tasks:
        digits, sums = sums, digits
    assert find_result(cluster, sums, "food") == fftasks.load("food", project.root) == 555
    assert find_result(cluster, sums, "over-budget") == ["food in January", "travel in February"]
    assert find_result(cluster, digits, "best") == fftasks.load("best", project.root)
    assert find_result(cluster, digits, "confusion") == fftasks.load("confusion", project.root)
    shown = digits.tasks["confusion"].outputs["artifacts"]["classification"]
    declared = digits.pipeline.get_component("confusion").output_definitions.artifacts
    assert declared["classification"].artifact_type.schema_title == "system.ClassificationMetrics"
    (row, *_) = shown.metadata["confusionMatrix"]["struct"]["rows"]
    assert sum(row["row"]) == 89
    page = digits.tasks["picture"].outputs["artifacts"]["html"]
    assert "data:image/png;base64" in cluster.store.get_path(page.uri).read_text()
