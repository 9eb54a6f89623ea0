"""`doit doctor`: check everything that `doit submit` needs: settings, workflows, image, registry, KFP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fftasks.cli.command import JSON_OPTION, ClusterCommand
from fftasks.config.tree import KFPSettings
from fftasks.errors import FFTasksError, ToolError
from fftasks.http.origin import parse_origin
from fftasks.image.base import ARCHITECTURES
from fftasks.image.builders import (
    choose_builder,
    find_image_repository,
    make_builder,
    make_registry,
)
from fftasks.kfp.authentication import Access
from fftasks.kfp.client import ask_version, find_experiment, has_namespace
from fftasks.kfp.connection import Json, KFPConnection, connect
from fftasks.kfp.limits import get_cluster_limits
from fftasks.pipeline.secret_check import list_secret_warnings
from fftasks.pipeline.stages import plan_stage
from fftasks.project import Project
from fftasks.report.table import Cell, Column, Row, print_json, print_table
from fftasks.runner.start import RUNNER_MODULE, make_command
from fftasks.stage import execute_stage, is_up_to_date

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: Name of the check.
        level: "ok", "warn" or "fail".
        found: What was found.
        hint: What to do about it; "" for nothing.
    """

    check: str
    level: str
    found: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


DoctorCheck = Callable[[Project], Iterator[Finding]]


def run_checks(project: Project, checks: Mapping[str, DoctorCheck]) -> Iterator[Finding]:
    """Run the checks and yield their findings. An error in a check is a finding and does not stop the others.

    Args:
        project: Project to check.
        checks: Checks by name.
    """
    for name, check in checks.items():
        try:
            yield from check(project)
        except FFTasksError as error:  # noqa: PERF203 - each check has its own errors
            yield make_error_finding(name, error)
        except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the others
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename}:{last.lineno}"
            found = f"the check itself failed: {type(error).__name__}: {error} ({where})"
            yield Finding(name, FAIL, found, "this is a bug of fftasks: report it with this line")


def make_error_finding(check: str, error: FFTasksError, level: str = FAIL) -> Finding:
    """Return a finding for an error, in one line."""
    found = "; ".join([error.attempted, *error.found])
    return Finding(check, level, " ".join(found.split()), error.tip)


_NO_REGISTRY = "not checked: registry.server is not set"


def check_engine(project: Project) -> Iterator[Finding]:
    """Check that a container engine responds and can build for image.platform without emulation.

    The builder `oci` needs no engine.
    """
    if choose_builder(project) == "oci":
        chosen = project.settings.image.builder
        why = "" if chosen == "oci" else ", and no engine responds"
        yield Finding("engine", OK, f"not needed: image.builder is {chosen}{why}")
        return
    from fftasks.image.engine import open_engine, wrap_engine_errors

    with (
        open_engine() as client,
        wrap_engine_errors("docker: the version of the engine cannot be read"),
    ):
        version = client.version()
        address = str(client.base_url)
    architecture = ARCHITECTURES.get(version["Arch"], version["Arch"])
    here = f"{version['Os']}/{architecture}"
    yield Finding("engine", OK, f"{version['Version']}, {here}")
    if address.startswith("http://") and not parse_origin(address).is_protected:
        found = (
            f"{address} is not encrypted: others can read registry passwords and image.build_env"
        )
        hint = "reach the engine over TLS or ssh:// (DOCKER_HOST), or set image.builder to oci"
        yield Finding("engine", WARN, found, hint)
    wanted = project.settings.image.platform
    if wanted and not wanted.startswith(here):
        found = f"image.platform is {wanted}, and the engine is {here}: it uses emulation"
        hint = "set image.platform to the platform of the cluster's machines; emulation needs binfmt (QEMU)"
        yield Finding("platform", WARN, found, hint)
    else:
        yield Finding("platform", OK, wanted or here)


def check_base(project: Project) -> Iterator[Finding]:
    """Check that the base image can be resolved, as in the build."""
    settings = project.settings.image
    base = make_builder(project, choose_builder(project)).resolve(
        settings.base,
        settings.platform,
        origin=project.settings.origin("image.base"),
        log=project.folder / "logs" / "image.doctor.txt",
        update=False,
    )
    yield Finding("base image", OK, f"{settings.base}, {base.image[:19]}")


def check_registry(project: Project) -> Iterator[Finding]:
    """Start and cancel an upload, because nothing else shows whether a push is permitted."""
    if _has_no_registry(project):
        yield Finding("registry", WARN, _NO_REGISTRY)
        return
    host, _, repository = find_image_repository(project).partition("/")
    origin = parse_origin(f"http://{host}")
    if project.settings.registry.insecure and not origin.is_protected:
        found = f"registry.insecure is set: the login is sent to {host} without encryption"
        yield Finding("registry", WARN, found, "let the registry use TLS (registry.ca_cert)")
    make_registry(project, host, wait=False).check_write(repository)
    yield Finding("registry", OK, f"push to {host}/{repository} is permitted")


def check_pull(project: Project) -> Iterator[Finding]:
    """Check that pods can pull the image: it is public, or all nodes have a pull secret."""
    if _has_no_registry(project):
        yield Finding("pull secret", WARN, _NO_REGISTRY)
        return
    from fftasks.registry.oci_registry import Registry
    from fftasks.registry.registry_auth import RegistryLogin

    settings = project.settings.registry
    host, _, repository = find_image_repository(project).partition("/")
    ca_cert = (project.root / settings.ca_cert).resolve() if settings.ca_cert else None
    nobody = Registry(
        host,
        RegistryLogin(host, "", ""),
        insecure=settings.insecure,
        ca_cert=ca_cert,
        pause=_raise_no_answer,
    )
    without = [
        label
        for label, node in project.nodes.items()
        if not project.find_node_settings(node.content).pull_secrets
    ]
    if nobody.is_public(repository, project.settings.image.tag):
        yield Finding("pull secret", OK, "not needed: the repository is public")
    elif not without:
        yield Finding(
            "pull secret", OK, "the registry requires a login, and all nodes have a secret"
        )
    else:
        shown = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")  # noqa: PLR2004
        yield Finding(
            "pull secret",
            WARN,
            f"the registry requires a login, and {len(without)} nodes have no secret: {shown}",
            "set nodes: {__default__: {pull_secrets: [NAME]}}, where `kubectl create secret docker-registry`"
            " has created NAME in the namespace; not needed if the service account has a pull secret",
        )


def check_settings(project: Project) -> Iterator[Finding]:
    """Report the warnings of the settings, and whether a registry is set."""
    for warning in project.settings.warnings:
        yield Finding("settings", WARN, warning)
    if _has_no_registry(project):
        hint = "set registry.server to host and port of your registry, such as registry.example.com:5000"
        yield Finding("settings", FAIL, "registry.server is not set", hint)
    elif not project.settings.warnings:
        count = len(project.settings.workflows)
        yield Finding("settings", OK, f"{count} workflow file{'s' * (count != 1)}")


def _has_no_registry(project: Project) -> bool:
    """Return whether neither a registry nor a repository on Docker Hub is set."""
    registry = project.settings.registry
    return not registry.server and "/" not in registry.repository


def _raise_no_answer(_seconds: float) -> None:
    raise ToolError("the registry does not respond immediately")


_MIN_VERSION = (2, 0)
_CACHE_KEY_VERSION = (2, 18)
_DEPENDENT_CHECKS = ("KFP version", "KFP namespace", "KFP access")


def check_kfp(project: Project) -> Iterator[Finding]:
    """Check host, transport, version, namespace and access of Kubeflow Pipelines."""
    settings = project.settings.kfp
    with connect(settings) as kfp:
        try:
            health = kfp.get("no Kubeflow Pipelines", "/healthz")
        except FFTasksError as error:
            yield make_error_finding("KFP host", error)
            yield from _check_transport(kfp.access)
            for check in _DEPENDENT_CHECKS:
                yield Finding(check, WARN, "not checked: the host does not respond as expected")
            return
        yield Finding("KFP host", OK, kfp.access.host)
        yield from _check_transport(kfp.access)
        yield _check_version(kfp, settings)
        yield _check_namespace(kfp, settings, health)
        yield _check_access(kfp, settings)


def _check_transport(access: Access) -> Iterator[Finding]:
    """Yield a finding for each setting that lets others read credentials."""
    if not (access.token or access.cookies):
        return
    origin = parse_origin(access.host)
    if not origin.is_protected:
        found = f"kfp.insecure is set: credentials are sent to {origin} without encryption"
        yield Finding("KFP transport", WARN, found, "use https:// in kfp.host")
    elif origin.scheme == "https" and not access.verify_ssl:
        found = f"credentials are sent to {origin}, whose certificate is not verified"
        hint = "set kfp.ca_cert to the file of your own CA, and kfp.verify_ssl: true"
        yield Finding("KFP transport", WARN, found, hint)


def _check_version(kfp: KFPConnection, settings: KFPSettings) -> Finding:
    text = ask_version(kfp)
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if found is None:
        return Finding("KFP version", OK, "unknown; 2.0 or newer, because it has the API v2beta1")
    version = (int(found[1]), int(found[2]))
    if version < _MIN_VERSION:
        hint = "pipelines of fftasks need Kubeflow Pipelines 2.0 or newer"
        return Finding("KFP version", FAIL, text, hint)
    keys = "" if version >= _CACHE_KEY_VERSION else ", caches by image and arguments"
    if get_cluster_limits(text) != get_cluster_limits(settings.version):
        differs = f"the host has version {text}, and kfp.version is {settings.version}"
        hint = (
            f"set kfp.version: {version[0]}.{version[1]}, which determines how large a run may be"
        )
        return Finding("KFP version", WARN, differs, hint)
    return Finding("KFP version", OK, f"{text}{keys}")


def _check_namespace(kfp: KFPConnection, settings: KFPSettings, health: Json) -> Finding:
    check, name = "KFP namespace", settings.namespace
    if not health.get("multi_user"):
        if not name:
            return Finding(check, OK, "none, because the host serves a single user")
        found = f"{name!r} is set, but this host serves a single user without namespaces"
        return Finding(check, WARN, found, "is kfp.host the right one?")
    if not name:
        hint = "set kfp.namespace to the name of your profile"
        return Finding(check, FAIL, "the host serves several users, and no namespace is set", hint)
    try:
        return _make_namespace_finding(name, has_namespace(kfp, settings))
    except FFTasksError:
        return Finding(check, WARN, f"{name!r}: not checked: see KFP access")


def _make_namespace_finding(name: str, is_there: bool | None) -> Finding:  # noqa: FBT001 - as it was answered
    if is_there:
        return Finding("KFP namespace", OK, name)
    hint = f"does `kubectl get namespace {name}` find it? kfp.namespace is the name of your profile"
    if is_there is None:
        found = f"{name!r} is empty, and KFP does not report whether it exists"
        return Finding("KFP namespace", WARN, found, hint)
    return Finding("KFP namespace", FAIL, f"namespace {name!r} not found", hint)


def _check_access(kfp: KFPConnection, settings: KFPSettings) -> Finding:
    try:
        experiment = find_experiment(kfp, settings)
    except FFTasksError as error:
        return make_error_finding("KFP access", error)
    will = "" if experiment else " will be created"
    how = settings.auth or ("cookies" if settings.cookies else "token" if kfp.access.token else "")
    identity = f"authenticated by {how}" if how else "no authentication"
    return Finding("KFP access", OK, f"{identity}; experiment {settings.experiment!r}{will}")


def check_graphs(project: Project) -> Iterator[Finding]:
    """Build the graphs and report the warnings about nodes."""
    count = len(project.nodes)
    for warning in [*project.list_node_warnings(), *list_secret_warnings(project)]:
        yield Finding("workflows", WARN, warning)
    names = ", ".join(project.workflows)
    yield Finding("workflows", OK, f"{names}: {count} nodes")


def check_nodes(project: Project) -> Iterator[Finding]:
    """Import the workflow files from the copy for the image, with the entry point of the pods."""
    step = plan_stage(project, "context")
    if not is_up_to_date(step):
        execute_stage(step)
    for file in project.settings.workflows:
        yield from _check_import(project, file)


def _check_import(project: Project, file: str) -> Iterator[Finding]:
    folder = project.folder / "context"
    completed = subprocess.run(
        [*make_command(RUNNER_MODULE), "--root", str(folder), "--file", file, "--check"],
        cwd=folder,
        capture_output=True,
        # without FFFUNCTION, which selects a single node
        env={name: value for name, value in os.environ.items() if name != "FFFUNCTION"},
        check=False,
    )
    if completed.returncode:
        lines = map(str.strip, completed.stderr.decode(errors="replace").strip().splitlines())
        *_, said = ["no message", *(line for line in lines if not line.startswith("hint: "))]
        hint = f"python -m fftasks.runner --root .fftasks/context --file {file} --check"
        found = f"{file} cannot be imported from the copy in .fftasks/context: {said}"
        yield Finding(
            "nodes", FAIL, found, f"does .dockerignore exclude a file that is needed? {hint}"
        )
        return
    answer = json.loads(completed.stdout)
    for problem in answer["problems"]:
        hint = "pass plain data; open files, connections and locks inside the function"
        yield Finding("constants", FAIL, problem, hint)
    yield Finding("nodes", OK, f"{file}: {answer['nodes']} nodes found in the copy")


def check_pipeline(project: Project) -> Iterator[Finding]:
    """Create the tasks of each workflow, which detects nodes that cannot run in a container."""
    for workflow in project.workflows:
        try:
            stage = plan_stage(project, "tasks", workflow)
            if not is_up_to_date(stage):
                execute_stage(stage)
        except FFTasksError as error:  # noqa: PERF203 - each workflow has its own errors
            yield make_error_finding("tasks", error)
        else:
            yield Finding("tasks", OK, f"{workflow} can run on Kubeflow Pipelines")


CHECKS: dict[str, DoctorCheck] = {
    "settings": check_settings,
    "workflows": check_graphs,
    "nodes": check_nodes,
    "tasks": check_pipeline,
    "engine": check_engine,
    "base image": check_base,
    "registry": check_registry,
    "pull secret": check_pull,
    "KFP host": check_kfp,
}
_COLUMNS = (Column(), Column(), Column(wraps=True))
_STYLES = {OK: "32", WARN: "33", FAIL: "31"}


class DoctorCommand(ClusterCommand):
    """Run all checks and print a hint for each problem; nothing is built or sent."""

    doc_purpose = "check everything that `doit submit` needs and suggest fixes"
    doc_usage = ""
    doc_description = "The exit code is 1 if `doit submit` would fail."
    name = "doctor"
    cmd_options = (JSON_OPTION,)
    most = 0

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Run all checks and print each finding immediately."""
        findings = []
        for finding in run_checks(project, CHECKS):
            findings.append(finding)
            if not options["as_json"]:
                print_table(_COLUMNS, list(_make_rows(finding)))
                sys.stdout.flush()
        if options["as_json"]:
            print_json([finding.to_json() for finding in findings])
        return int(any(finding.level == FAIL for finding in findings))


def _make_rows(finding: Finding) -> list[Row]:
    level = Cell(f"{finding.level:4}", _STYLES[finding.level])
    rows: list[Row] = [(level, f"{finding.check:13}", finding.found)]
    if finding.hint:
        rows.append(("", "", f"hint: {finding.hint}"))
    return rows
