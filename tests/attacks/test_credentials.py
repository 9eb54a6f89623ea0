"""No credential is sent to a server that it does not belong to, nor where others on the network can read it.

Real servers on this machine record what they are sent. Names are resolved by a name service of the test,
which finds all of them on this machine, so that a name behaves like one somewhere else.
"""

from __future__ import annotations

import json
import logging
import socket
import stat
import subprocess
import sys
import traceback
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fftasks.cli.doctor import check_engine, check_kfp, check_registry, run_checks
from fftasks.config.tree import KFPSettings, ObjectStoreSettings
from fftasks.errors import SettingsError, ToolError
from fftasks.http.origin import (
    is_cluster_internal,
    is_google,
    is_loopback,
    is_same_origin,
    is_same_site,
    parse_origin,
    parse_url,
)
from fftasks.image.builders import make_registry
from fftasks.image.requirements import check_index_urls
from fftasks.kfp import authentication as kfp_identity
from fftasks.kfp.authentication import make_headers, read_access
from fftasks.kfp.client import (
    cancel_run,
    fetch_artifact_text,
    fetch_log,
    fetch_run,
    fetch_runs,
    read_run_state,
)
from fftasks.kfp.connection import KFPConnection, KFPRequest
from fftasks.kfp.diagnostics import Kubectl
from fftasks.kfp.object_store import ArtifactURI, ObjectStore
from fftasks.project import open_project
from fftasks.registry.registry_auth import RegistryLogin
from tests.kfp.test_credentials import answer_tokens, google, write_kubeconfig
from tests.sample import Sample
from tests.services.certificate import make_certificate
from tests.services.fault_proxy import FaultProxy, Reply
from tests.services.kfp_server import KFPServer
from tests.services.registry_client import Client, digest
from tests.submitted_project import CHAIN

SECRET = "t0p-s3cret-value"
LOCAL = [
    "http://127.0.0.1:8080",
    "http://127.9.8.7",
    "http://[::1]:8080",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::ffff:127.0.0.1]",
    "http://localhost:8080/pipeline",
    "HTTP://LocalHost.:8080",
    "http://kfp.localhost",
]
INTERNAL = [
    "http://ml-pipeline.kubeflow.svc:8888",
    "http://ML-Pipeline.kubeflow.SVC",
    "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    "http://ml-pipeline.kubeflow.svc.cluster.local.",
]
PLAIN = [
    "http://kfp.example.com",
    "http://kfp.example.com:443",
    "http://192.0.2.7:8080",
    "http://10.0.0.7",
    "http://[2001:db8::7]",
    "http://[fe80::1%25eth0]",
    "http://[::ffff:192.0.2.7]",
    "http://0.0.0.0:8080",
    "http://kfp",
    "http://ml-pipeline.kubeflow",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://notlocalhost",
    "http://svc",
    "http://svc.example.com",
    "http://ml-pipeline.kubeflow.svc.example.com",
    "http://ml-pipeline.kubeflow.svc.cluster.local.example.com",
    "http://ml-pipeline.kubeflow.cluster.local",
    "http://ml-pipeline-svc",
    "http://kfp.ex\u00e4mple.com",
    "http://kfp\u3002example\uff0ecom",
]
DISGUISED = [  # programs disagree about the server that these name
    "http://127.1",
    "http://2130706433",
    "http://0x7f000001",
    "http://0x7f.1",
    "http://0177.0.0.1",
    "http://127.0.0.1\\@kfp.example.com",
    "http://127.0.0.1\\.example.com",
    "http://127.0.0.1%2f.example.com",
    "http://local\thost",
    "http://localhost\n.example.com",
    "http://localhost .example.com",
    "http://localhost@kfp.example.com",
    "http://localhost:80@kfp.example.com",
    "http://localhost:80:90",
    "http://localhost:",
    "http://[::1]example.com",
    "http://[::1",
    "http://[localhost]",
    "http://local\u2100host",
    "http://.svc",
    "http://..localhost",
]


def make_settings(host, **changes):
    return KFPSettings(**{"host": host, "timeout_s": 5, **changes})


class Recorder(FaultProxy):
    """A server that notes each request, and gives the same answer to all that no fault is set for."""

    def __init__(self, reply=None, **options):
        super().__init__(0, **options)
        self.answer = reply or Reply(200, {"Content-Type": "application/json"}, b"{}")

    @property
    def port(self):
        return int(self.server.rpartition(":")[2])

    def take_fault(self, seen):
        return super().take_fault(seen) or self.answer

    def shows(self, *secrets):
        """Tell whether one of some secrets, or any header that carries some, was received."""
        text = "\n".join(f"{seen} {dict(seen.headers)}" for seen in self.seen).lower()
        words = (SECRET, "authorization", "cookie:", "'cookie'", *secrets)
        return any(word.lower() in text for word in words)


@pytest.fixture
def other():
    """Give a server that no credential belongs to."""
    with Recorder() as server:
        yield server


@pytest.fixture
def names(monkeypatch):
    """Let every name be found on this machine; give the list of those that were asked for."""
    asked = []
    real = socket.getaddrinfo

    def find(host, port, *rest, **options):
        name = host.decode() if isinstance(host, bytes) else str(host)
        asked.append(name)
        return real("127.0.0.1", port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    return asked


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    hosts = ["kfp.example.com", "registry.example.com", "auth.example.com", "auth.example.net"]
    found = [f"DNS:{name}" for name in hosts]
    return make_certificate(tmp_path_factory.mktemp("tls"), [*found, "IP:127.0.0.1"])


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch):
    monkeypatch.setattr(kfp_identity, "_cache", {})


@pytest.fixture
def account(tmp_path, monkeypatch, certificate):
    """Give the forms that a fake of Google's token service was sent for the account of this machine."""
    with google(answer_tokens) as (url, forms):
        monkeypatch.setattr("kfp.client.auth.OAUTH_TOKEN_URI", url)
        content = {
            "type": "service_account",
            "client_email": "me@example.iam",
            "private_key_id": "1",
            "private_key": Path(certificate.key).read_text(),
            "token_uri": url,
            "project_id": "p",
        }
        (tmp_path / "account.json").write_text(json.dumps(content))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        yield forms


# the rule


@pytest.mark.parametrize("url", LOCAL)
def test_this_machine_is_recognised(url):
    origin = parse_origin(url)

    assert is_loopback(origin.host)
    assert origin.is_protected


@pytest.mark.parametrize("url", INTERNAL)
def test_services_of_the_cluster_are_recognised(url):
    origin = parse_origin(url)

    assert is_cluster_internal(origin.host)
    assert origin.is_protected


@pytest.mark.parametrize("url", PLAIN)
def test_plain_http_elsewhere_is_not_protected_and_https_is(url):
    assert not parse_origin(url).is_protected
    assert parse_origin(url.replace("http:", "https:")).is_protected


@pytest.mark.parametrize("url", DISGUISED)
def test_an_address_that_programs_read_differently_is_refused_or_the_same_for_all(url):
    """Where it is accepted, urllib, urllib3 and requests connect to the host that was judged."""
    import urllib.parse

    import requests
    import urllib3

    try:
        origin, clean = parse_url(url)
    except ValueError:
        return
    found = {
        urllib.parse.urlsplit(clean).hostname,
        urllib3.util.parse_url(clean).host,
        urllib3.util.parse_url(requests.Request("GET", clean).prepare().url).host,
    }
    assert {host.removesuffix(".") for host in found} == {origin.host}


@pytest.mark.parametrize(
    "url",
    [
        *LOCAL,
        *INTERNAL,
        *(one for one in PLAIN if "eth0" not in one),
        "https://B\u00fccher.example:8443/x",
    ],
)
def test_every_client_connects_to_the_host_that_was_judged(url):
    import urllib.parse

    import requests
    import urllib3

    origin, clean = parse_url(url)
    found = {
        urllib.parse.urlsplit(clean).hostname,
        urllib3.util.parse_url(clean).host.strip("[]"),
        urllib3.util.parse_url(requests.Request("GET", clean).prepare().url).host.strip("[]"),
    }

    assert {host.removesuffix(".") for host in found} == {origin.host}
    assert clean.isascii()


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("https://kfp.example.com", "HTTPS://KFP.Example.COM:443/a?b#c", True),
        ("https://kfp.example.com.", "https://kfp.example.com", True),
        ("http://[::1]:80", "http://[0::1]", True),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example", True),
        ("https://kfp.example.com", "https://kfp.example.com:8443", False),
        ("https://kfp.example.com", "http://kfp.example.com", False),
        ("https://kfp.example.com", "http://kfp.example.com:443", False),
        ("https://kfp.example.com", "https://kfp.example.com.evil.test", False),
        ("https://kfp.example.com", "https://me@kfp.example.com", False),
        ("https://kfp.example.com", "https://evil.test/https://kfp.example.com", False),
        ("https://kfp.example.com", "https://kfp.example.com\\@evil.test", False),
        ("https://kfp.example.com", "https://kfp.example.com@evil.test", False),
        ("https://kfp.example.com", "//kfp.example.com", False),
        ("http://127.0.0.1", "http://localhost", False),
        ("https://k.example", "https://\u212a.example", True),  # the sign for kelvin is a k
    ],
)
def test_an_origin_is_scheme_host_and_port(one, two, same):
    assert is_same_origin(two, parse_origin(one)) is same


@pytest.mark.parametrize(
    ("host", "is_theirs"),
    [
        ("7a1b-dot-europe-west1.pipelines.googleusercontent.com", True),
        ("7a1b-dot-us-central1.notebooks.googleusercontent.com", True),
        ("storage.googleapis.com", True),
        ("europe-west1-aiplatform.googleapis.com", True),
        ("7.2.0.192.bc.googleusercontent.com", False),  # the machine of some customer
        ("googleusercontent.com.evil.test", False),
        ("evilpipelines.googleusercontent.com", False),
        ("pipelines-googleusercontent.com", False),
        ("x.pipelinesxgoogleusercontent.com", False),
        ("evilgoogleapis.com", False),
        ("googleapis.com.evil.test", False),
        ("my-app.appspot.com", False),
        ("my-app.web.app", False),
        ("my-app-uc.a.run.app", False),
        ("sites.google.com", False),
    ],
)
def test_hosts_of_google_are_those_where_google_itself_answers(host, is_theirs):
    assert is_google(parse_origin(f"https://{host}").host) is is_theirs


@pytest.mark.parametrize(
    ("registry", "server", "same"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.digitalocean.com", "api.digitalocean.com", True),
        ("docker.elastic.co", "docker-auth.elastic.co", True),
        ("ghcr.io", "ghcr.io", True),
        ("registry.team.example.co.uk", "auth.example.co.uk", True),
        ("localhost", "127.0.0.1", True),
        ("registry.example.com", "auth.example.net", False),
        ("registry.example.com", "registry.example.com.evil.test", False),
        ("registry.example.com", "evilexample.com", False),
        ("example.co.uk", "evil.co.uk", False),
        ("example.com.au", "evil.com.au", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("10.0.0.7", "1.0.0.7", False),
        ("registry", "auth", False),
        ("localhost", "auth.example.com", False),
        ("registry.example.com", "localhost", False),
    ],
)
def test_a_site_is_the_domain_of_one_owner(registry, server, same):
    assert is_same_site(registry, server) is same
    assert is_same_site(server, registry) is same


# Kubeflow Pipelines: over which connections


def make_credential(kind, folder):
    """Return the settings of a kind of credential; each would be found."""
    path = folder / "token"
    path.write_text(SECRET)
    return {
        "token": {"token": SECRET},
        "token file": {"token_file": str(path)},
        "cookies": {"cookies": f"session={SECRET}"},
        "service-account": {"auth": "service-account", "token_file": str(path)},
        "iap": {"auth": "iap", "iap_client_id": "proxy"},
        "google": {"auth": "google"},
    }[kind]


KINDS = ["token", "token file", "cookies", "service-account", "iap", "google"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", PLAIN)
def test_no_credential_goes_over_plain_http_and_nobody_is_asked_for_one(
    tmp_path, names, account, host, kind
):
    settings = make_settings(host, **make_credential(kind, tmp_path))

    with pytest.raises(SettingsError) as caught:
        fetch_runs(settings, 1)
    assert read_run_state(settings, "run") is None

    assert names == []
    assert account == []
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown + repr(caught.value) + repr(caught.value.args)
    if kind != "google":
        assert "without encryption" in str(caught.value)
        assert "kfp.insecure: true" in caught.value.tip
        assert "https://" in caught.value.tip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", DISGUISED)
def test_no_credential_goes_to_a_disguised_address(tmp_path, names, account, host, kind):
    if host == "http://localhost:":  # means port 80 for everybody
        return
    with pytest.raises(SettingsError, match=r"kfp\.host"):
        fetch_runs(make_settings(host, **make_credential(kind, tmp_path)), 1)

    assert names == []
    assert account == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "google"])
@pytest.mark.parametrize("host", [*LOCAL, *INTERNAL, "https://kfp.example.com"])
def test_credentials_are_found_for_protected_hosts(tmp_path, account, host, kind):
    access = read_access(make_settings(host, **make_credential(kind, tmp_path)))

    assert {"Authorization", "Cookie"} & make_headers(access).keys()


def test_plain_http_without_credentials_stays_possible(names, other):
    fetch_runs(make_settings(f"http://kfp.example.com:{other.port}"), 1)

    assert len(other.seen) == 1
    assert not other.shows()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "google"])
def test_the_user_may_permit_plain_http(tmp_path, names, account, other, kind):
    host = f"http://kfp.example.com:{other.port}"
    settings = make_settings(host, insecure=True, **make_credential(kind, tmp_path))

    fetch_runs(settings, 1)

    assert set(names) <= {"kfp.example.com", "localhost"}
    assert {"Authorization", "Cookie"} & other.seen[0].headers.keys()


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "https://kfp.example.com",
        "https://ml-pipeline.kubeflow.svc",
        "http://ml-pipeline.kubeflow.svc:8888",
        "http://kfp.example.com",
        "http://7a1b.pipelines.googleusercontent.com",
        "https://7.2.0.192.bc.googleusercontent.com",
        "https://pipelines.googleusercontent.com.evil.test",
        "https://evilpipelines.googleusercontent.com",
        "https://pipelines.googleusercontent.com@evil.test",
        "https://evil.test/x.pipelines.googleusercontent.com",
        "https://evil.test#.pipelines.googleusercontent.com",
        "https://evil.test\\.pipelines.googleusercontent.com",
    ],
)
def test_googles_token_goes_to_no_other_host_whatever_is_permitted(names, account, host, insecure):
    with pytest.raises(SettingsError) as caught:
        fetch_runs(make_settings(host, auth="google", insecure=insecure), 1)

    assert names == []
    assert account == []
    assert "kfp.insecure" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "https://7a1b-dot-europe-west1.pipelines.googleusercontent.com",
        "https://7A1B-dot-europe-west1.Pipelines.GoogleUserContent.com:443/",
        "http://localhost:8080",
    ],
)
def test_googles_token_is_for_googles_hosts_and_tunnels_of_this_machine(account, host):
    assert read_access(make_settings(host, auth="google")).token


def test_a_certificate_that_is_not_checked_is_the_users_choice(certificate, tmp_path, names):
    with Recorder(tls=certificate.make_context()) as server:
        host = f"https://other.example.org:{server.port}"
        fetch_runs(make_settings(host, token=SECRET, verify_ssl=False), 1)

        with pytest.raises(ToolError, match="TLS"):
            fetch_runs(make_settings(host, token=SECRET), 1)

    assert [seen.headers["Authorization"] for seen in server.seen] == [f"Bearer {SECRET}"]


# Kubeflow Pipelines: other servers


def write_program(folder):
    """Write a program that gives kubectl a token; return the user's entry, and a file that it makes."""
    mark = folder / "ran"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": SECRET},
    }
    program = folder / "give-token"
    program.write_text(f"#!/bin/sh\ntouch {mark}\necho '{json.dumps(answer)}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    version = "client.authentication.k8s.io/v1"
    exec_ = {"apiVersion": version, "command": str(program), "interactiveMode": "Never"}
    return {"exec": exec_}, mark


def use_kubeconfig(folder, monkeypatch, server, user):
    path = write_kubeconfig(folder, server, user)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    return {"auth": "kubeconfig", "kube_context": "mine"}


@pytest.mark.parametrize("user", ["token", "program"])
def test_kubectls_token_goes_only_to_its_own_server_and_no_program_runs_for_plain_http(
    tmp_path, monkeypatch, names, other, user
):
    entry, mark = (
        write_program(tmp_path) if user == "program" else ({"token": SECRET}, tmp_path / "x")
    )
    server = f"http://cluster.example.com:{other.port}"
    auth = use_kubeconfig(tmp_path, monkeypatch, server, entry)

    with pytest.raises(SettingsError, match="without encryption"):
        fetch_runs(make_settings("https://kfp.example.com", **auth), 1)

    assert not mark.exists()
    assert names == []

    fetch_runs(make_settings("https://kfp.example.com", insecure=True, **auth), 1)

    assert mark.exists() is (user == "program")
    assert other.seen[0].headers["Authorization"] == f"Bearer {SECRET}"
    with pytest.raises(SettingsError, match="without encryption"):  # also when the token is known
        fetch_runs(make_settings("https://kfp.example.com", **auth), 1)
    assert len(other.seen) == 1


def test_a_kubeconfig_without_a_user_needs_no_encryption(tmp_path, monkeypatch, names, other):
    auth = use_kubeconfig(tmp_path, monkeypatch, f"http://proxy.example.com:{other.port}", {})

    fetch_runs(make_settings("", **auth), 1)

    assert not other.shows()


def test_cookies_of_the_host_do_not_go_to_the_server_of_kubectl(tmp_path, monkeypatch, other):
    auth = use_kubeconfig(tmp_path, monkeypatch, f"http://{other.server}", {"token": "for-kubectl"})

    fetch_runs(make_settings("https://kfp.example.com", cookies=f"session={SECRET}", **auth), 1)

    assert other.seen[0].headers["Authorization"] == "Bearer for-kubectl"
    assert "Cookie" not in other.seen[0].headers
    assert SECRET not in str(other.seen[0].headers)


@pytest.mark.parametrize(
    "namespace", ["x.evil.test/", "x.evil.test:80#", "x@evil.test/", "..", "a/b?"]
)
def test_the_namespace_of_the_cluster_names_no_other_server(
    tmp_path, monkeypatch, names, namespace
):
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))

    with pytest.raises(SettingsError):
        fetch_runs(make_settings("", auth="in-cluster", kube_namespace=namespace), 1)

    assert names == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "kind", ["other port", "other name", "other scheme", "no scheme", "user name"]
)
def test_a_redirect_of_the_host_carries_nothing_elsewhere(other, names, status, kind):
    location = (
        {
            "other port": f"http://127.0.0.1:{other.port}/login",
            "other name": f"http://login.example.com:{other.port}/login",
            "other scheme": "https://127.0.0.1/login",
            "no scheme": f"//127.0.0.1:{other.port}/login",
            "user name": f"http://me:pw@127.0.0.1:{other.port}/login",
        }[kind]
        + "?state="
        + SECRET
    )
    with Recorder(Reply(status, {"Location": location})) as host:
        settings = make_settings(
            f"http://127.0.0.1:{host.port}", token=SECRET, cookies=f"a={SECRET}"
        )
        questions = [
            KFPRequest("GET", "/x"),
            KFPRequest("POST", "/x", body={"a": 1}),
            KFPRequest("POST", "/x", fields={"file": ("f", b"content", "text/plain")}),
            KFPRequest("POST", "/x", content=("text/plain", b"content")),
            KFPRequest("DELETE", "/x"),
        ]
        with closing(KFPConnection(read_access(settings))) as connection:
            for question in questions:
                with pytest.raises(ToolError) as caught:
                    connection.ask("cannot ask", question)
                assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert read_run_state(settings, "run") is None

    assert other.seen == []
    assert [seen.headers["Authorization"] for seen in host.seen] == [f"Bearer {SECRET}"] * 6


def test_a_redirect_to_another_server_is_explained(other):
    elsewhere = Reply(302, {"Location": f"http://{other.server}/dex?state=x"})
    with Recorder(elsewhere) as host, pytest.raises(ToolError) as caught:
        fetch_runs(make_settings(f"http://{host.server}", token=SECRET), 1)

    assert f"go to http://{other.server}/dex, which is on another server" in str(caught.value)
    assert "kfp.token" in caught.value.tip


def test_a_redirect_to_tls_says_which_address_to_set(names):
    with Recorder() as host:
        url = f"http://kfp.example.com:{host.port}"
        host.answer = Reply(301, {"Location": "https://kfp.example.com/apis"})
        with pytest.raises(ToolError) as caught:
            fetch_runs(make_settings(url), 1)

    assert "https://kfp.example.com" in caught.value.tip


@pytest.mark.parametrize(
    "text",
    ["/../../x", "@127.0.0.1:{port}/", ":80@127.0.0.1:{port}/x", "//127.0.0.1:{port}/", "?a#b"],
)
def test_what_the_cluster_names_does_not_lead_to_another_server(other, text):
    with KFPServer(token=SECRET) as server:
        settings = make_settings(server.url, token=SECRET)
        name = text.format(port=other.port)
        for ask in (
            lambda: fetch_run(settings, name),
            lambda: cancel_run(settings, name),
            lambda: fetch_log(settings, {"run_id": name, "created_at": name}, name),
            lambda: fetch_artifact_text(settings, ArtifactURI.parse(f"minio://bucket/{name}")),
        ):
            with suppress(ToolError):
                ask()

    assert other.seen == []
    assert len(server.requests) >= 3


@pytest.mark.parametrize("path", ["@127.0.0.1:{port}/x", ".example.com/x", ":1/x"])
def test_a_connection_cannot_be_led_away(other, path):
    path = path.format(port=other.port)
    with Recorder() as host:
        access = read_access(make_settings(f"http://127.0.0.1:{host.port}", token=SECRET))
        with closing(KFPConnection(access)) as connection:
            for base in (None, "", path):
                with pytest.raises(ValueError, match="origin"):
                    connection.send("look", KFPRequest("GET", path, base=base))

    assert host.seen == other.seen == []


def test_nothing_that_is_logged_for_debugging_shows_a_credential(caplog):
    caplog.set_level(logging.DEBUG, logger="urllib3")
    with KFPServer(token=SECRET) as server:
        fetch_runs(make_settings(server.url, token=SECRET, cookies=f"a={SECRET}"), 1)

    assert "healthz" in caplog.text or "/apis/" in caplog.text  # there is something to look at
    assert SECRET not in caplog.text


# commands


@pytest.fixture
def make(tmp_path):
    def make(kfp, registry="{server: registry.test, repository: a/b}"):
        sample = Sample.make(
            tmp_path,
            CHAIN,
        )
        lines = ["workflows: [wf.py]", "image: {base: 'nowhere.test/none:1'}"]
        sample.write("config/default.yaml", "\n".join([*lines, f"registry: {registry}", kfp]))
        return sample

    return make


@pytest.mark.parametrize(
    "kfp",
    [
        "kfp: {host: 'http://kfp.invalid', token: '${TOKEN}'}",
        "kfp: {host: 'http://kfp.invalid', cookies: 'a=${TOKEN}'}",
        "kfp: {host: 'https://kfp.invalid', auth: google, insecure: true}",
    ],
)
def test_submit_and_doctor_say_it_before_anything_is_sent(make, kfp):
    sample = make(kfp)

    submitted = sample.doit("submit", code=1, TOKEN=SECRET)
    looked = sample.doit("doctor", "--json", code=1, TOKEN=SECRET)

    assert "would be sent to" in submitted
    assert not (sample.root / ".fftasks" / "logs" / "image.stage.txt").exists()
    (found,) = [row for row in json.loads(looked) if row["check"] == "KFP host"]
    assert found["level"] == "fail"
    assert "would be sent to" in found["found"]
    assert found["hint"]
    assert SECRET not in submitted + looked


def test_doctor_warns_of_a_certificate_that_is_not_checked(make, certificate):
    with Recorder(tls=certificate.make_context()) as server:
        sample = make(f"kfp: {{host: 'https://{server.server}', token: x, verify_ssl: false}}")
        open_project.cache_clear()
        found = {
            one.check: one for one in run_checks(open_project(sample.root), {"KFP": check_kfp})
        }

    assert found["KFP transport"].level == "warn"
    assert "not verified" in found["KFP transport"].found


def test_doctor_warns_of_plain_http_that_is_permitted(make, names, other):
    host = f"http://kfp.example.com:{other.port}"
    sample = make(f"kfp: {{host: '{host}', token: x, insecure: true}}")
    open_project.cache_clear()
    found = {one.check: one for one in run_checks(open_project(sample.root), {"KFP": check_kfp})}

    assert found["KFP transport"].level == "warn"
    assert "without encryption" in found["KFP transport"].found


def find_warnings(sample, check):
    open_project.cache_clear()
    found = run_checks(open_project(sample.root), {"check": check})
    return [(one.check, one.found) for one in found if one.level == "warn"]


def test_doctor_warns_of_a_login_for_an_insecure_registry(make, names):
    with Recorder(Reply(202, {"Location": "/v2/a/upload"})) as server:
        host = f"registry.example.com:{server.port}"
        sample = make("kfp: {}", f"{{server: '{host}', repository: a, insecure: true}}")
        ((check, found),) = find_warnings(sample, check_registry)

    assert check == "registry"
    assert "without encryption" in found


@pytest.mark.parametrize(("host", "count"), [("engine.example.com", 1), ("127.0.0.1", 0)])
def test_doctor_warns_of_an_engine_that_is_reached_without_encryption(
    make, names, monkeypatch, host, count
):
    version = b'{"ApiVersion": "1.44", "Version": "28", "Os": "linux", "Arch": "amd64"}'
    with Recorder(Reply(200, {"Content-Type": "application/json"}, version)) as engine:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{host}:{engine.port}")
        monkeypatch.setenv("FFTASKS_IMAGE__BUILDER", "docker")
        found = find_warnings(make("kfp: {}"), check_engine)

    assert [check for check, _ in found] == ["engine"] * count


# registries


BASIC = "Basic dXNlcjp0MHAtczNjcmV0LXZhbHVl"  # user and SECRET


@pytest.fixture
def registry(certificate, names):
    """Give a registry at https://registry.example.com that wants a token; its realm is set by tests."""
    with Recorder(tls=certificate.make_context()) as server:
        server.host = f"registry.example.com:{server.port}"
        yield server


def challenge(realm):
    return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})


def connect(registry, certificate, **options):
    login = RegistryLogin(registry.host, "user", SECRET)
    return Client(registry.host, login, ca_cert=certificate.path, **options)


@pytest.fixture
def tokens(certificate, names):
    """Give a token server."""
    reply = Reply(200, {"Content-Type": "application/json"}, b'{"token": "given"}')
    with Recorder(reply, tls=certificate.make_context()) as server:
        yield server


@pytest.mark.parametrize("password", ["password", "refresh token"])
@pytest.mark.parametrize(
    ("host", "options", "is_sent"),
    [
        ("registry.example.com", {}, True),
        ("auth.example.com", {}, True),
        ("auth.example.net", {}, False),
        ("127.0.0.1", {}, False),
        ("auth.example.net", {"token_server": "auth.example.net:{port}"}, True),
        ("auth.example.net", {"token_server": "AUTH.Example.NET:{port}"}, True),
        ("auth.example.net", {"token_server": "https://auth.example.net:{port}/"}, True),
        ("auth.example.net", {"token_server": "http://auth.example.net:{port}"}, False),
        ("auth.example.net", {"token_server": "auth.example.net"}, False),
        ("auth.example.net", {"token_server": "auth.example.org:{port}"}, False),
    ],
)
def test_the_login_goes_to_a_token_server_of_the_same_site_or_of_the_settings(
    registry, tokens, certificate, host, options, is_sent, password
):
    options = {name: value.format(port=tokens.port) for name, value in options.items()}
    registry.break_next("HEAD", challenge(f"https://{host}:{tokens.port}/token"))
    username = "user" if password == "password" else "<token>"
    login = RegistryLogin(registry.host, username, SECRET)
    client = Client(registry.host, login, ca_cert=certificate.path, **options)

    client.has_blob("team/x", digest(b""))

    (asked,) = tokens.seen
    if password == "password":
        assert ("Authorization" in asked.headers) is is_sent
    else:
        assert (asked.method == "POST") is is_sent
    assert registry.seen[-1].headers["Authorization"] == "Bearer given"


def test_a_login_that_was_not_sent_is_explained(registry, tokens, certificate):
    realm = f"https://auth.example.net:{tokens.port}"
    registry.break_next("HEAD", challenge(f"{realm}/token"))
    tokens.answer = Reply(401, {"Content-Type": "application/json"}, b'{"details": "who are you"}')

    with pytest.raises(ToolError) as caught:
        connect(registry, certificate).has_blob("team/x", digest(b""))

    assert f"the login was not sent to the token server that the registry names: {realm}" in str(
        caught.value
    )
    assert "registry.token_server" in caught.value.tip
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "realm",
    [
        "http://{}/token",
        "HTTP://{}/token",
        "ftp://{}",
        "http://user:pw@{}/",
        "https://registry.example.com\\@{}/",
    ],
)
def test_no_token_server_is_asked_in_plain_http_for_a_registry_with_tls(
    registry, other, certificate, realm
):
    registry.break_next("HEAD", challenge(realm.format(other.server)))

    with pytest.raises(ToolError):
        connect(registry, certificate).has_blob("team/x", digest(b""))

    assert other.seen == []


@pytest.mark.parametrize("insecure", [False, True])
def test_a_registry_in_plain_http_does_not_send_the_login_elsewhere_in_plain_http(names, insecure):
    reply = Reply(200, {"Content-Type": "application/json"}, b'{"token": "given"}')
    with Recorder() as server, Recorder(reply) as tokens:
        host = f"registry.example.com:{server.port}" if insecure else f"localhost:{server.port}"
        realm = f"http://auth.example.com:{tokens.port}/token"
        server.break_next("HEAD", challenge(realm))

        Client(host, RegistryLogin(host, "user", SECRET), insecure=insecure).has_blob(
            "x", digest(b"")
        )

    assert len(tokens.seen) == 1
    assert not tokens.shows(BASIC)


def test_the_own_host_of_an_insecure_registry_may_be_its_token_server(names):
    reply = Reply(200, {"Content-Type": "application/json"}, b'{"token": "given"}')
    with Recorder() as server, Recorder(reply) as tokens:
        host = f"registry.example.com:{server.port}"
        server.break_next("HEAD", challenge(f"http://registry.example.com:{tokens.port}/token"))

        Client(host, RegistryLogin(host, "user", SECRET), insecure=True).has_blob("x", digest(b""))

    assert tokens.seen[0].headers["Authorization"] == BASIC


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "name", ["registry.example.com", "REGISTRY.example.com", "auth.example.com"]
)
def test_a_download_that_is_redirected_takes_no_login_along(
    registry, tokens, certificate, status, name
):
    blob = b"a layer"
    storage = tokens
    storage.answer = Reply(200, {"Content-Type": "application/octet-stream"}, blob)
    registry.break_next("GET", Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    registry.break_next("GET", Reply(status, {"Location": f"https://{name}:{storage.port}/far"}))

    assert connect(registry, certificate).read_blob("x", digest(blob)) == blob
    assert registry.seen[-1].headers["Authorization"] == BASIC
    assert len(storage.seen) == 1
    assert not storage.shows(BASIC)


def test_an_upload_elsewhere_takes_no_login_along_and_answers_no_challenge(
    registry, tokens, certificate
):
    storage = tokens
    registry.break_next("HEAD", Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}), Reply(404))
    registry.break_next(
        "POST", Reply(202, {"Location": f"https://auth.example.com:{storage.port}/up"})
    )
    storage.break_next("PUT", Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}))

    with pytest.raises(ToolError):
        connect(registry, certificate).send_blob("x", digest(b"y"), b"y")

    assert [seen.method for seen in storage.seen] == ["PUT"]
    assert not storage.shows(BASIC)


def test_a_redirect_to_the_own_host_in_other_letters_keeps_the_login(registry, certificate):
    blob = b"a layer"
    registry.break_next("GET", Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    location = f"https://Registry.EXAMPLE.com:{registry.port}/v2/y"
    registry.break_next("GET", Reply(307, {"Location": location}))
    registry.answer = Reply(200, {"Content-Type": "application/octet-stream"}, blob)

    assert connect(registry, certificate).read_blob("x", digest(blob)) == blob
    assert registry.seen[-1].path == "/v2/y"
    assert registry.seen[-1].headers["Authorization"] == BASIC


@pytest.mark.parametrize("place", ["http://{plain}/x", "https://auth.example.com:{tls}/x"])
def test_a_list_does_not_go_on_at_another_server(registry, tokens, other, certificate, place):
    link = place.format(plain=other.server, tls=tokens.port)
    headers = {"Content-Type": "application/json", "Link": f'<{link}>; rel="next"'}
    registry.break_next("GET", Reply(200, headers, b'{"tags": ["a"]}'))

    with pytest.raises(ToolError):
        connect(registry, certificate).list_tags("x")

    assert other.seen == tokens.seen == []


def test_registry_insecure_is_for_the_registry_of_the_settings_only(make):
    sample = make("kfp: {}", "{server: 'reg.example.com:5000', repository: a, insecure: true}")
    open_project.cache_clear()
    project = open_project(sample.root)

    origins = [
        make_registry(project, host)._connection.origin
        for host in ("reg.example.com:5000", "docker.io", "mirror.example.com")
    ]

    assert origins == [
        "http://reg.example.com:5000",
        "https://registry-1.docker.io",
        "https://mirror.example.com",
    ]


# programs, object stores and package indexes


@pytest.mark.parametrize("option", ["--server=http://{}", "-shttp://{}", "--kubeconfig=/dev/null"])
def test_the_name_of_a_pod_is_no_option_of_kubectl(kubectl, tmp_path, monkeypatch, other, option):
    with Recorder() as cluster:
        path = write_kubeconfig(tmp_path, f"http://{cluster.server}", {"token": SECRET})
        monkeypatch.setenv("KUBECONFIG", path)
        mine = Kubectl(KFPSettings(namespace="me", kube_context="mine"))
        pod = option.format(other.server)

        assert mine.read_pod(pod) is None
        assert mine.read_log(pod) is None
        assert mine.read_events(pod) == []

    assert other.seen == cluster.seen == []


def test_s3_over_plain_http_shows_no_secret_key(other):
    settings = ObjectStoreSettings(
        endpoint=f"http://{other.server}", access_key="me", secret_key=SECRET
    )

    ObjectStore(settings).has(ArtifactURI.parse("s3://bucket/key"))

    assert other.seen
    assert "AWS4-HMAC-SHA256" in other.seen[0].headers["Authorization"]
    assert SECRET not in "".join(f"{seen} {seen.headers}" for seen in other.seen)


@pytest.mark.parametrize(
    "endpoint", ["http://me:{}@minio:9000", "minio:9000", "ftp://minio", "http://127.1"]
)
def test_an_invalid_endpoint_is_named_without_its_password(endpoint):
    settings = ObjectStoreSettings(endpoint=endpoint.format(SECRET), secret_key=SECRET)

    with pytest.raises(SettingsError, match=r"object_store\.endpoint") as caught:
        ObjectStore(settings).has(ArtifactURI.parse("s3://bucket/key"))

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("endpoint", "is_anonymous"),
    [
        ("", False),
        ("https://storage.googleapis.com", False),
        ("http://storage.googleapis.com", True),
        ("https://storage.example.com", True),
        ("http://minio.kubeflow.svc:9000", True),
        ("http://localhost:9000", True),
    ],
)
def test_googles_store_takes_a_token_only_at_googles_hosts(endpoint, is_anonymous):
    from fftasks.kfp.object_store import _make_options

    options = _make_options(ObjectStoreSettings(endpoint=endpoint), "gs")

    assert (options.get("token") == "anon") is is_anonymous


def test_googles_token_does_not_go_to_an_emulator_of_its_store(monkeypatch):
    from fftasks.kfp.object_store import _make_options

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://emulator.example.com")

    assert _make_options(ObjectStoreSettings(), "gs") == {"token": "anon"}


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "OTHER"])
@pytest.mark.parametrize(
    "url",
    [
        "http://me:{}@index.example.com/simple",
        "HTTP://{}@10.0.0.7:8080",
        "a=http://x@svc.example.com",
    ],
)
def test_no_password_of_an_index_goes_over_plain_http(name, url):
    value = f"https://ok:pw@index.example.com/simple {url.format(SECRET)}"

    with pytest.raises(SettingsError, match=f"in {name} would be sent") as caught:
        check_index_urls({name: value})

    assert SECRET not in str(caught.value)
    assert "PIP_TRUSTED_HOST" in caught.value.tip


@pytest.mark.parametrize(
    "environment",
    [
        {"PIP_INDEX_URL": "https://me:pw@index.example.com/simple"},
        {"PIP_INDEX_URL": "http://index.example.com/simple"},
        {"PIP_INDEX_URL": "http://me:pw@localhost:3141/simple"},
        {"PIP_INDEX_URL": "http://me:pw@devpi.tools.svc:3141/simple"},
        {
            "PIP_INDEX_URL": "http://me:pw@index.example.com",
            "PIP_TRUSTED_HOST": "a Index.example.com",
        },
        {"PIP_INDEX_URL": "http://me:pw@10.0.0.7:80", "PIP_TRUSTED_HOST": "10.0.0.7:80"},
        {"HTTPS_PROXY": "http://me:pw@proxy.example.com:3128"},
    ],
)
def test_an_index_that_pip_would_ask_stays_possible(environment):
    check_index_urls(environment)


def test_the_rule_is_cheap_to_load():
    """`doit list` must not pay for it."""
    code = "import sys, fftasks.http.origin; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert not {"requests", "urllib3", "idna", "kfp"} & set(loaded.stdout.split())
