"""Connect to the container engine, and translate its errors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError

if TYPE_CHECKING:
    from docker import APIClient

_TIMEOUT_S = 30


@contextmanager
def open_engine() -> Iterator[APIClient]:
    """Open a client of the engine that the program docker would use.

    Raises:
        ToolError: No engine answers.
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
        client: Any = docker.APIClient(version="auto", timeout=_TIMEOUT_S, **options)
    except (docker.errors.DockerException, OSError, ValueError) as exc:
        raise _make_connection_error(where or "its socket", exc) from exc
    client.timeout = None  # a build prints nothing while a compiler runs
    # no request of the builder needs this login, and a broken credential helper would raise an error
    client._set_auth_headers = lambda _headers: None
    known: APIClient = client
    return known


def find_engine_problem() -> str:
    """Return why no engine is available; "" if one is."""
    try:
        with open_engine():
            return ""
    except ToolError as exc:
        return exc.attempted


def inspect_image(client: Any, image: str) -> dict[str, Any] | None:
    """Return the engine's description of an image; None if it was not found."""
    from docker.errors import ImageNotFound

    try:
        return dict(client.inspect_image(image))
    except ImageNotFound:
        return None


def find_proxies(client: APIClient) -> dict[str, str]:
    """Return the proxies in Docker's configuration as environment variables."""
    from docker.utils.config import load_general_config
    from docker.utils.proxy import ProxyConfig

    proxies = load_general_config().get("proxies") or {}
    chosen: Any = proxies.get(client.base_url) or proxies.get("default") or {}
    environment: Any = ProxyConfig.from_dict(chosen).get_environment()
    return dict(environment)


@contextmanager
def wrap_engine_errors(attempted: str) -> Iterator[None]:
    """Turn exceptions of the docker package into a ToolError that begins with `attempted`."""
    from docker.errors import DockerException
    from docker.utils.socket import SocketError
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError, SocketError) as exc:
        tip = "check that the engine is running, and look at its log"
        raise ToolError(attempted, found=[read_engine_error(exc)], tip=tip) from exc


def read_engine_error(exc: Exception) -> str:
    """Return the engine's message in an exception."""
    return str(getattr(exc, "explanation", None) or exc)


def read_stream_error(event: Mapping[str, Any]) -> str:
    """Return the message of an error event in a stream."""
    return str((event.get("errorDetail") or {}).get("message") or event["error"])


def _check_socket(where: str) -> None:
    """Raise OSError if no process listens at a local socket; docker-py would not close its own."""
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
            f"docker: permission denied: the container engine at {where}",
            found=[text],
            tip="add yourself to its group (`sudo usermod -aG docker $USER`) and log in again",
        )
    return ToolError(
        f"docker: no container engine answers at {where}",
        found=[text],
        tip="start Docker, or set DOCKER_HOST to the address of the engine",
    )
