"""The user's own kubectl, against a server that answers as the API server of Kubernetes does."""

import http.server
import json
import os
import shutil
import threading

import pytest

from fftasks.errors import ToolError
from fftasks.ports.kubectl import Kubectl
from fftasks.settings import KFPSettings

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "flow-1", "namespace": "me"},
       "spec": {"containers": [{"name": "main", "image": "x"}, {"name": "wait", "image": "y"}]},
       "status": {"phase": "Pending"}}  # fmt: skip
EVENTS = {"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": [
    {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "me"}, "type": "Warning",
     "involvedObject": {"kind": "Pod", "name": "flow-1"}, "reason": "FailedMount"}]}  # fmt: skip
RESOURCES = [
    {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
    {
        "name": "events",
        "singularName": "event",
        "namespaced": True,
        "kind": "Event",
        "verbs": ["list"],
    },
]
ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": RESOURCES},
    "/api/v1/namespaces/me/pods/flow-1": POD,
    "/api/v1/namespaces/me/pods/flow-1/log": "what it printed\n",
    "/api/v1/namespaces/me/events": EVENTS,
}


class Handler(http.server.BaseHTTPRequestHandler):
    status = 404

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.asked.append((path, query))
        answer = ANSWERS.get(path)
        status = 200 if answer is not None else self.server.refusal
        if answer is None:
            reason = {404: "NotFound", 403: "Forbidden"}[status]
            answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
                      "message": f"pods {path!r}: {reason}", "code": status}  # fmt: skip
        is_text = isinstance(answer, str)
        body = (answer if is_text else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Give an API server that kubectl is told of by KUBECONFIG."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.refusal = [], 404
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps what it has discovered
    yield server
    server.shutdown()
    server.server_close()


def test_a_pod_its_log_and_its_events_are_read(cluster):
    kubectl = Kubectl(KFPSettings(namespace="me"))

    assert kubectl.read_pod("flow-1")["status"] == {"phase": "Pending"}
    assert kubectl.read_log("flow-1") == "what it printed\n"
    assert [event["reason"] for event in kubectl.read_events("flow-1")] == ["FailedMount"]
    asked = dict(cluster.asked)
    assert "container=main" in asked["/api/v1/namespaces/me/pods/flow-1/log"]
    assert "involvedObject.name%3Dflow-1" in asked["/api/v1/namespaces/me/events"]


def test_a_pod_that_is_gone_is_none(cluster):
    kubectl = Kubectl(KFPSettings(namespace="me"))

    assert kubectl.read_pod("flow-2") is None
    assert kubectl.read_log("flow-2") is None


def test_a_refusal_is_an_error(cluster):
    cluster.refusal = 403

    with pytest.raises(ToolError, match="kubectl cannot read from the cluster") as caught:
        Kubectl(KFPSettings(namespace="me")).read_pod("flow-2")

    assert "Forbidden" in caught.value.found[0]


def test_a_context_that_there_is_not_is_an_error(cluster):
    with pytest.raises(ToolError) as caught:
        Kubectl(KFPSettings(namespace="me", kube_context="nowhere")).read_log("flow-1")

    assert "nowhere" in caught.value.found[0]


def test_without_the_program_nothing_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not Kubectl(KFPSettings()).is_there
    assert os.environ["PATH"] == str(tmp_path)
