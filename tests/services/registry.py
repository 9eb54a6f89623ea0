"""A registry that wants a password, on a free port of this machine, with storage of its own."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.services.missing import find_program
from tests.services.waiting import wait_until

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/storage}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: not-a-secret}}
auth:
  htpasswd: {{realm: tests, path: {folder}/htpasswd}}
"""


@dataclass
class Registry:
    """One registry process. stop() and start() make an outage: port and content stay the same."""

    folder: Path
    port: int
    username: str = "user"
    password: str = "correct horse"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def server(self) -> str:
        """host:port, as it stands in an image's name."""
        return f"localhost:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """The user as docker-py's auth_config."""
        return {"username": self.username, "password": self.password}

    def start(self) -> None:
        """Start the registry and wait until it answers."""
        program = find_program("docker-registry", package="docker-registry")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "serve", str(self.folder / "config.yml")], stdout=log, stderr=log
            )
        wait_until(self.answers, what=f"registry at {self.server}")

    def stop(self) -> None:
        """Stop the registry at once, in the middle of whatever it does; harmless if stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Say whether the registry listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def list_repositories(self) -> list[str]:
        """Return the names of all repositories."""
        return self._get("_catalog").json()["repositories"] or []

    def list_tags(self, repository: str) -> list[str]:
        """Return the tags of a repository; none if there is no such repository."""
        answer = self._request("GET", f"{repository}/tags/list")
        if answer.status_code == requests.codes.not_found:
            return []
        answer.raise_for_status()
        return sorted(answer.json()["tags"] or [])

    def get_manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """Return the manifest (schema 2) of a tag or a digest."""
        return self._get(f"{repository}/manifests/{reference}").json()

    def get_digest(self, repository: str, tag: str) -> str:
        """Return the digest that a tag points to."""
        return self._get(f"{repository}/manifests/{tag}").headers["Docker-Content-Digest"]

    def get_config(self, repository: str, reference: str) -> dict[str, Any]:
        """Return the image's configuration (Env, Cmd, layers' history) as the registry holds it."""
        digest = self.get_manifest(repository, reference)["config"]["digest"]
        return self._get(f"{repository}/blobs/{digest}").json()

    def delete(self, repository: str, reference: str) -> None:
        """Delete the manifest of a tag or a digest, and so every tag of that digest."""
        is_digest = reference.startswith("sha256:")
        digest = reference if is_digest else self.get_digest(repository, reference)
        self._request("DELETE", f"{repository}/manifests/{digest}").raise_for_status()

    def _get(self, path: str) -> requests.Response:
        answer = self._request("GET", path)
        answer.raise_for_status()
        return answer

    def _request(self, method: str, path: str) -> requests.Response:
        # numbers, not "localhost": this also works where the machine's proxy settings forget it
        url = f"http://127.0.0.1:{self.port}/v2/{path}"
        user = (self.username, self.password)
        return requests.request(method, url, auth=user, headers={"Accept": MANIFEST}, timeout=30)


def make_registry(folder: Path) -> Registry:
    """Return a registry whose configuration, users and storage are in folder; not started."""
    registry = Registry(folder, _find_free_port())
    find_program("docker-registry", package="docker-registry")
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=registry.port))
    (folder / "htpasswd").write_text(_hash_password(registry))
    return registry


def _hash_password(registry: Registry) -> str:
    program = find_program("htpasswd", package="apache2-utils")
    command = [program, "-niB", registry.username]
    return subprocess.run(
        command, input=registry.password, capture_output=True, text=True, check=True
    ).stdout


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
