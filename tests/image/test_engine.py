"""The way to the engine: where it is, and with which login."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
from pathlib import Path

import pytest

from fftasks.errors import SettingsError, ToolError
from fftasks.image.engine import open_engine
from fftasks.registry.registry_auth import RegistryLogin, find_engine_auth, make_login

SECRET = "hunter2"


def connect() -> None:
    with open_engine():
        pytest.fail("there is an engine")


def write_config(**content) -> None:
    path = Path(os.environ["DOCKER_CONFIG"]) / "config.json"
    path.write_text(json.dumps(content))


def write_helper(folder: Path, monkeypatch, program: str) -> None:
    helper = folder / "docker-credential-test"
    helper.write_text(f"#!/bin/sh\n{program}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize("where", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_no_engine(monkeypatch, where):
    monkeypatch.setenv("DOCKER_HOST", where)

    with pytest.raises(ToolError, match=f"no container engine answers at {where}") as caught:
        connect()

    assert "start Docker" in caught.value.tip


def test_address_that_is_none(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "bogus://x")

    with pytest.raises(ToolError, match="DOCKER_HOST"):
        connect()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_engine_that_one_may_not_use(monkeypatch, tmp_path):
    path = Path(f"/tmp/fftasks-test-{os.getpid()}.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(
                ToolError, match="permission denied: the container engine"
            ) as caught:
                connect()
        finally:
            os.seteuid(0)
            path.unlink()

    assert "group" in caught.value.tip


def test_context_of_docker_is_followed(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    write_config(currentContext="far")
    name = hashlib.sha256(b"far").hexdigest()
    meta = Path(os.environ["DOCKER_CONFIG"]) / "contexts/meta" / name
    meta.mkdir(parents=True)
    endpoint = {"Host": "unix:///far/docker.sock", "SkipTLSVerify": False}
    (meta / "meta.json").write_text(
        json.dumps({"Name": "far", "Metadata": {}, "Endpoints": {"docker": endpoint}})
    )

    with pytest.raises(ToolError, match="unix:///far/docker"):
        connect()


def test_context_that_is_not_there(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")

    with pytest.raises(ToolError, match="no context 'gone'"):
        connect()


def test_login_of_the_settings_is_for_its_host_only():
    login = RegistryLogin("host:5000", "me", SECRET)

    assert find_engine_auth("host:5000", login) == {
        "username": "me",
        "password": SECRET,
        "serveraddress": "host:5000",
    }
    assert find_engine_auth("other:5000", login) == {}
    assert SECRET not in repr(login)


def test_login_at_dockers_own_registry_has_its_old_address():
    assert (
        RegistryLogin("docker.io", "me", SECRET).to_engine_auth()["serveraddress"].endswith("/v1/")
    )


def test_login_of_docker_is_found():
    auth = base64.b64encode(f"me:{SECRET}".encode()).decode()
    write_config(auths={"host:5000": {"auth": auth}})

    assert find_engine_auth("host:5000", None)["password"] == SECRET


def test_helper_of_docker_is_asked(tmp_path, monkeypatch):
    answer = json.dumps({"ServerURL": "host:5000", "Username": "me", "Secret": SECRET})
    write_helper(tmp_path, monkeypatch, f"echo '{answer}'")
    write_config(credHelpers={"host:5000": "test"})

    assert find_engine_auth("host:5000", None)["Password"] == SECRET


@pytest.mark.parametrize(
    "config", [{"credsStore": "missing"}, {"auths": {"host:5000": {"auth": "?"}}}]
)
def test_login_of_docker_that_cannot_be_read(config):
    write_config(**config)

    with pytest.raises(
        ToolError, match="Docker's own login for host:5000 cannot be read"
    ) as caught:
        find_engine_auth("host:5000", None)

    assert "docker login host:5000" in caught.value.tip


def test_make_login():
    assert make_login("host:5000/a/b", "me", SECRET) == RegistryLogin("host:5000", "me", SECRET)
    assert make_login("host:5000/a/b", "", "") is None


@pytest.mark.parametrize(("username", "password"), [("me", ""), ("", SECRET)])
def test_half_a_login_is_refused(username, password):
    with pytest.raises(SettingsError, match="is not") as caught:
        make_login("host/a", username, password)

    assert SECRET not in str(caught.value)
