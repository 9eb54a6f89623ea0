"""Every way to prove who we are, seen to take effect: the server takes the request, or does not."""

import base64
import json
import socket
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fftasks.config.tree import KFPSettings
from fftasks.errors import SettingsError, ToolError
from fftasks.kfp import authentication as kfp_identity
from fftasks.kfp.client import fetch_runs, read_run_state
from tests.services.kfp_server import KFPServer, make_certificate
from tests.services.serving import serve

PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch):
    monkeypatch.setattr(kfp_identity, "_cache", {})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server():
    with KFPServer(token="s3cret") as server:
        yield server


def ask(host, **changes):
    """Send a request as the settings say; raise if it is refused."""
    return fetch_runs(KFPSettings(host=host, timeout_s=5, **changes), 1)


def test_without_an_identity_the_server_refuses(server):
    with pytest.raises(ToolError, match="401"):
        ask(server.url)


@pytest.mark.parametrize("auth", ["", "service-account"])
def test_token_file(server, tmp_path, auth):
    (tmp_path / "token").write_text("s3cret\n")

    ask(server.url, auth=auth, token_file=str(tmp_path / "token"))


def test_token_of_a_pod_is_read_again_when_it_is_renewed(server, tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text("old")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(path))
    with pytest.raises(ToolError, match="401"):
        ask(server.url, auth="service-account")

    path.write_text("s3cret")

    ask(server.url, auth="service-account")


def test_places_are_those_of_kfp():
    from kfp import client
    from kfp.client.client import Client

    assert client.KF_PIPELINES_SA_TOKEN_ENV == kfp_identity.TOKEN_VARIABLE
    assert client.KF_PIPELINES_SA_TOKEN_PATH == kfp_identity.TOKEN_PATH
    assert f"http://{Client._IN_CLUSTER_DNS_NAME}" == kfp_identity.SERVICE


def test_pod_without_a_token_says_which_file(server):
    with pytest.raises(SettingsError, match=r"/var/run/secrets/kubeflow/pipelines/token"):
        ask(server.url, auth="service-account")


@pytest.mark.parametrize("token", ["s3cret", ""])
def test_in_cluster_the_service_is_known(server, tmp_path, monkeypatch, token):
    if token:
        (tmp_path / "token").write_text(token)
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    server.token = token
    asked = []

    def find(host, port, *rest, **options):
        asked.append((host, port))
        place = ("127.0.0.1", server._http.server_port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)]

    monkeypatch.setattr(socket, "getaddrinfo", find)  # the cluster's name service

    ask("http://elsewhere.invalid", auth="in-cluster", kube_namespace="kf")

    assert set(asked) == {("ml-pipeline.kf.svc.cluster.local", 8888)}


def write_kubeconfig(folder, server, user, ca=""):
    cluster = {"server": server, **({"certificate-authority-data": ca} if ca else {})}
    context = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}, {"name": "nobody", "user": {"token": "wr0ng"}}],
        "contexts": [
            {"name": "mine", "context": context},
            {"name": "other", "context": {**context, "user": "nobody"}},
        ],
        "current-context": "other",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def test_kubeconfig_goes_through_the_proxy_with_the_contexts_token(
    tmp_path, monkeypatch, certificate
):
    ca = base64.b64encode(certificate[0].read_bytes()).decode()
    with KFPServer(token="s3cret", prefix=PROXY, certificate=certificate) as server:
        path = write_kubeconfig(tmp_path, server.url, {"token": "s3cret"}, ca)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)

        ask("", auth="kubeconfig", kube_context="mine")

        with pytest.raises(ToolError, match="401"):
            ask("", auth="kubeconfig")
        with pytest.raises(SettingsError, match="kubectl's configuration cannot be used"):
            ask("", auth="kubeconfig", kube_context="none such")


def test_no_kubeconfig_is_a_matter_of_settings(tmp_path, monkeypatch):
    path = str(tmp_path / "none")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)

    with pytest.raises(SettingsError, match="kubectl's configuration") as caught:
        ask("", auth="kubeconfig")

    assert "kubectl get pods" in caught.value.tip


@contextmanager
def google(answers):
    """Answer as Google's token service does; give its address and the forms that it was sent."""
    forms = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            forms.append(dict(urllib.parse.parse_qsl(body)))
            status, answer = answers(forms[-1])
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with serve(Handler) as port:
        yield f"http://localhost:{port}/token", forms


def answer_tokens(form):
    if "refresh_token" in form and form["refresh_token"] != "mine":
        return 400, {"error": "invalid_grant"}
    return 200, {"id_token": "s3cret", "access_token": "s3cret", "expires_in": 3600}


@pytest.fixture
def account(tmp_path, monkeypatch, certificate):
    """Give the address of a fake of Google that knows this machine's account."""
    with google(answer_tokens) as (url, forms):
        monkeypatch.setattr("kfp.client.auth.OAUTH_TOKEN_URI", url)
        key = Path(certificate[1]).read_text()
        content = {
            "type": "service_account",
            "client_email": "me@example.iam",
            "private_key_id": "1",
            "private_key": key,
            "token_uri": url,
            "project_id": "p",
        }
        (tmp_path / "account.json").write_text(json.dumps(content))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        yield forms


def test_iap_with_a_service_account(server, account):
    for _ in range(2):
        ask(server.url, auth="iap", iap_client_id="proxy")

    claims = account[-1]["assertion"].split(".")[1]
    sent = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert sent["target_audience"] == "proxy"
    assert len(account) == 2  # a bootstrap and the token, and nothing for the second request


def test_iap_as_a_user_leaves_nothing_in_the_home(server, account):
    user = {"iap_user_client_id": "desktop", "iap_user_client_secret": "x"}
    ask(server.url, auth="iap", iap_client_id="proxy", iap_refresh_token="mine", **user)

    assert account == [
        {
            "client_id": "desktop",
            "client_secret": "x",
            "refresh_token": "mine",
            "grant_type": "refresh_token",
            "audience": "proxy",
        }
    ]
    assert not list(Path.home().rglob("credentials.json"))


def test_iap_that_gives_no_token_says_what_to_set(server, account):
    with pytest.raises(SettingsError, match="no token from Google") as caught:
        ask(server.url, auth="iap", iap_client_id="proxy", iap_refresh_token="stale")

    assert "kfp.iap_refresh_token" in caught.value.tip
    assert "stale" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"kfp\.iap_client_id is not set"):
        ask(server.url, auth="iap")


def test_account_of_google(server, account):
    ask(server.url, auth="google")

    assert len(account) == 1


def test_token_of_the_settings_wins(server):
    ask(server.url, auth="kubeconfig", token="s3cret")


def test_state_of_a_run_is_asked_for_with_the_same_identity(server, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("s3cret")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))

    assert read_run_state(KFPSettings(host=server.url, auth="service-account"), "none") == "DELETED"


def test_links_lead_to_the_page():
    from fftasks.kfp.authentication import read_access

    settings = KFPSettings(host="http://api.test:8888", page="https://page.test/pipeline/#/runs")

    assert read_access(settings).page == "https://page.test/pipeline"
