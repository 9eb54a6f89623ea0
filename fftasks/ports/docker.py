"""The container engine, through the docker package: it builds images and pushes them.

The classic builder does the last part, from a context of our own making: a Dockerfile, and one
archive per layer. pip runs before that, in a container that becomes the image below. Had it run in
the Dockerfile, its secrets would stand there as ARG, or in a layer, and in `docker history`; a
process that is started in a running container leaves neither its environment nor its files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.ports import refusal
from fftasks.ports.assembly import assemble
from fftasks.ports.engine import (
    Login,
    blame_engine,
    find_auth,
    find_proxies,
    open_engine,
    read_error,
    read_message,
)
from fftasks.ports.engine_base import Wanted, describe_base, fetch_resolved, find_base
from fftasks.ports.installation import install
from fftasks.ports.log import Log, blame_disk, blame_in, open_log
from fftasks.stages.base import Base
from fftasks.stages.image import Built, Layers, Recipe
from fftasks.stages.push import ImageGoneError

if TYPE_CHECKING:
    from docker import APIClient

_WAITS_S = (1.0, 4.0)


class Engine:
    """A container engine; `resolve`, `build` and `push` are what stages base, image and push ask for.

    login: for the registry of the settings; for any other, and without one, Docker's own is used
    say: takes a sentence for the user; pause: waits for seconds
    It connects when it is first used.
    """

    def __init__(
        self,
        login: Login | None = None,
        *,
        say: Callable[[str], None] = print,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._login = login
        self._say = say
        self._pause = pause

    def resolve(self, name: str, platform: str, *, origin: str, log: Path, update: bool) -> Base:
        """Return the image that a base's name stands for; a stages.base.Resolve."""
        attempted = f"image: the base {name!r} cannot be looked up"
        with self._work(attempted, log, {}) as (client, lines):
            wanted = Wanted(name, platform, origin, self._login)
            return describe_base(find_base(client, wanted, lines, update=update), name)

    def build(self, recipe: Recipe, layers: Layers, *, log: Path) -> Built:
        """Build an image; what the engine and pip say goes into the log as they say it.

        Raises SettingsError for a base that cannot be one, StoreError if the disk does not take
        what is sent to the engine, ToolError for all else.
        """
        with blame_disk():
            return self._build(recipe, layers, log)

    def push(self, image: str, repository: str, tags: Sequence[str]) -> str:
        """Push an image under each tag and return the digest of its manifest in the registry.

        A refusal that may pass is tried again, a few times and with a word.
        """
        auth = find_auth(repository.partition("/")[0], self._login)
        attempted = f"push: the push to {repository} broke off"
        with open_engine() as client, blame_engine(attempted):
            for tag in tags:
                _tag(client, image, repository, tag)
            digests = [self._push_tag(client, repository, tag, auth) for tag in tags]
            self._verify(client, repository, digests[-1], auth)
        return digests[-1]

    def _build(self, recipe: Recipe, layers: Layers, log: Path) -> Built:
        attempted = f"image: the build on base {recipe.base!r} broke off"
        with self._work(attempted, log, recipe.build_env) as (client, lines):
            base = self._find_base(client, recipe, lines)
            below = install(client, recipe, layers, base, lines)
            image = assemble(client, recipe, layers, below, lines)
        return Built(image, base["Id"])

    def _find_base(self, client: APIClient, recipe: Recipe, log: Log) -> dict[str, Any]:
        wanted = Wanted(recipe.base, recipe.platform, recipe.base_origin, self._login)
        if recipe.resolved is None:
            return find_base(client, wanted, log)
        return fetch_resolved(client, recipe.resolved, wanted, log)

    @contextmanager
    def _work(
        self, attempted: str, log: Path, build_env: Mapping[str, str]
    ) -> Iterator[tuple[APIClient, Log]]:
        """Give the engine and a log that is written anew; errors name the log, and show no secrets."""
        with (
            open_engine() as client,
            open_log(log, list_secrets(client, build_env)) as lines,
            blame_in(lines),
            blame_engine(attempted),
        ):
            yield client, lines

    def _push_tag(self, client: APIClient, repository: str, tag: str, auth: dict[str, str]) -> str:
        for wait_s in (*_WAITS_S, None):
            digest, message = _push_once(client, repository, tag, auth)
            if digest:
                return digest
            if wait_s is None or not refusal.classify(message).passing:
                break
            self._say(f"push: {refusal.classify(message).meaning}; trying again in {wait_s:g} s")
            self._pause(wait_s)
        raise self._refuse(f"push: {repository}:{tag} was not taken", message, repository)

    def _verify(self, client: Any, repository: str, digest: str, auth: dict[str, str]) -> None:
        """Ask the registry whether it has what it took."""
        from docker.errors import APIError

        reference = f"{repository}@{digest}"
        try:
            client.inspect_distribution(reference, auth_config=auth)
        except APIError as exc:
            if exc.status_code in (401, 403):
                return  # a login that may write and not read
            attempted = f"push: {reference} was taken, and is not found in the registry"
            raise self._refuse(attempted, read_message(exc), repository) from exc

    def _refuse(self, attempted: str, message: str, repository: str) -> ToolError:
        host = repository.partition("/")[0]
        ours = self._login is not None and self._login.host == host
        username = self._login.username if self._login and ours else ""
        return refusal.explain(attempted, message, server=host, username=username)


def list_secrets(client: APIClient, build_env: Mapping[str, str]) -> dict[str, str]:
    """Return what a log must not show, with a name for it.

    Of pip's own variables only those with a URL, which may hold a password anywhere.
    """
    env = {**find_proxies(client), **build_env}
    return {n: v for n, v in env.items() if "://" in v or not n.startswith("PIP_")}


def _tag(client: APIClient, image: str, repository: str, tag: str) -> None:
    from docker.errors import ImageNotFound

    try:
        client.tag(image, repository, tag, force=True)
    except ImageNotFound as exc:
        raise ImageGoneError(
            f"push: the image {image[:19]} is not in the engine any more",
            found=[read_message(exc)],
            tip="`doit image` builds it again",
        ) from exc


def _push_once(
    client: APIClient, repository: str, tag: str, auth: dict[str, str]
) -> tuple[str, str]:
    """Return the digest and "", or "" and what went wrong; docker-py raises for neither."""
    from docker.errors import APIError

    digest = ""
    try:
        for event in client.push(repository, tag=tag, auth_config=auth, stream=True, decode=True):
            if "error" in event:
                return "", read_error(event)
            digest = (event.get("aux") or {}).get("Digest", digest)
    except APIError as exc:
        return "", read_message(exc)
    return digest, "" if digest else "the engine ended without a digest"
