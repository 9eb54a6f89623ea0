"""Checks of Kubeflow Pipelines: is it there, is it new enough, and does it take us for somebody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fftasks.doctor.finding import FAIL, OK, WARN, Finding, make_failure
from fftasks.errors import FFTasksError
from fftasks.ports.credentials import parse_origin
from fftasks.ports.kfp import find_experiment, has_namespace
from fftasks.ports.kfp_access import Access
from fftasks.ports.kfp_connection import Connection, Json, connect
from fftasks.ports.kfp_runs import ask_version
from fftasks.project import Project
from fftasks.settings import KFPSettings
from fftasks.stages.limits import choose_cluster

_OLDEST = (2, 0)
_KEYS_FROM = (2, 18)
_REST = ("KFP version", "KFP namespace", "KFP access")


def check_kfp(project: Project) -> Iterator[Finding]:
    """Ask the host what it is, and whether it lets us list experiments."""
    settings = project.settings.kfp
    with connect(settings) as kfp:
        try:
            health = kfp.get("no Kubeflow Pipelines", "/healthz")
        except FFTasksError as error:
            yield make_failure("KFP host", error)
            yield from _check_transport(kfp.access)
            for check in _REST:
                yield Finding(check, WARN, "not looked at: the host does not answer as it should")
            return
        yield Finding("KFP host", OK, kfp.access.host)
        yield from _check_transport(kfp.access)
        yield _check_version(kfp, settings)
        yield _check_namespace(kfp, settings, health)
        yield _check_access(kfp, settings)


def _check_transport(access: Access) -> Iterator[Finding]:
    """Yield a finding for each setting that permits others to read credentials."""
    if not (access.token or access.cookies):
        return
    origin = parse_origin(access.host)
    if not origin.is_protected:
        found = f"kfp.insecure is set: credentials are sent to {origin} without encryption"
        yield Finding("KFP transport", WARN, found, "use https:// in kfp.host")
    elif origin.scheme == "https" and not access.verify_ssl:
        found = f"credentials are sent to {origin}, whose certificate is not checked"
        cure = "set kfp.ca_cert to the file of your own CA, and kfp.verify_ssl: true"
        yield Finding("KFP transport", WARN, found, cure)


def _check_version(kfp: Connection, settings: KFPSettings) -> Finding:
    text = ask_version(kfp)
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if found is None:
        return Finding("KFP version", OK, "not said; 2.0 or newer, as it has the interface v2beta1")
    version = (int(found[1]), int(found[2]))
    if version < _OLDEST:
        cure = "pipelines of fftasks need Kubeflow Pipelines 2.0 or newer"
        return Finding("KFP version", FAIL, text, cure)
    keys = "" if version >= _KEYS_FROM else ", caches by image and arguments"
    if choose_cluster(text) != choose_cluster(settings.version):
        differs = f"the host says {text}, and kfp.version is {settings.version}"
        cure = (
            f"set kfp.version: {version[0]}.{version[1]}, which determines how large a run may be"
        )
        return Finding("KFP version", WARN, differs, cure)
    return Finding("KFP version", OK, f"{text}{keys}")


def _check_namespace(kfp: Connection, settings: KFPSettings, health: Json) -> Finding:
    check, name = "KFP namespace", settings.namespace
    if not health.get("multi_user"):
        if not name:
            return Finding(check, OK, "none, as the host serves one user")
        found = f"{name!r} is set, and this host serves one user without namespaces"
        return Finding(check, WARN, found, "is kfp.host the right one?")
    if not name:
        cure = "kfp.namespace: the name of your profile"
        return Finding(check, FAIL, "it serves several users, and none is set", cure)
    try:
        return _judge_namespace(name, has_namespace(kfp, settings))
    except FFTasksError:
        return Finding(check, WARN, f"{name!r}: not looked at: see KFP access")


def _judge_namespace(name: str, is_there: bool | None) -> Finding:  # noqa: FBT001 - as it was answered
    if is_there:
        return Finding("KFP namespace", OK, name)
    cure = f"does `kubectl get namespace {name}` find it? kfp.namespace is the name of your profile"
    if is_there is None:
        found = f"{name!r} has nothing in it, and Kubeflow Pipelines does not say whether it exists"
        return Finding("KFP namespace", WARN, found, cure)
    return Finding("KFP namespace", FAIL, f"the cluster has no namespace {name!r}", cure)


def _check_access(kfp: Connection, settings: KFPSettings) -> Finding:
    try:
        experiment = find_experiment(kfp, settings)
    except FFTasksError as error:
        return make_failure("KFP access", error)
    will = "" if experiment else ", which will be made"
    how = settings.auth or ("cookies" if settings.cookies else "token" if kfp.access.token else "")
    identity = f"by {how}" if how else "without an identity"
    return Finding("KFP access", OK, f"{identity}; experiment {settings.experiment!r}{will}")
