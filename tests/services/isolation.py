"""Closes what a test must not touch: the user's home, settings from outside, the network."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

# settings of fftasks, of what it drives, and ways around a closed network
_PREFIXES = (
    "FFTASKS_",
    "FFFUNCTION",
    "FFWORKFLOWS",
    "KF_PIPELINES_",
    "KFP_",
    "DOIT_",
    "DOCKER_AUTH",
    "KUBECONFIG",
    "KUBERNETES_",
)
_FOLDERS = {
    "HOME": "home",
    "DOCKER_CONFIG": "home/.docker",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
}


class NetworkClosedError(RuntimeError):
    """A test reached out of this machine; no OSError, so that no code under test takes it for one."""


def close_home(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Point everything that is a user's home into folder."""
    for name, place in _FOLDERS.items():
        path = folder / place
        path.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(path))
    client = sys.modules.get("kfp.client.client")
    if client is not None:
        # computed when kfp is imported, so it may be in an earlier test's home
        context = folder / "home/.config/kfp/context.json"
        monkeypatch.setattr(client.Client, "_LOCAL_KFP_CONTEXT", str(context))


def close_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings that the machine's environment may hold."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def close_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process connect to nothing but loopback addresses and local sockets.

    Names that can never exist (*.invalid) are not found, as on an open network.
    """
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _guard_address(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", _guard_name(socket.getaddrinfo))


def _guard_address(call: Any) -> Any:
    def guarded(self: socket.socket, *args: Any) -> Any:
        # sendto has its address last, connect has nothing else
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(args[-1][0]):
            raise NetworkClosedError(f"tests may not reach {args[-1]}")
        return call(self, *args)

    return guarded


def _guard_name(call: Any) -> Any:
    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and str(name).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name and not _is_local(name):
            raise NetworkClosedError(f"tests may not look up {name}")
        return call(host, *args, **options)

    return guarded


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
