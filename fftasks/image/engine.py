"""The way to the container engine: where it listens, and who one is at a registry."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError

if TYPE_CHECKING:
    from docker import APIClient

_PATIENCE_S = 30


@contextmanager
def open_engine() -> Iterator[APIClient]:
    """Give a client of the engine that `docker` on the command line would use.

    Raises ToolError if no engine answers.
    """
    client = _connect()
    try:
        yield client
    finally:
        client.close()


def _connect() -> APIClient:
    import docker.utils

    where = os.environ.get("DOCKER_HOST", "")
    try:
        options: dict[str, Any] = {**docker.utils.kwargs_from_env()}
        options = options if "base_url" in options else _find_context()
        where = str(options.get("base_url", where))
        _check_socket(where)
        client: Any = docker.APIClient(version="auto", timeout=_PATIENCE_S, **options)
    except (docker.errors.DockerException, OSError, ValueError) as exc:
        raise _make_connection_error(where or "its socket", exc) from exc
    client.timeout = None  # a build says nothing for as long as a compiler runs
    # nothing that the builder does needs a login, and a broken credential helper would stop it
    client._set_auth_headers = lambda _headers: None
    known: APIClient = client
    return known


def find_engine_problem() -> str:
    """Return why no engine answers, or "" if one does."""
    try:
        with open_engine():
            return ""
    except ToolError as exc:
        return exc.attempted


def inspect_image(client: Any, image: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image, or None if it has none of that name."""
    from docker.errors import ImageNotFound

    try:
        return dict(client.inspect_image(image))
    except ImageNotFound:
        return None


def find_proxies(client: APIClient) -> dict[str, str]:
    """Return the proxies of Docker's own configuration, as variables of an environment."""
    from docker.utils.config import load_general_config
    from docker.utils.proxy import ProxyConfig

    proxies = load_general_config().get("proxies") or {}
    chosen: Any = proxies.get(client.base_url) or proxies.get("default") or {}
    environment: Any = ProxyConfig.from_dict(chosen).get_environment()
    return dict(environment)


@contextmanager
def wrap_engine_errors(attempted: str) -> Iterator[None]:
    """Turn what the docker package raises into a ToolError that begins with `attempted`."""
    from docker.errors import DockerException
    from docker.utils.socket import SocketError
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError, SocketError) as exc:
        tip = "look at the engine's log, and whether it still runs"
        raise ToolError(attempted, found=[read_engine_error(exc)], tip=tip) from exc


def read_engine_error(exc: Exception) -> str:
    """Return what the engine said."""
    return str(getattr(exc, "explanation", None) or exc)


def read_stream_error(event: Mapping[str, Any]) -> str:
    """Return the message of an event in a stream that carries an error."""
    return str((event.get("errorDetail") or {}).get("message") or event["error"])


def _check_socket(where: str) -> None:
    """Raise OSError if nobody listens at a local socket; docker-py would leave its own open."""
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(where.removeprefix("unix://"))


def _find_context() -> dict[str, Any]:
    from docker.context import ContextAPI

    name = os.environ.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    if context is None:
        raise ValueError(f"Docker has no context {name!r}")
    return {"base_url": context.Host, "tls": context.TLSConfig or False}


def _make_connection_error(where: str, exc: Exception) -> ToolError:
    text = str(exc)
    if "Permission denied" in text:
        return ToolError(
            f"docker: you may not talk to the container engine at {where}",
            found=[text],
            tip="join its group (`sudo usermod -aG docker $USER`) and log in again",
        )
    return ToolError(
        f"docker: no container engine answers at {where}",
        found=[text],
        tip="start Docker, or set DOCKER_HOST to where it listens",
    )
