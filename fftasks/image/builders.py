"""Open the builder and the registry that a project's settings name."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fftasks.errors import FFTasksError, ToolError
from fftasks.project import Project
from fftasks.registry.reference import format_repository

if TYPE_CHECKING:
    from fftasks.image.docker_builder import DockerBuilder
    from fftasks.image.oci_builder import OciBuilder
    from fftasks.registry.oci_registry import Registry
    from fftasks.registry.registry_auth import RegistryLogin


def find_image_repository(project: Project) -> str:
    """Return the repository of the project's image, "host[:port]/path"."""
    registry = project.settings.registry
    return format_repository(registry.server, registry.repository)


def choose_builder(project: Project) -> str:
    """Return the builder to use, "docker" or "oci"; "auto" is "docker" if an engine is available."""
    chosen = project.settings.image.builder
    if chosen != "auto":
        return str(chosen)
    from fftasks.image.engine import find_engine_problem

    return "oci" if find_engine_problem() else "docker"


def make_builder(project: Project, name: str) -> DockerBuilder | OciBuilder:
    """Return the builder "docker" or "oci"."""
    if name == "docker":
        return make_docker_builder(project)
    from fftasks.image.oci_builder import OciBuilder

    def open_registry(host: str) -> Registry:
        return make_registry(project, host)

    return OciBuilder(
        open_registry, project.folder / "layers", python=project.settings.image.python
    )


def make_docker_builder(project: Project) -> DockerBuilder:
    """Return the builder "docker" with the login of the settings."""
    from fftasks.image.docker_builder import DockerBuilder

    return DockerBuilder(find_login(project))


def make_registry(project: Project, host: str, *, wait: bool = True) -> Registry:
    """Return the client of a registry, with the settings and the login for it.

    Args:
        project: The project.
        host: Host and port of the registry.
        wait: Whether to retry after transient failures; otherwise ToolError is raised at once.
    """
    from fftasks.registry.oci_registry import Registry

    def give_up(_seconds: float) -> None:
        raise ToolError(f"{host} did not answer the first request")

    settings = project.settings.registry
    # a base may be in another registry, which these two settings do not concern
    is_ours = host == find_image_repository(project).partition("/")[0]
    return Registry(
        host,
        find_login(project),
        insecure=settings.insecure and is_ours,
        ca_cert=(project.root / settings.ca_cert).resolve() if settings.ca_cert else None,
        pause=time.sleep if wait else give_up,
        token_server=settings.token_server if is_ours else "",
    )


def find_missing_images(
    project: Project, references: Iterable[str], *, wait: bool = True
) -> set[str]:
    """Return those references to images that their registries do not have.

    A registry that does not answer or refuses counts as one that has its images: pods use other credentials,
    and may reach it by another route.

    Args:
        project: The project.
        references: "host[:port]/path@sha256:…".
        wait: See make_registry.
    """
    missing: set[str] = set()
    try:
        for host, named in _group_by_host(references).items():
            registry = make_registry(project, host, wait=wait)
            missing |= {
                f"{host}/{repository}@{digest}"
                for repository, digest in named
                if registry.find_digest(repository, digest) is None
            }
    except FFTasksError:
        return missing
    return missing


def _group_by_host(references: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for reference in dict.fromkeys(references):
        name, _, digest = reference.partition("@")
        host, _, repository = name.partition("/")
        found.setdefault(host, []).append((repository, digest))
    return found


def find_login(project: Project) -> RegistryLogin | None:
    """Return the login for the registry from the settings, None if they have none."""
    from fftasks.registry.registry_auth import make_login

    registry = project.settings.registry
    return make_login(find_image_repository(project), registry.username, registry.password)
