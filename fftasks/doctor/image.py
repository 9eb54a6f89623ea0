"""Checks of what builds the image, and of where it goes."""

from __future__ import annotations

from collections.abc import Iterator

from fftasks.doctor.finding import FAIL, OK, WARN, Finding
from fftasks.errors import ToolError
from fftasks.ports.credentials import parse_origin
from fftasks.project import Project
from fftasks.steps.connect import choose_builder, make_builder, make_registry, name_repository

_NOWHERE = "not looked at: registry.server is not set"
_SPELLINGS = {"x86_64": "amd64", "aarch64": "arm64"}


def check_engine(project: Project) -> Iterator[Finding]:
    """Look for a container engine, and whether it builds for the cluster's platform by itself.

    Where the image is made without one, none is needed.
    """
    if choose_builder(project) == "oci":
        chosen = project.settings.image.builder
        why = "" if chosen == "oci" else ", as no engine answers"
        yield Finding("engine", OK, f"not needed: image.builder is {chosen}{why}")
        return
    from fftasks.ports.engine import blame_engine, open_engine

    with open_engine() as client, blame_engine("docker: the engine does not say what it is"):
        version = client.version()
        address = str(client.base_url)
    architecture = _SPELLINGS.get(version["Arch"], version["Arch"])
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
    if _is_nowhere(project):
        yield Finding("registry", WARN, _NOWHERE)
        return
    host, _, repository = name_repository(project).partition("/")
    origin = parse_origin(f"http://{host}")
    if project.settings.registry.insecure and not origin.is_protected:
        found = f"registry.insecure is set: the login is sent to {host} without encryption"
        yield Finding("registry", WARN, found, "let the registry use TLS (registry.ca_cert)")
    make_registry(project, host, wait=False).check_write(repository)
    yield Finding("registry", OK, f"{host}/{repository} takes what is pushed")


def check_pull(project: Project) -> Iterator[Finding]:
    """Tell whether pods may pull what only the owner of a login may read."""
    if _is_nowhere(project):
        yield Finding("pull secret", WARN, _NOWHERE)
        return
    from fftasks.ports.engine import Login
    from fftasks.ports.registry import Registry

    settings = project.settings.registry
    host, _, repository = name_repository(project).partition("/")
    ca_cert = (project.root / settings.ca_cert).resolve() if settings.ca_cert else None
    nobody = Registry(
        host, Login(host, "", ""), insecure=settings.insecure, ca_cert=ca_cert, pause=_give_up
    )
    without = [
        label
        for label, node in project.nodes.items()
        if not project.settings_of(node.content).pull_secrets
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
    if _is_nowhere(project):
        cure = "registry.server: host and port of your registry, such as registry.example.com:5000"
        yield Finding("settings", FAIL, "registry.server is not set", cure)
    elif not project.settings.warnings:
        count = len(project.settings.workflows)
        yield Finding("settings", OK, f"{count} workflow file{'s' * (count != 1)}")


def _is_nowhere(project: Project) -> bool:
    """Tell whether no registry is set, and the image is not to go to Docker's own."""
    registry = project.settings.registry
    return not registry.server and "/" not in registry.repository


def _give_up(_seconds: float) -> None:
    raise ToolError("the registry does not answer at once")
