"""http and https, and whose certificates are believed."""

from __future__ import annotations

import pytest

from fftasks.errors import SettingsError, ToolError
from fftasks.registry.registry_auth import RegistryLogin
from fftasks.registry.registry_connection import RegistryConnection
from tests.services.certificate import make_certificate
from tests.services.fault_proxy import FaultProxy, Reply
from tests.services.registry_client import Client, digest, make_blob, make_manifest

NOT_LOCAL = "127.0.0.2"  # an address of this machine that is not taken for it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    names = [f"IP:{NOT_LOCAL}", "DNS:localhost", "IP:127.0.0.1"]
    return make_certificate(tmp_path_factory.mktemp("certificate"), names)


@pytest.fixture
def secure(registry, certificate):
    """Give a proxy that speaks https, before a registry that does not know it."""
    with FaultProxy(registry.port, host=NOT_LOCAL, tls=certificate.make_context()) as proxy:
        yield proxy


@pytest.fixture
def login(registry, secure):
    return RegistryLogin(secure.server, registry.username, registry.password)


def connect(host, **options):
    given = {"insecure": False, "ca_cert": None, "say": print, "pause": print, **options}
    return RegistryConnection(host, None, **given)


@pytest.mark.parametrize(
    ("host", "options", "origin"),
    [
        ("host:5000", {}, "https://host:5000"),
        ("host:5000", {"insecure": True}, "http://host:5000"),
        ("localhost:5000", {}, "http://localhost:5000"),
        ("localhost", {}, "http://localhost"),
        ("127.0.0.1:5000", {}, "http://127.0.0.1:5000"),
        ("[::1]:5000", {}, "http://[::1]:5000"),
        ("localhost.example.com", {}, "https://localhost.example.com"),
        ("docker.io", {}, "https://registry-1.docker.io"),
        ("index.docker.io", {}, "https://registry-1.docker.io"),
    ],
)
def test_how_a_host_is_asked(host, options, origin):
    assert connect(host, **options).origin == origin


def test_local_host_with_a_ca_is_asked_by_https(certificate):
    assert connect("localhost:5000", ca_cert=certificate.path).origin == "https://localhost:5000"


def test_names_of_dockers_own_registry_are_one():
    assert {connect(n).host for n in ("docker.io", "index.docker.io")} == {"docker.io"}


def test_own_ca_is_believed(secure, login, certificate):
    client = Client(secure.server, login, ca_cert=certificate.path)
    blob = make_blob()

    client.push("tls/own", blob)

    assert client.find_digest("tls/own", "1") == make_manifest(blob).digest


def test_upload_stays_with_https_where_the_registry_says_http(secure, login, certificate):
    seen = []
    secure.rewrite = lambda _seen, answer: (seen.append(answer[1].get("Location", "")), answer)[1]
    client = Client(secure.server, login, ca_cert=certificate.path)
    blob = make_blob()

    assert client.send_blob("tls/location", digest(blob), blob) == len(blob)
    assert any(location.startswith("http://") for location in seen)


def test_ca_of_the_environment_is_believed(secure, login, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))

    assert not Client(secure.server, login).has_blob("tls/x", digest(b"none"))


def test_own_ca_is_believed_beside_that_of_the_environment(
    secure, login, certificate, monkeypatch, tmp_path
):
    other = make_certificate(tmp_path, ["DNS:elsewhere"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.path))

    client = Client(secure.server, login, ca_cert=certificate.path)

    assert not client.has_blob("tls/x", digest(b"none"))


def test_certificate_that_nobody_knows(secure, login):
    with pytest.raises(
        ToolError, match="the CA of the registry's certificate is not trusted"
    ) as caught:
        Client(secure.server, login).has_blob("tls/x", digest(b""))

    assert "registry.ca_cert" in caught.value.tip
    assert secure.seen == []


def test_certificate_for_another_name(registry, tmp_path):
    other = make_certificate(tmp_path, ["DNS:elsewhere"])
    with (
        FaultProxy(registry.port, host=NOT_LOCAL, tls=other.make_context()) as proxy,
        pytest.raises(ToolError, match="is for another name"),
    ):
        Client(proxy.server, ca_cert=other.path).has_blob("tls/x", digest(b""))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)

    with pytest.raises(SettingsError, match=r"ca\.pem cannot be read") as caught:
        Client("registry.invalid", ca_cert=path).has_blob("x", digest(b""))

    assert "registry.ca_cert" in caught.value.tip


def test_registry_that_speaks_plain_http(registry):
    with (
        FaultProxy(registry.port, host=NOT_LOCAL) as proxy,
        pytest.raises(ToolError, match="uses plain http") as caught,
    ):
        Client(proxy.server).has_blob("tls/x", digest(b""))

    assert "registry.insecure" in caught.value.tip


def test_plain_http_where_the_settings_say_so(registry):
    with FaultProxy(registry.port, host=NOT_LOCAL) as proxy:
        login = RegistryLogin(proxy.server, registry.username, registry.password)

        assert not Client(proxy.server, login, insecure=True).has_blob("tls/x", digest(b"none"))


@pytest.mark.parametrize(
    "answer",
    [
        Reply(
            400, {"Content-Type": "text/plain"}, b"Client sent an HTTP request to an HTTPS server."
        ),
        Reply(
            400,
            {"Content-Type": "text/html"},
            b"<center>The plain HTTP request was sent to HTTPS port</center>",
        ),
    ],
)
def test_registry_that_speaks_https(answer):
    with FaultProxy(0) as proxy:
        proxy.break_next("GET", answer)

        with pytest.raises(ToolError, match="uses https"):
            Client(proxy.server).read_blob("tls/x", digest(b""))


def test_redirect_to_plain_http_is_not_followed(secure, login, certificate):
    with FaultProxy(0) as storage:
        secure.break_next("GET", Reply(307, {"Location": f"http://{storage.server}/far"}))

        with pytest.raises(ToolError, match="from https to plain http"):
            Client(secure.server, login, ca_cert=certificate.path).read_blob("x", digest(b""))

    assert storage.seen == []


def test_proxy_that_does_not_let_through(monkeypatch):
    with FaultProxy(0) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.server}")

        proxy.break_next("CONNECT", Reply(407))

        with pytest.raises(ToolError, match="through the proxy") as caught:
            Client("registry.invalid").has_blob("x", digest(b""))

    assert "HTTPS_PROXY" in caught.value.tip


def test_own_ca_is_believed_through_a_proxy(secure, login, certificate, monkeypatch):
    with FaultProxy(0) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.server}")
        client = Client(secure.server, login, ca_cert=certificate.path)

        assert not client.has_blob("tls/x", digest(b"none"))

    assert proxy.count(f"CONNECT {secure.server}") == 1
    assert secure.count("HEAD") == 2
    assert "Authorization" not in proxy.seen[0].headers


def test_proxy_that_is_not_there(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    with pytest.raises(ToolError, match="through the proxy"):
        Client("registry.invalid").has_blob("x", digest(b""))


def test_proxy_is_not_asked_for_this_machine(registry, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    client = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )

    assert not client.has_blob("tls/x", digest(b"none"))
