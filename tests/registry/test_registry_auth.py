"""Who one is: passwords, Docker's own logins, tokens; with registries that check them."""

from __future__ import annotations

import base64
import json
import os
import traceback
from pathlib import Path

import pytest

from fftasks.errors import ToolError
from fftasks.registry.registry_auth import RegistryAuth, RegistryLogin
from tests.services.certificate import make_certificate
from tests.services.fault_proxy import FaultProxy, Reply, refuse
from tests.services.registry_client import Client, digest, make_blob, make_manifest
from tests.services.token_server import TokenServer, make_token_registry

USER, PASSWORD = "user", "correct horse"
PUSH = "repository:team/x:pull,push"


def write_config(**content) -> None:
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text(json.dumps(content))


def write_helper(folder: Path, monkeypatch, username: str, secret: str) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    helper = folder / "docker-credential-test"
    helper.write_text(f"#!/bin/sh\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def encode(username, password):
    return base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), ["DNS:localhost"])


@pytest.fixture
def tokens(certificate):
    with TokenServer(certificate, USER, PASSWORD) as server:
        yield server


@pytest.fixture
def strict(registry, tokens, certificate, tmp_path):
    """Give a proxy before a registry that wants tokens."""
    folder = tmp_path / "strict"
    folder.mkdir()
    strict = make_token_registry(folder, tokens, certificate)
    strict.start()
    with FaultProxy(strict.port) as proxy:
        yield proxy
    strict.stop()


@pytest.fixture
def client(strict):
    return Client(strict.server, RegistryLogin(strict.server, USER, PASSWORD))


# password


def test_wrong_password_is_said_and_not_shown(registry):
    client = Client(registry.server, RegistryLogin(registry.server, "bob", "hunter2"))

    with pytest.raises(ToolError, match="does not accept the login") as caught:
        client.has_blob("team/x", digest(b""))

    assert "registry.username ('bob')" in caught.value.tip
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert encode("bob", "hunter2") not in str(caught.value)
    assert client.waits == []


def test_no_password_is_said(registry):
    with pytest.raises(ToolError, match="does not accept the login") as caught:
        Client(registry.server).has_blob("team/x", digest(b""))

    assert f"docker login {registry.server}" in caught.value.tip


def test_login_for_another_host_is_not_used(registry):
    with (
        FaultProxy(registry.port) as proxy,
        pytest.raises(ToolError, match="does not accept the login"),
    ):
        Client(proxy.server, RegistryLogin("other:5000", USER, PASSWORD)).has_blob("x", digest(b""))

    assert not any("Authorization" in seen.headers for seen in proxy.seen)


def test_password_is_not_looked_for_in_netrc(registry):
    netrc = Path(os.environ["HOME"]) / ".netrc"
    netrc.write_text(f"machine localhost login {USER} password '{PASSWORD}'")
    netrc.chmod(0o600)

    with FaultProxy(registry.port, host="127.0.0.2") as proxy, pytest.raises(ToolError):
        Client(proxy.server, insecure=True).has_blob("x", digest(b""))

    assert not any("Authorization" in seen.headers for seen in proxy.seen)


def test_login_of_docker_is_used(registry):
    write_config(auths={registry.server: {"auth": encode(USER, PASSWORD)}})

    assert not Client(registry.server).has_blob("team/x", digest(b"none"))


def test_helper_of_docker_is_used(registry, tmp_path, monkeypatch):
    write_helper(tmp_path, monkeypatch, USER, PASSWORD)
    write_config(credHelpers={registry.server: "test"})

    assert not Client(registry.server).has_blob("team/x", digest(b"none"))


def test_helper_that_is_broken_is_said(registry):
    write_config(credHelpers={registry.server: "missing"})

    with pytest.raises(ToolError, match="Docker's own login") as caught:
        Client(registry.server).has_blob("team/x", digest(b""))

    assert "docker-credential-missing" in str(caught.value)


def test_secret_that_a_registry_repeats_is_hidden(registry):
    with FaultProxy(registry.port) as proxy:
        client = Client(proxy.server, RegistryLogin(proxy.server, USER, PASSWORD))
        client.has_blob("team/x", digest(b"none"))
        said = f"{PASSWORD} and {encode(USER, PASSWORD)}"
        proxy.break_next("GET", refuse(403, "DENIED", said))

        with pytest.raises(ToolError, match="permission denied by the registry") as caught:
            client.read_blob("team/x", digest(b""))

    assert "<hidden> and <hidden>" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


# tokens


def test_image_is_pushed_with_one_token(client, strict, tokens):
    blob = make_blob()

    client.push("team/x", blob)

    assert client.find_digest("team/x", "1") == make_manifest(blob).digest
    assert tokens.asked == [("GET", (PUSH,))]
    assert "Bearer" not in str(strict.seen[0].headers)


def test_unchanged_image_costs_one_token_more(client, tokens, strict):
    blobs = [make_blob(), make_blob()]
    client.push("team/x", *blobs)
    strict.seen.clear()
    again = Client(strict.server, RegistryLogin(strict.server, USER, PASSWORD))

    assert again.push("team/x", *blobs) == [0, 0, 0]
    assert [seen.method for seen in strict.seen] == ["HEAD"] * 4 + ["PUT"]
    assert len(tokens.asked) == 2


def test_token_is_for_its_repository(client, tokens):
    client.push("team/x", make_blob())
    client.push("team/y", make_blob())

    assert tokens.asked == [("GET", (PUSH,)), ("GET", (PUSH.replace("/x", "/y"),))]


def test_reading_asks_for_reading_only(client, tokens):
    client.find_digest("team/x", "1")

    assert tokens.asked == [("GET", ("repository:team/x:pull",))]


def test_token_for_reading_does_not_do_for_writing(client, tokens):
    blob = make_blob()
    client.has_blob("team/x", digest(blob))

    assert client.send_blob("team/x", digest(blob), blob) == len(blob)
    assert [scopes for _, scopes in tokens.asked] == [("repository:team/x:pull",), (PUSH,)]


def test_mount_asks_for_both_repositories(client, tokens):
    blob = make_blob()
    client.send_blob("team/source", digest(blob), blob)

    assert client.mount_blob("team/x", digest(blob), "team/source")
    assert tokens.asked[-1] == ("GET", (PUSH, "repository:team/source:pull"))


def test_everybody_may_read(strict, client):
    blob = make_blob()
    client.push("team/x", blob)

    assert Client(strict.server).read_blob("team/x", digest(blob)) == blob


def test_everybody_may_read_even_where_a_helper_is_broken(strict, client):
    write_config(credsStore="missing")
    blob = make_blob()
    client.push("team/x", blob)

    assert Client(strict.server).read_blob("team/x", digest(blob)) == blob


def test_nobody_may_write(strict):
    blob = make_blob()

    with pytest.raises(ToolError, match="does not accept the login"):
        Client(strict.server).send_blob("team/x", digest(blob), blob)


def test_token_that_ran_out_is_renewed(client, strict, tokens):
    blob = make_blob()
    client.send_blob("team/x", digest(blob), blob)
    challenge = (
        f'Bearer realm="{tokens.realm}",service="tests",scope="{PUSH}",error="invalid_token"'
    )
    strict.break_next("PUT .*/manifests/", refuse(401, headers={"WWW-Authenticate": challenge}))

    client.push("team/x", blob)

    assert client.find_digest("team/x", "1") == make_manifest(blob).digest
    assert len(tokens.asked) == 2
    assert client.said == []


def test_token_that_runs_out_at_a_file_is_renewed_and_the_file_sent_from_its_start(
    client, strict, tokens, tmp_path
):
    path = tmp_path / "layer"
    path.write_bytes(make_blob(100_000))
    challenge = f'Bearer realm="{tokens.realm}",service="tests"'
    strict.break_next("PUT .*/uploads/", refuse(401, headers={"WWW-Authenticate": challenge}))

    sent = client.send_blob("team/x", digest(path.read_bytes()), path)

    assert sent == 100_000
    assert client.read_blob("team/x", digest(path.read_bytes())) == path.read_bytes()


def test_wrong_password_at_the_token_server(strict, tokens):
    client = Client(strict.server, RegistryLogin(strict.server, "bob", "hunter2"))

    with pytest.raises(ToolError, match="does not accept the login") as caught:
        client.has_blob("team/x", digest(b""))

    assert "incorrect username or password" in str(caught.value)
    assert "'bob'" in caught.value.tip
    assert len(tokens.asked) == 1


def test_token_server_that_fails_once(client, tokens):
    tokens.break_next("GET", refuse(503))

    assert not client.has_blob("team/x", digest(b"none"))
    assert client.waits == [1]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"token": 1}'])
def test_token_server_that_gives_none(client, tokens, body):
    tokens.break_next("GET", Reply(200, {"Content-Type": "application/json"}, body))

    with pytest.raises(ToolError, match="not a registry"):
        client.has_blob("team/x", digest(b""))


def test_redirect_of_the_token_server_is_not_followed(client, tokens, strict):
    tokens.break_next("GET", Reply(307, {"Location": f"http://{strict.server}/elsewhere"}))

    with pytest.raises(ToolError, match="refused"):
        client.has_blob("team/x", digest(b""))

    assert strict.count("GET /elsewhere") == 0


def test_tokens_are_not_shown(client, strict, tokens):
    client.has_blob("team/x", digest(b"none"))
    strict.break_next("GET", refuse(403, "DENIED", f"no: {tokens.tokens[0]}"))

    with pytest.raises(ToolError) as caught:
        client.read_blob("team/x", digest(b""))

    assert tokens.tokens[0][:50] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("way", ["settings", "file", "helper"])
def test_identity_token_is_exchanged(strict, tokens, tmp_path, monkeypatch, way):
    login = None
    if way == "settings":
        login = RegistryLogin(strict.server, "<token>", tokens.refresh_token)
    elif way == "file":
        write_config(auths={strict.server: {"auth": "", "identitytoken": tokens.refresh_token}})
    else:
        write_helper(tmp_path, monkeypatch, "<token>", tokens.refresh_token)
        write_config(credHelpers={strict.server: "test"})
    blob = make_blob()
    client = Client(strict.server, login)

    client.push("team/x", blob)

    assert client.find_digest("team/x", "1") == make_manifest(blob).digest
    assert tokens.asked == [("POST", (PUSH,))]


def test_identity_token_that_is_refused_is_not_shown(strict):
    client = Client(strict.server, RegistryLogin(strict.server, "<token>", "old-token"))

    with pytest.raises(ToolError, match="does not accept the login") as caught:
        client.has_blob("team/x", digest(b""))

    assert "old-token" not in "".join(traceback.format_exception(caught.value))


def test_identity_token_is_no_password(registry):
    client = Client(registry.server, RegistryLogin(registry.server, "<token>", "identity"))

    with pytest.raises(ToolError, match="does not accept the login"):
        client.has_blob("team/x", digest(b""))


# challenges


class Tokens:
    """A token server's answer, without the server."""

    def __init__(self):
        self.urls = []

    def fetch(self, method, url, *, headers, data):
        from requests import Response

        self.urls.append(url)
        answer = Response()
        answer.status_code, answer._content = 200, b'{"token": "given"}'
        return answer


@pytest.mark.parametrize(
    ("challenge", "url"),
    [
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull"',
            "https://a/t?service=s&scope=repository%3Ax%3Apull",
        ),
        (
            'Basic realm="b", bearer realm="https://a/t", service="s"',
            "https://a/t?service=s&scope=repository%3Ax%3Apull",
        ),
        (
            'Bearer realm="https://a/t",service="s",Basic realm="b"',
            "https://a/t?service=s&scope=repository%3Ax%3Apull",
        ),
        (
            'Bearer realm="https://a/t?account=me",service=s',
            "https://a/t?account=me&service=s&scope=repository%3Ax%3Apull",
        ),
        ('Bearer realm="/t"', "https://host/t?service=&scope=repository%3Ax%3Apull"),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:prefix/x:pull"',
            "https://a/t?service=s&scope=repository%3Ax%3Apull&scope=repository%3Aprefix%2Fx%3Apull",
        ),
    ],
)
def test_challenges(challenge, url):
    tokens = Tokens()
    auth = RegistryAuth("host", None, "https://host", tokens.fetch)

    assert auth.answer(challenge, ["repository:x:pull"], {})
    assert tokens.urls == [url]
    assert auth.make_headers(["repository:x:pull"]) == {"Authorization": "Bearer given"}


@pytest.mark.parametrize("challenge", ["", "Negotiate", 'Digest realm="x"'])
def test_challenge_that_nobody_can_answer(challenge):
    assert not RegistryAuth(
        "host", RegistryLogin("host", "a", "b"), "https://host", Tokens().fetch
    ).answer(challenge, [], {})


def test_password_is_not_sent_to_a_token_server_by_plain_http():
    from fftasks.registry.failures import RequestFailedError

    tokens = Tokens()
    auth = RegistryAuth("host", RegistryLogin("host", "a", "b"), "https://host", tokens.fetch)

    with pytest.raises(RequestFailedError, match="plain-HTTP"):
        auth.answer('Bearer realm="http://a/t"', [], {})

    assert tokens.urls == []
