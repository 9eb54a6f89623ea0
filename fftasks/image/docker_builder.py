"""The builder "docker": resolves bases, builds images and pushes them with a container engine.

No Dockerfile is involved. pip runs in a container of the base, and the layers are loaded into the engine as
an archive (see docker_layers.py). In a Dockerfile, the secrets of pip would be readable as ARG, in a layer or
in `docker history`; a process in a running container leaves neither its environment nor its files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.http.retry import call_with_retries
from fftasks.image.base import BaseImage, describe_origin, make_platform_error, matches_platform
from fftasks.image.build_log import BuildLog, add_log_to_errors, open_build_log, wrap_disk_errors
from fftasks.image.docker_layers import add_top_layers, install_requirements
from fftasks.image.engine import (
    find_proxies,
    inspect_image,
    open_engine,
    read_engine_error,
    read_stream_error,
    wrap_engine_errors,
)
from fftasks.image.recipe import BuiltImage, ImageNotFoundError, ImageRecipe, LayerContents
from fftasks.registry.failures import find_transient_failure, make_registry_error
from fftasks.registry.registry_auth import RegistryLogin, find_engine_auth

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True)
class BaseRequest:
    """A base that the engine is asked for.

    Attributes:
        name: A reference as users write it, such as "python:3.11-slim".
        platform: "os/architecture[/variant]"; "" for any.
        origin: File and line where the name was set.
        login: The login of the settings; it is used only if the base is in that registry.
    """

    name: str
    platform: str
    origin: str = ""
    login: RegistryLogin | None = None


def find_engine_base(
    client: APIClient, wanted: BaseRequest, log: BuildLog, *, update: bool = False
) -> dict[str, Any]:
    """Return the engine's description of the base, and pull the base first if the engine lacks it.

    Args:
        client: Connection with the engine.
        wanted: The base.
        log: Receives the progress of the pull.
        update: Whether to pull although the engine has an image with this name. If the pull fails, that
            image is used, and the log contains the error.

    Raises:
        ToolError: The base cannot be pulled, or is not for the platform.
        SettingsError: The name is invalid.
    """
    here = _inspect(client, wanted)
    if here is not None and _is_for(here, wanted.platform) and not update:
        return here
    message = _pull(client, wanted, log)
    found = _inspect(client, wanted)
    if found is not None and _is_for(found, wanted.platform):
        log.write(f"{message}\n" if message else "")
        return found
    if found is not None:
        raise make_platform_error(
            wanted.name,
            wanted.platform,
            [f"{found['Os']}/{found['Architecture']}"],
            origin=wanted.origin,
            message=message,
        )
    where = describe_origin(wanted.origin)
    raise ToolError(
        f"image: the base {wanted.name!r} is not here and cannot be fetched",
        found=[message],
        tip=f"check image.base{where}; `docker pull {wanted.name}` must work",
    )


def fetch_engine_base(
    client: APIClient, base: BaseImage, wanted: BaseRequest, log: BuildLog
) -> dict[str, Any]:
    """Return the engine's description of a base that was resolved before; pull it if necessary.

    Args:
        client: Connection with the engine.
        base: The resolved base.
        wanted: Its name, platform and login.
        log: Receives the progress of the pull.

    Raises:
        ToolError: The image is not available any more.
    """
    here = inspect_image(client, base.image)
    message = "it was in no registry, only in the engine"
    if here is None and base.reference:
        named = BaseRequest(base.reference, wanted.platform, wanted.origin, wanted.login)
        message = _pull(client, named, log)
        here = inspect_image(client, base.image)
    if here is None:
        raise ToolError(
            f"image: the recorded base of {wanted.name!r} was not found any more",
            found=[f"it was {base.reference or base.image}", message],
            tip="run `doit image --update-base` to build on the current image of this name",
        )
    return here


def make_base_image(image: Mapping[str, Any], name: str) -> BaseImage:
    """Return a base from the engine's description of an image.

    Args:
        image: The description.
        name: The name that the image was found by. The reference is in the same repository.
    """
    from docker.utils import parse_repository_tag

    repository = parse_repository_tag(name)[0]
    references = image.get("RepoDigests") or []
    matching = [one for one in references if one.partition("@")[0] == repository]
    return BaseImage(str(image["Id"]), matching[0] if matching else "")


def _pull(client: APIClient, wanted: BaseRequest, log: BuildLog) -> str:
    """Pull the base; return the error message, "" if there was none."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(wanted.name)
    try:
        auth = find_engine_auth(_find_host(repository), wanted.login)
    except ToolError as exc:
        auth = {}  # most bases can be pulled without a login
        log.write(f"{exc}\n")
    log.write(f"fetching {wanted.name} for {wanted.platform or 'the engine'}\n")
    try:
        for event in client.pull(
            repository,
            tag=tag or "latest",
            platform=wanted.platform or None,
            auth_config=auth,
            stream=True,
            decode=True,
        ):
            if "error" in event:
                return read_stream_error(event)
            if "progress" not in event:
                log.write(f"{event.get('id', '')} {event.get('status', '')}\n".lstrip())
    except APIError as exc:
        return read_engine_error(exc)
    return ""


def _is_for(image: Mapping[str, Any], platform: str) -> bool:
    return matches_platform(
        platform,
        system=image["Os"],
        architecture=image["Architecture"],
        variant=image.get("Variant"),
    )


def _find_host(repository: str) -> str:
    from docker.auth import resolve_repository_name

    return str(resolve_repository_name(repository)[0])


def _inspect(client: APIClient, wanted: BaseRequest) -> dict[str, Any] | None:
    from docker.errors import APIError

    try:
        return inspect_image(client, wanted.name)
    except APIError as exc:
        if exc.status_code != 400:  # noqa: PLR2004 - the engine's answer to an invalid name
            raise
        raise SettingsError(
            f"image: invalid value of image.base: {wanted.name!r}",
            found=[read_engine_error(exc)],
            tip=f"correct it in {wanted.origin or 'config/'}",
        ) from exc


class _PushFailedError(Exception):
    """The engine or the registry refused a push; the message is theirs."""


class DockerBuilder:
    """Builds and pushes images with a container engine; it connects for each call."""

    def __init__(
        self,
        login: RegistryLogin | None = None,
        *,
        say: Callable[[str], None] = print,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a builder.

        Args:
            login: Login for the registry of the settings. For other registries, and if it is None, the
                logins of Docker's own configuration are used.
            say: Shows one line to the user.
            pause: Waits for a number of seconds.
        """
        self._login = login
        self._say = say
        self._pause = pause

    def resolve(
        self, name: str, platform: str, *, origin: str, log: Path, update: bool
    ) -> BaseImage:
        """Resolve the name of a base; see `fftasks.image.base.resolve_base`."""
        attempted = f"image: the base {name!r} cannot be looked up"
        with self._work(attempted, log, {}) as (client, lines):
            wanted = BaseRequest(name, platform, origin, self._login)
            return make_base_image(find_engine_base(client, wanted, lines, update=update), name)

    def build(self, recipe: ImageRecipe, layers: LayerContents, *, log: Path) -> BuiltImage:
        """Build an image.

        Args:
            recipe: The inputs.
            layers: The files.
            log: File for the output of the engine and of pip, written while they run.

        Raises:
            SettingsError: The base cannot be used.
            StoreError: The disk is full.
            ToolError: The engine or pip failed.
        """
        with wrap_disk_errors():
            return self._build(recipe, layers, log)

    def push(self, image: str, repository: str, tags: Sequence[str]) -> str:
        """Push an image under each tag; transient failures are retried.

        Args:
            image: Its id in the engine.
            repository: "host[:port]/path".
            tags: At least one tag.

        Returns:
            The digest of its manifest in the registry.

        Raises:
            ImageNotFoundError: The engine does not have the image.
            ToolError: The registry refused the push, or does not have the image afterwards.
        """
        auth = find_engine_auth(repository.partition("/")[0], self._login)
        attempted = f"push: the push to {repository} failed"
        with open_engine() as client, wrap_engine_errors(attempted):
            for tag in tags:
                _tag(client, image, repository, tag)
            digests = [self._push_tag(client, repository, tag, auth) for tag in tags]
            self._verify(client, repository, digests[-1], auth)
        return digests[-1]

    def _build(self, recipe: ImageRecipe, layers: LayerContents, log: Path) -> BuiltImage:
        attempted = f"image: the build on base {recipe.base!r} failed"
        with self._work(attempted, log, recipe.build_env) as (client, lines):
            base = self._find_base(client, recipe, lines)
            below = install_requirements(client, recipe, layers, base, lines)
            image = add_top_layers(client, recipe, layers, below, lines)
        return BuiltImage(image, base["Id"])

    def _find_base(self, client: APIClient, recipe: ImageRecipe, log: BuildLog) -> dict[str, Any]:
        wanted = BaseRequest(recipe.base, recipe.platform, recipe.base_origin, self._login)
        if recipe.resolved is None:
            return find_engine_base(client, wanted, log)
        return fetch_engine_base(client, recipe.resolved, wanted, log)

    @contextmanager
    def _work(
        self, attempted: str, log: Path, build_env: Mapping[str, str]
    ) -> Iterator[tuple[APIClient, BuildLog]]:
        """Open the engine and an empty log; errors name the log file and contain no secrets."""
        with (
            open_engine() as client,
            open_build_log(log, list_build_secrets(client, build_env)) as lines,
            add_log_to_errors(lines),
            wrap_engine_errors(attempted),
        ):
            yield client, lines

    def _push_tag(self, client: APIClient, repository: str, tag: str, auth: dict[str, str]) -> str:
        def push() -> str:
            digest, message = _push_once(client, repository, tag, auth)
            if not digest:
                raise _PushFailedError(message)
            return digest

        try:
            return call_with_retries(
                push,
                lambda error: find_transient_failure("push", str(error)),
                say=self._say,
                pause=self._pause,
            )
        except _PushFailedError as error:
            attempted = f"push: the registry did not accept {repository}:{tag}"
            raise self._make_error(attempted, str(error), repository) from None

    def _verify(self, client: Any, repository: str, digest: str, auth: dict[str, str]) -> None:
        """Check that the registry has what it accepted."""
        from docker.errors import APIError

        reference = f"{repository}@{digest}"
        try:
            client.inspect_distribution(reference, auth_config=auth)
        except APIError as exc:
            if exc.status_code in (401, 403):
                return  # the login may be allowed to write but not to read
            attempted = f"push: {reference} is not found in the registry after the push"
            raise self._make_error(attempted, read_engine_error(exc), repository) from exc

    def _make_error(self, attempted: str, message: str, repository: str) -> ToolError:
        host = repository.partition("/")[0]
        ours = self._login is not None and self._login.host == host
        username = self._login.username if self._login and ours else ""
        return make_registry_error(attempted, message, server=host, username=username)


def list_build_secrets(client: APIClient, build_env: Mapping[str, str]) -> dict[str, str]:
    """Return the values that a log must not contain, by the names to show instead.

    Of the variables PIP_… only URLs are secret, because they may contain a password.

    Args:
        client: Connection with the engine, whose proxies may have passwords.
        build_env: Setting image.build_env.
    """
    env = {**find_proxies(client), **build_env}
    return {n: v for n, v in env.items() if "://" in v or not n.startswith("PIP_")}


def _tag(client: APIClient, image: str, repository: str, tag: str) -> None:
    from docker.errors import ImageNotFound

    try:
        client.tag(image, repository, tag, force=True)
    except ImageNotFound as exc:
        raise ImageNotFoundError(
            f"push: the image {image[:19]} was not found in the engine",
            found=[read_engine_error(exc)],
            tip="`doit image` builds it again",
        ) from exc


def _push_once(
    client: APIClient, repository: str, tag: str, auth: dict[str, str]
) -> tuple[str, str]:
    """Push once; return the digest and "", or "" and the error message.

    docker-py does not raise for errors of the registry: they are events of the stream.
    """
    from docker.errors import APIError

    digest = ""
    try:
        for event in client.push(repository, tag=tag, auth_config=auth, stream=True, decode=True):
            if "error" in event:
                return "", read_stream_error(event)
            digest = (event.get("aux") or {}).get("Digest", digest)
    except APIError as exc:
        return "", read_engine_error(exc)
    return digest, "" if digest else "the engine reported no digest"
