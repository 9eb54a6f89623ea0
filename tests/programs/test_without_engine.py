"""`doit push` where there is no engine: logins, certificates and faults of the registry, end to end."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from fftasks.records import read_record
from tests.registry.test_registry_faults import FULL, full
from tests.sample import Sample
from tests.services.certificate import make_certificate
from tests.services.fault_proxy import FaultProxy, Reset, refuse

NOWHERE = "unix:///nowhere.sock"
CODE = """\
from fftasks import Workflow, workflow

@workflow
def step():
    return 1

Workflow(step(), name="w")
"""


@pytest.fixture(autouse=True)
def _no_engine_for_doit(engine, base_image, registry, monkeypatch):
    name = f"{registry.server}/bases/python:1"
    engine.images.get(base_image).tag(name)
    engine.images.push(name, auth_config=registry.credentials)
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)


@pytest.fixture
def secure(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    certificate = make_certificate(folder, ["IP:127.0.0.2"])
    with FaultProxy(registry.port, host="127.0.0.2", tls=certificate.make_context()) as proxy:
        yield proxy, certificate.path


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry.port) as proxy:
        yield proxy


def make_project(root: Path, server: str, *lines: str) -> Sample:
    sample = Sample.make(root, CODE)
    text = f"""\
workflows: [wf.py]
context: {{ignore: [config/]}}
image: {{base: "{server}/bases/python:1"}}
registry:
  server: {server}
  repository: tests/{root.name.lower().strip("_")}
"""
    sample.write("config/default.yaml", text + "".join(f"  {line}\n" for line in lines))
    return sample


def pass_on(exchange) -> None:
    exchange.reply(*exchange.ask())


def check_pushed(sample, registry) -> None:
    record = read_record(sample.root / ".fftasks" / "push.json")
    repository = record["inputs"]["repository"].partition("/")[2]
    assert registry.get_digest(repository, "latest") == record["output"]


def test_a_password_goes_over_tls_with_an_own_ca(tmp_path, registry, secure):
    proxy, ca_cert = secure
    login = (f"username: {registry.username}", "password: ${REGISTRY_PASSWORD}")
    sample = make_project(tmp_path, proxy.server, *login, f"ca_cert: {ca_cert}")

    output = sample.doit("push", REGISTRY_PASSWORD=registry.password)

    assert "built without an engine" in output
    check_pushed(sample, registry)
    for path in (sample.root / ".fftasks").rglob("*"):
        assert not path.is_file() or registry.password.encode() not in path.read_bytes()


def test_without_the_ca_it_is_one_clear_error(tmp_path, registry, secure):
    sample = make_project(tmp_path, secure[0].server)

    output = sample.doit("push", code=1)

    assert "registry.ca_cert" in output
    assert output.count("!! ") == 1


@pytest.mark.parametrize("kind", ["file", "helper"])
def test_dockers_own_login_is_taken(tmp_path, registry, monkeypatch, kind):
    pair = f"{registry.username}:{registry.password}".encode()
    config: dict = {"auths": {registry.server: {"auth": base64.b64encode(pair).decode()}}}
    if kind == "helper":
        config = {"credHelpers": {registry.server: "fftasks-test"}}
        write_helper(tmp_path / "bin", registry)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text(json.dumps(config))
    (tmp_path / f"by-{kind}").mkdir()
    sample = make_project(tmp_path / f"by-{kind}", registry.server)

    sample.doit("push")

    check_pushed(sample, registry)


def write_helper(folder: Path, registry) -> None:
    folder.mkdir()
    answer = json.dumps({"Username": registry.username, "Secret": registry.password})
    helper = folder / "docker-credential-fftasks-test"
    helper.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)


def test_after_a_full_disk_the_next_push_sends_only_what_is_missing(tmp_path, registry, proxy):
    login = (f"username: {registry.username}", f"password: {registry.password}")
    sample = make_project(tmp_path, proxy.server, *login)
    sample.write("data.bin", "x" * 300_000)
    sample.doit("image")
    proxy.break_next("PUT .*/manifests/", full(FULL["blob"]))

    output = sample.doit("push", code=1)

    assert "no space left" in output
    assert not (sample.root / ".fftasks" / "push.json").exists()
    proxy.seen.clear()
    sample.doit("push")
    assert proxy.count("PUT .*/uploads/") == 0  # all of the layers were there
    check_pushed(sample, registry)
    sample.edit("wf.py", "return 1", "return 2")
    proxy.seen.clear()
    sample.doit("push")
    assert proxy.count("PUT .*/uploads/") == 2  # the layer of the code, and the configuration


@pytest.fixture
def built(tmp_path, registry, proxy):
    """Give a project with an image; it goes into any repository that is named by the environment."""
    login = (f"username: {registry.username}", f"password: {registry.password}")
    sample = make_project(tmp_path, proxy.server, *login)
    sample.write("data.bin", os.urandom(100_000).hex())
    sample.doit("image")
    return sample


def test_after_a_fault_the_next_push_sends_only_what_is_missing(built, registry, proxy):
    uploads = "PUT .*/uploads/"
    refusals = {
        "registry.username": refuse(401, "UNAUTHORIZED", "authentication required"),
        "permission denied by the registry": refuse(
            403, "DENIED", "requested access to the resource is denied"
        ),
        "repository was not found": refuse(
            404, "NAME_UNKNOWN", "repository name not known to registry"
        ),
    }
    for number, (said, fault) in enumerate(refusals.items()):
        into = {"FFTASKS_REGISTRY__REPOSITORY": f"tests/refused-{number}"}
        proxy.break_next(
            uploads, pass_on, *[fault] * 2
        )  # what it asks for again with a new token too
        refused = built.doit("push", code=1, **into)
        proxy.faults.clear()
        tried = proxy.count(uploads)
        built.doit("push", **into)

        assert said in refused
        assert (refused.count("!! "), refused.count("hint: ")) == (1, 1)
        assert (tried, proxy.count(uploads)) == (2, 5)  # of four, the first one is not sent again
        check_pushed(built, registry)
        proxy.seen.clear()


def test_what_passes_is_waited_for_with_a_word_and_leaves_nothing_to_do(built, registry, proxy):
    slow_down = refuse(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": "1"})
    proxy.break_next("POST .*/uploads/", slow_down)
    proxy.break_next("PUT .*/uploads/", Reset(after=1_000))
    for request in ("HEAD .*/blobs/", "PUT .*/manifests/"):
        proxy.break_next(request, refuse(500))

    output = built.doit("push")

    assert proxy.faults == []
    assert output.count("rate limit is reached; trying again in 1 s") == 1
    assert output.count("did not complete the request; trying again in 1 s") == 3
    check_pushed(built, registry)
    proxy.seen.clear()
    assert "-- push  up to date" in built.doit("push")
    assert proxy.seen == []
