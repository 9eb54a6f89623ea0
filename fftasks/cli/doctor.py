"""What a check has found, and how checks are run: each one, also when another has failed.

Checks of what builds the image, and of where it goes.

Checks of Kubeflow Pipelines: is it there, is it new enough, and does it take us for somebody.

Checks of the workflows: may they be copied, and does the copy give all nodes, as in a pod.

`doit doctor`: is everything there that `doit submit` needs?
"""

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
from fftasks.runner.start import MODULE, make_command
from fftasks.stage import execute_stage, is_up_to_date

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, how it is, what was found, and what to do about it."""

    check: str
    level: str
    found: str
    cure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


DoctorCheck = Callable[[Project], Iterator[Finding]]


def run_checks(project: Project, checks: Mapping[str, DoctorCheck]) -> Iterator[Finding]:
    """Yield what the checks find; what stops one is a finding, too, and stops no other."""
    for name, check in checks.items():
        yield from _run_check(project, name, check)


def _run_check(project: Project, name: str, check: DoctorCheck) -> Iterator[Finding]:
    try:
        yield from check(project)
    except FFTasksError as error:
        yield make_error_finding(name, error)
    except Exception as error:  # noqa: BLE001 - the others are to be run
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}"
        found = f"the check itself went wrong: {type(error).__name__}: {error} ({where})"
        yield Finding(name, FAIL, found, "this is a bug of fftasks: report it with this line")


def make_error_finding(check: str, error: FFTasksError, level: str = FAIL) -> Finding:
    """Return the finding that an error is."""
    found = "; ".join([error.attempted, *error.found])
    return Finding(check, level, " ".join(found.split()), error.tip)


_NO_REGISTRY = "not looked at: registry.server is not set"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def check_engine(project: Project) -> Iterator[Finding]:
    """Look for a container engine, and whether it builds for the cluster's platform by itself.

    Where the image is made without one, none is needed.
    """
    if choose_builder(project) == "oci":
        chosen = project.settings.image.builder
        why = "" if chosen == "oci" else ", as no engine answers"
        yield Finding("engine", OK, f"not needed: image.builder is {chosen}{why}")
        return
    from fftasks.image.engine import open_engine, wrap_engine_errors

    with open_engine() as client, wrap_engine_errors("docker: the engine does not say what it is"):
        version = client.version()
        address = str(client.base_url)
    architecture = _ARCHITECTURES.get(version["Arch"], version["Arch"])
    here = f"{version['Os']}/{architecture}"
    yield Finding("engine", OK, f"{version['Version']}, {here}")
    if address.startswith("http://") and not parse_origin(address).is_protected:
        found = f"{address} is not encrypted: registry passwords and image.build_env can be read"
        cure = "reach the engine over TLS or ssh:// (DOCKER_HOST), or set image.builder to oci"
        yield Finding("engine", WARN, found, cure)
    wanted = project.settings.image.platform
    if wanted and not wanted.startswith(here):
        found = f"{wanted} is wanted, and the engine is {here}: it builds and runs by emulation"
        cure = "set image.platform to that of the cluster's machines; emulation needs binfmt (QEMU)"
        yield Finding("platform", WARN, found, cure)
    else:
        yield Finding("platform", OK, wanted or here)


def check_base(project: Project) -> Iterator[Finding]:
    """Look the base image up, as the build will."""
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
    """Start an upload and end it: nothing else shows that a push is allowed."""
    if _has_no_registry(project):
        yield Finding("registry", WARN, _NO_REGISTRY)
        return
    host, _, repository = find_image_repository(project).partition("/")
    origin = parse_origin(f"http://{host}")
    if project.settings.registry.insecure and not origin.is_protected:
        found = f"registry.insecure is set: the login is sent to {host} without encryption"
        yield Finding("registry", WARN, found, "let the registry use TLS (registry.ca_cert)")
    make_registry(project, host, wait=False).check_write(repository)
    yield Finding("registry", OK, f"{host}/{repository} takes what is pushed")


def check_pull(project: Project) -> Iterator[Finding]:
    """Tell whether pods may pull what only the owner of a login may read."""
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
        yield Finding("pull secret", OK, "anybody may pull from the registry: none is needed")
    elif not without:
        yield Finding("pull secret", OK, "the registry wants a login, and all nodes have a secret")
    else:
        shown = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")  # noqa: PLR2004
        yield Finding(
            "pull secret",
            WARN,
            f"the registry wants a login, and {len(without)} nodes have no secret: {shown}",
            "nodes: {__default__: {pull_secrets: [NAME]}}, with the name of a secret that `kubectl create"
            " secret docker-registry` has made in the namespace; not needed if its account has one",
        )


def check_settings(project: Project) -> Iterator[Finding]:
    """Repeat what the settings warn of."""
    for warning in project.settings.warnings:
        yield Finding("settings", WARN, warning)
    if _has_no_registry(project):
        cure = "registry.server: host and port of your registry, such as registry.example.com:5000"
        yield Finding("settings", FAIL, "registry.server is not set", cure)
    elif not project.settings.warnings:
        count = len(project.settings.workflows)
        yield Finding("settings", OK, f"{count} workflow file{'s' * (count != 1)}")


def _has_no_registry(project: Project) -> bool:
    """Tell whether no registry is set, and the image is not to go to Docker's own."""
    registry = project.settings.registry
    return not registry.server and "/" not in registry.repository


def _raise_no_answer(_seconds: float) -> None:
    raise ToolError("the registry does not answer at once")


_MIN_VERSION = (2, 0)
_CACHE_KEY_VERSION = (2, 18)
_DEPENDENT_CHECKS = ("KFP version", "KFP namespace", "KFP access")


def check_kfp(project: Project) -> Iterator[Finding]:
    """Ask the host what it is, and whether it lets us list experiments."""
    settings = project.settings.kfp
    with connect(settings) as kfp:
        try:
            health = kfp.get("no Kubeflow Pipelines", "/healthz")
        except FFTasksError as error:
            yield make_error_finding("KFP host", error)
            yield from _check_transport(kfp.access)
            for check in _DEPENDENT_CHECKS:
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


def _check_version(kfp: KFPConnection, settings: KFPSettings) -> Finding:
    text = ask_version(kfp)
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if found is None:
        return Finding("KFP version", OK, "not said; 2.0 or newer, as it has the interface v2beta1")
    version = (int(found[1]), int(found[2]))
    if version < _MIN_VERSION:
        cure = "pipelines of fftasks need Kubeflow Pipelines 2.0 or newer"
        return Finding("KFP version", FAIL, text, cure)
    keys = "" if version >= _CACHE_KEY_VERSION else ", caches by image and arguments"
    if get_cluster_limits(text) != get_cluster_limits(settings.version):
        differs = f"the host says {text}, and kfp.version is {settings.version}"
        cure = (
            f"set kfp.version: {version[0]}.{version[1]}, which determines how large a run may be"
        )
        return Finding("KFP version", WARN, differs, cure)
    return Finding("KFP version", OK, f"{text}{keys}")


def _check_namespace(kfp: KFPConnection, settings: KFPSettings, health: Json) -> Finding:
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
        return _make_namespace_finding(name, has_namespace(kfp, settings))
    except FFTasksError:
        return Finding(check, WARN, f"{name!r}: not looked at: see KFP access")


def _make_namespace_finding(name: str, is_there: bool | None) -> Finding:  # noqa: FBT001 - as it was answered
    if is_there:
        return Finding("KFP namespace", OK, name)
    cure = f"does `kubectl get namespace {name}` find it? kfp.namespace is the name of your profile"
    if is_there is None:
        found = f"{name!r} has nothing in it, and Kubeflow Pipelines does not say whether it exists"
        return Finding("KFP namespace", WARN, found, cure)
    return Finding("KFP namespace", FAIL, f"the cluster has no namespace {name!r}", cure)


def _check_access(kfp: KFPConnection, settings: KFPSettings) -> Finding:
    try:
        experiment = find_experiment(kfp, settings)
    except FFTasksError as error:
        return make_error_finding("KFP access", error)
    will = "" if experiment else ", which will be made"
    how = settings.auth or ("cookies" if settings.cookies else "token" if kfp.access.token else "")
    identity = f"by {how}" if how else "without an identity"
    return Finding("KFP access", OK, f"{identity}; experiment {settings.experiment!r}{will}")


def check_graphs(project: Project) -> Iterator[Finding]:
    """Make the graphs, as every command does."""
    count = len(project.nodes)
    for warning in [*project.list_node_warnings(), *list_secret_warnings(project)]:
        yield Finding("workflows", WARN, warning)
    names = ", ".join(project.workflows)
    yield Finding("workflows", OK, f"{names}: {count} nodes")


def check_nodes(project: Project) -> Iterator[Finding]:
    """Import the files from the copy that goes into the image, by the entry point's own code."""
    step = plan_stage(project, "context")
    if not is_up_to_date(step):
        execute_stage(step)
    for file in project.settings.workflows:
        yield from _check_file(project, file)


def _check_file(project: Project, file: str) -> Iterator[Finding]:
    folder = project.folder / "context"
    completed = subprocess.run(
        [*make_command(MODULE), "--root", str(folder), "--file", file, "--check"],
        cwd=folder,
        capture_output=True,
        # what lies in the project and not in its copy is not in the image either
        env={name: value for name, value in os.environ.items() if name != "FFFUNCTION"},
        check=False,
    )
    if completed.returncode:
        lines = map(str.strip, completed.stderr.decode(errors="replace").strip().splitlines())
        *_, said = ["no message", *(line for line in lines if not line.startswith("hint: "))]
        cure = f"python -m fftasks.runner --root .fftasks/context --file {file} --check"
        found = f"{file} cannot be imported from the copy in .fftasks/context: {said}"
        yield Finding("nodes", FAIL, found, f"does .dockerignore keep something away? {cure}")
        return
    answer = json.loads(completed.stdout)
    for problem in answer["problems"]:
        cure = "pass plain data, and open files, connections and locks inside the function"
        yield Finding("constants", FAIL, problem, cure)
    yield Finding("nodes", OK, f"{file}: {answer['nodes']} nodes are found in the copy")


def check_pipeline(project: Project) -> Iterator[Finding]:
    """Make the tasks of each workflow, which refuses nodes that no container could run."""
    for workflow in project.workflows:
        yield _make_tasks(project, workflow)


def _make_tasks(project: Project, workflow: str) -> Finding:
    try:
        step = plan_stage(project, "tasks", workflow)
        if not is_up_to_date(step):
            execute_stage(step)
    except FFTasksError as error:
        return make_error_finding("tasks", error)
    return Finding("tasks", OK, f"{workflow} can run on Kubeflow Pipelines")


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
    """Look at everything, and offer a cure for what is wrong; nothing is built or sent."""

    doc_purpose = "check all that doit submit needs, with a cure for what is wrong"
    doc_usage = ""
    doc_description = "The exit code is 1 if something would make doit submit fail."
    name = "doctor"
    cmd_options = (JSON_OPTION,)
    most = 0

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """Run all checks, and print what they find as they find it."""
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
    if finding.cure:
        rows.append(("", "", f"cure: {finding.cure}"))
    return rows
