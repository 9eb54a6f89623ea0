"""Names of repositories, and the record of a push."""

from __future__ import annotations

import pytest

from fftasks.errors import SettingsError
from fftasks.image.push import push_image
from fftasks.registry import reference as push

IMAGE = {"stage": "image", "output": "sha256:" + "ab" * 32}
DIGEST = "sha256:" + "cd" * 32


def make(repository="localhost:5000/sums", tag="latest"):
    calls = []

    def send(image, repository, tags):
        calls.append((image, repository, tags))
        return DIGEST

    return push_image(IMAGE, push=send, repository=repository, tag=tag), calls


def test_record_has_the_reference_by_digest():
    record, _ = make()

    assert record == {
        "stage": "push",
        "version": 1,
        "inputs": {"image": IMAGE["output"], "repository": "localhost:5000/sums", "tag": "latest"},
        "output": DIGEST,
        "reference": f"localhost:5000/sums@{DIGEST}",
    }


def test_image_gets_a_tag_of_its_own_as_well():
    _, calls = make(tag="v1")

    assert calls == [(IMAGE["output"], "localhost:5000/sums", ("image-abababababababab", "v1"))]


@pytest.mark.parametrize("tag", ["", "a b", "-x", "x" * 129, "é", "a:b"])
def test_tag_that_is_none_is_refused(tag):
    with pytest.raises(SettingsError, match=r"invalid value of image\.tag"):
        make(tag=tag)


@pytest.mark.parametrize("repository", ["docker.io/sums", "index.docker.io/sums"])
def test_repository_of_nobody_is_refused_before_the_push(repository):
    with pytest.raises(SettingsError, match="has no owner") as caught:
        make(repository)

    assert "<your name there>/sums" in caught.value.tip
    assert "registry.server" in caught.value.tip


@pytest.mark.parametrize(
    ("server", "repository", "name"),
    [
        ("localhost:5000", "sums", "localhost:5000/sums"),
        ("localhost", "sums", "localhost/sums"),
        ("registry.example.com", "team/sums", "registry.example.com/team/sums"),
        ("https://registry.example.com/", "/sums/", "registry.example.com/sums"),
        ("registry.example.com/team", "sums", "registry.example.com/team/sums"),
        (" registry.example.com ", " sums ", "registry.example.com/sums"),
        ("registry.example.com/team/sums", "", "registry.example.com/team/sums"),
        ("10.0.0.1:5000", "a__b-c.d", "10.0.0.1:5000/a__b-c.d"),
        ("[::1]:5000", "a", "[::1]:5000/a"),
        ("", "me/sums", "docker.io/me/sums"),
        ("", "sums", "docker.io/sums"),
        ("docker.io", "me/sums", "docker.io/me/sums"),
    ],
)
def test_repository_is_named(server, repository, name):
    assert push.format_repository(server, repository) == name


@pytest.mark.parametrize(
    ("server", "repository", "said"),
    [
        ("localhost:5000", "My Flow", "write my-flow"),
        ("localhost:5000", "Team/Sums", "write team/sums"),
        ("localhost:5000", "a//b", "write a/b"),
        ("localhost:5000", "sums:latest", "write sums-latest"),
        ("localhost:5000", "-", "write fftasks"),
        ("localhost:5000", "", "write fftasks"),
        ("localhost:5000", "x" * 256, "write xxx"),
        ("Registry.example.com", "sums", "write registry.example.com"),
        ("registry", "sums", "registry:5000"),
        ("a b.c", "sums", "write a host"),
        ("ftp://x.y", "sums", "write a host"),
    ],
)
def test_name_that_is_none_is_refused_with_a_better_one(server, repository, said):
    with pytest.raises(SettingsError) as caught:
        push.format_repository(server, repository)

    assert said in str(caught.value)


def test_inputs_are_spelled_as_settings():
    record, _ = make("localhost:5000/team/sums", "v1")

    assert push.describe_push_inputs(record["inputs"]) == {
        "image": IMAGE["output"],
        "setting registry.server": "localhost:5000",
        "setting registry.repository": "team/sums",
        "setting image.tag": "v1",
    }
