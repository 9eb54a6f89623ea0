"""`doit doctor`: each check finds what is wrong, says a hint, and stops no other."""

import json
import os

import pytest

from fftasks.cli.doctor import (
    CHECKS,
    check_base,
    check_engine,
    check_graphs,
    check_kfp,
    check_nodes,
    check_pipeline,
    check_pull,
    check_registry,
    check_settings,
    run_checks,
)
from fftasks.errors import ToolError
from fftasks.project import open_project
from tests.kfp.test_credentials import PROXY, write_kubeconfig
from tests.sample import Sample
from tests.services.kfp_server import Fault, KFPServer
from tests.submitted_project import CHAIN, make_project


def check(sample, *checks):
    """Return what checks find, "check: level" -> finding."""
    open_project.cache_clear()
    project = open_project(sample.root)
    found = run_checks(project, {str(number): one for number, one in enumerate(checks)})
    return {f"{finding.check}: {finding.level}": finding for finding in found}


@pytest.fixture
def server():
    with KFPServer() as server:
        yield server


def test_a_host_that_is_as_it_should_be(tmp_path, server):
    found = check(make_project(tmp_path, server), check_kfp)

    assert list(found) == ["KFP host: ok", "KFP version: ok", "KFP namespace: ok", "KFP access: ok"]
    assert found["KFP version: ok"].found.startswith("2.17.0")
    assert "experiment 'Default'" in found["KFP access: ok"].found


def test_an_experiment_that_is_not_there_will_be_made(tmp_path, server):
    found = check(make_project(tmp_path, server, kfp="  experiment: nightly"), check_kfp)

    assert "will be created" in found["KFP access: ok"].found
    assert server.list_requests("POST") == []


@pytest.mark.parametrize(
    ("options", "settings", "finding", "hint"),
    [
        ({"version": "1.8.5"}, "", "KFP version: fail", "2.0 or newer"),
        ({"version": "2.18.1"}, "", "KFP version: ok", ""),
        ({"version": ""}, "", "KFP version: ok", ""),
        ({"version": "2.16.1"}, "", "KFP version: warn", "set kfp.version: 2.16"),
        ({"version": "2.16.1"}, "  version: 2.16", "KFP version: ok", ""),
        ({"version": "2.17.3"}, "", "KFP version: ok", ""),
        ({"multi_user": True}, "", "KFP namespace: fail", "kfp.namespace"),
        ({"multi_user": True}, "  namespace: me", "KFP namespace: warn", "get namespace me"),
        ({}, "  namespace: me", "KFP namespace: warn", "kfp.host"),
        ({"token": "s3cret"}, "", "KFP host: fail", "kfp.token"),
        ({"token": "s3cret"}, "  token: s3cret", "KFP access: ok", ""),
        ({"cookies": "a=b"}, "", "KFP host: fail", "kfp.cookies"),
        (
            {"multi_user": True, "forbidden_namespaces": frozenset({"me"})},
            "  namespace: me", "KFP access: fail", "kfp.namespace",
        ),
    ],
)  # fmt: skip
def test_what_a_host_does_not_like_is_found(tmp_path, options, settings, finding, hint):
    with KFPServer(**options) as server:
        found = check(make_project(tmp_path, server, kfp=settings), check_kfp)

    assert finding in found
    assert hint in found[finding].hint


def test_a_namespace_is_believed_in_when_something_is_in_it(tmp_path):
    with KFPServer(multi_user=True) as server:
        sample = make_project(tmp_path, server, kfp="  namespace: me")
        server.api._add_experiment({"display_name": "old", "namespace": "me"})

        found = check(sample, check_kfp)

    assert found["KFP namespace: ok"].found == "me"


def test_the_clusters_own_server_knows_its_namespaces(tmp_path, monkeypatch):
    with KFPServer(multi_user=True, prefix=PROXY, namespaces=frozenset({"me"})) as server:
        path = write_kubeconfig(tmp_path, server.url, {"token": "s3cret"})
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        found = {}
        for name in ("me", "nope"):
            kfp = f"  auth: kubeconfig\n  namespace: {name}"
            found |= check(make_project(tmp_path, server, kfp=kfp), check_kfp)

    assert found["KFP namespace: ok"].found == "me"
    assert found["KFP namespace: fail"].found == "namespace 'nope' not found"
    assert "kubectl get namespace nope" in found["KFP namespace: fail"].hint


def test_a_token_that_cannot_be_read_has_a_cure(tmp_path, server):
    found = check(make_project(tmp_path, server, kfp="  token_file: nope.txt"), check_kfp)

    (failure,) = found.values()
    assert (failure.level, "nope.txt" in failure.found) == ("fail", True)
    assert "is the path correct" in failure.hint


def test_settings_for_no_node_are_found(tmp_path, server):
    project = make_project(tmp_path, server, kfp="nodes: {tpyo: {cpu: 2}}")

    found = check(project, check_graphs)

    assert "no node's name matches 'tpyo'" in found["workflows: warn"].found


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 501, 502, 503, 504])
def test_every_refusal_is_one_finding(tmp_path, server, status):
    server.faults.append(Fault(status=status, path="healthz"))
    found = check(make_project(tmp_path, server), check_kfp)

    assert str(status) in found["KFP host: fail"].found
    assert "KFP version: warn" in found


def test_nodes_are_looked_for_in_the_copy(tmp_path, server):
    sample = make_project(tmp_path, server, "import helpers\n" + CHAIN)
    sample.write("helpers.py", "")
    assert "nodes: ok" in check(sample, check_nodes)

    sample.write(".dockerignore", "helpers.py\n")
    found = check(sample, check_nodes)

    assert "No module named 'helpers'" in found["nodes: fail"].found
    assert ".dockerignore" in found["nodes: fail"].hint


def test_a_constant_that_cannot_be_pickled_is_named(tmp_path, server):
    text = CHAIN.replace("double(1)", "double(Odd())").replace(
        "@workflow",
        "class Odd:\n    def __reduce__(self): raise TypeError('not me')\n\n@workflow",
        1,
    )
    found = check(make_project(tmp_path, server, text), check_nodes)

    assert found["constants: fail"].found == (
        "constant x of first node cannot be pickled: TypeError: not me"
    )


def test_run_parameters_are_no_constants(tmp_path, server):
    text = CHAIN.replace("double(1)", 'double(fftasks.Parameter("x", default=1))')
    found = check(make_project(tmp_path, server, "import fftasks\n" + text), check_nodes)

    assert list(found) == ["nodes: ok"]


def test_without_a_registry_none_is_asked(tmp_path, server):
    project = make_project(tmp_path, server)

    found = check(project, check_settings, check_registry, check_pull)

    assert "settings: fail" in found
    assert found["registry: warn"].found == "not checked: registry.server is not set"
    assert found["pull secret: warn"].found == "not checked: registry.server is not set"


@pytest.mark.parametrize("builder", ["auto", "oci"])
def test_without_an_engine_none_is_needed(tmp_path, server, monkeypatch, builder):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    monkeypatch.setenv("FFTASKS_IMAGE__BUILDER", builder)

    found = check(make_project(tmp_path, server), check_engine, check_base)

    assert f"image.builder is {builder}" in found["engine: ok"].found
    assert "no container engine" not in found["1: fail"].found


def test_a_file_that_does_not_import_is_found(tmp_path, server):
    found = check(make_project(tmp_path, server, "1 / 0\n"), check_graphs, check_kfp)

    assert "ZeroDivisionError" in found["0: fail"].found
    assert "KFP host: ok" in found


def test_what_no_container_could_run_is_found(tmp_path, server):
    found = check(
        make_project(tmp_path, server, CHAIN.replace('"second"', '"{{x}}"')), check_pipeline
    )

    assert "cannot run on Kubeflow Pipelines" in found["tasks: fail"].found


def test_a_check_that_goes_wrong_stops_no_other(tmp_path, server):
    def fail(_project):
        raise ToolError("no engine", found=["gone"], tip="start it")
        yield

    def crash(_project):
        raise ValueError("a bug")
        yield

    found = check(make_project(tmp_path, server), fail, crash, check_kfp)

    assert found["0: fail"].found == "no engine; gone"
    assert found["0: fail"].hint == "start it"
    assert "a bug" in found["1: fail"].found
    assert "KFP host: ok" in found


def test_all_is_well_with_real_services(tmp_path, registry, base_image, server, monkeypatch):
    sample = Sample.make(tmp_path, CHAIN)
    sample.write(
        "config/default.yaml",
        f"""
workflows: [wf.py]
image: {{base: "{base_image}"}}
registry:
  server: {registry.server}
  repository: tests/doctor
  username: {registry.credentials["username"]}
  password: ${{REGISTRY_PASSWORD}}
kfp: {{host: "{server.url}"}}
""",
    )
    monkeypatch.setenv("REGISTRY_PASSWORD", registry.credentials["password"])

    findings = json.loads(sample.doit("doctor", "--json"))

    assert {f["check"] for f in findings} >= CHECKS.keys() | {"platform", "KFP access"}
    assert {f["check"] for f in findings if f["level"] == "fail"} == set()
    secret = next(f for f in findings if f["check"] == "pull secret")
    assert secret["level"] == "warn"
    assert "pull_secrets" in secret["hint"]

    sample.write("config/prod.yaml", "nodes: {__default__: {pull_secrets: [regcred]}}\n")
    wrong = {"FFTASKS_REGISTRY__PASSWORD": "wr0ng", "DOCKER_HOST": "unix:///nowhere", **os.environ}
    wrong["FFTASKS_IMAGE__BUILDER"] = "docker"
    output = sample.doit("doctor", code=1, **{"FFTASKS_PROFILE": "prod", **wrong})

    assert "ok    pull secret" in output
    assert "fail  registry" in output
    assert "hint: check registry.username" in output or "registry.password" in output
    assert "wr0ng" not in output
    assert "fail  engine" in output
    assert "ok    KFP access" in output
