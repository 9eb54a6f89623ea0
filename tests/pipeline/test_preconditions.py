"""What is said before an image is built: no engine is asked in here, and no base is there."""

import pytest

from tests.sample import Sample
from tests.services.kfp_server import KFPServer
from tests.submitted_project import CHAIN


@pytest.fixture
def make(tmp_path):
    def make(kfp, registry="{server: registry.test, repository: a/b}"):
        sample = Sample.make(tmp_path, CHAIN)
        lines = ["workflows: [wf.py]", "image: {base: 'nowhere.test/none:1'}"]
        sample.write("config/default.yaml", "\n".join([*lines, f"registry: {registry}", kfp]))
        return sample

    return make


def is_begun(sample):
    """Tell whether somebody has looked for the base, which comes first."""
    return (sample.root / ".fftasks" / "logs" / "image.stage.txt").exists()


def test_a_host_that_wants_a_token_is_told_before_the_image(make):
    with KFPServer(token="s3cret") as server:
        sample = make(f"kfp: {{host: '{server.url}', token: '${{TOKEN}}'}}")

        output = sample.doit("submit", code=1, TOKEN="wrong")

    assert "image: skipped because no run could be started with it" in output
    assert "HTTP 401" in output
    assert "kfp.token_file" in output
    assert not is_begun(sample)


@pytest.mark.parametrize(
    ("kfp", "said"),
    [
        ("kfp: {host: 'http://localhost:1'}", "no connection to http://localhost:1"),
        ("kfp: {host: 'localhost:1'}", "'localhost:1' is not a valid address"),
        ("kfp: {token_file: gone.txt}", "kfp.token_file: cannot read gone.txt"),
        ("kfp: {ca_cert: gone.pem}", "kfp.ca_cert: file gone.pem not found"),
        ("kfp: {experiment: ' '}", "kfp.experiment is empty"),
    ],
)
def test_what_is_wrong_with_settings_of_kfp_is_told_before_the_image(make, kfp, said):
    sample = make(kfp)

    assert said in sample.doit("submit", code=1)
    assert not is_begun(sample)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{shared_memory: 1Gi, empty_dirs: {/dev/shm: memory}}", "mount the same folder"),
        ('{env: {ALPHA: "$(BETA)"}}', "would not arrive as it is"),
    ],
)
def test_settings_of_nodes_that_a_pod_cannot_have_are_told_before_the_image(
    make, kfp_server, settings, said
):
    sample = make(f"kfp: {{host: '{kfp_server.url}'}}\nnodes: {{__default__: {settings}}}")

    for command in ("pipeline", "submit"):
        assert said in sample.doit(command, code=1)
    assert not is_begun(sample)


def test_a_registry_that_is_not_set_is_told_before_the_image(make, kfp_server):
    sample = make(f"kfp: {{host: '{kfp_server.url}'}}", registry="{repository: words}")

    for command in ("push", "submit", "upload"):
        output = sample.doit(command, code=1)
        assert "image: skipped because it could not be pushed" in output
        assert "registry.server is not set" in output
    assert not is_begun(sample)
    assert not kfp_server.requests


def test_an_upload_asks_the_host_before_the_image_as_well(make):
    sample = make("kfp: {host: 'http://localhost:1'}")

    assert "no connection to http://localhost:1" in sample.doit("upload", code=1)
    assert not is_begun(sample)


def test_an_image_alone_needs_no_host(make, engine):
    sample = make("kfp: {host: 'http://localhost:1'}")

    output = sample.doit("run", "-n", "0", "image", code=1)

    assert "localhost:1" not in output
    assert is_begun(sample)
