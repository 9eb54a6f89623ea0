"""The user's own kubectl, against a server that answers as the API server of Kubernetes does."""

import pytest

from fftasks.config import KFPSettings
from fftasks.errors import ToolError
from fftasks.kfp.diagnostics import Kubectl
from tests.services.kubernetes_api import KubernetesApi


@pytest.fixture
def cluster(kubectl, tmp_path, monkeypatch):
    """Give an API server with a pod, and tell kubectl about it."""
    with KubernetesApi("me") as api:
        api.add_pod("flow-1", "what it printed\n", phase="Pending")
        api.warn("flow-1", "FailedMount", 'secret "s" not found')
        api.write_config(tmp_path / "config")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield api


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
