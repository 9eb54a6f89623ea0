"""The base of an image in the engine: looked up there, fetched where it is not, and checked.

The container engine, through the docker package: it builds images and pushes them.

The classic builder does the last part, from a context of our own making: a Dockerfile, and one
archive per layer. pip runs before that, in a container that becomes the image below. Had it run in
the Dockerfile, its secrets would stand there as ARG, or in a layer, and in `docker history`; a
process that is started in a running container leaves neither its environment nor its files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
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
from fftasks.image.recipe import (
    BaseImage,
    BuiltImage,
    ImageNotFoundError,
    ImageRecipe,
    LayerContents,
    describe_origin,
)
from fftasks.registry.failures import classify_failure, make_registry_error
from fftasks.registry.registry_auth import RegistryLogin, find_engine_auth

if TYPE_CHECKING:
    from docker import APIClient

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class BaseRequest:
    """A base that is looked for.

    name: as people write it; platform: "os/architecture[/variant]", "" is any
    origin: where the name was set; login: for its registry, if it is that of the settings
    """

    name: str
    platform: str
    origin: str = ""
    login: RegistryLogin | None = None


def find_engine_base(
    client: APIClient, wanted: BaseRequest, log: BuildLog, *, update: bool = False
) -> dict[str, Any]:
    """Return what the engine knows of the base; fetch it if it is not there.

    update: fetch it also if it is there; if that fails, what is there is taken, and the log says so

    Raises ToolError if it is neither here nor to be had, and SettingsError if its name is none.
    """
    here = _inspect(client, wanted)
    if here is not None and _matches_platform(here, wanted.platform) and not update:
        return here
    message = _pull(client, wanted, log)
    found = _inspect(client, wanted)
    if found is not None and _matches_platform(found, wanted.platform):
        log.write(f"{message}\n" if message else "")
        return found
    where = describe_origin(wanted.origin)
    if found is not None:
        raise ToolError(
            f"image: the base {wanted.name!r} is not made for image.platform {wanted.platform}",
            found=[f"it is for {found['Os']}/{found['Architecture']}", message],
            tip=f"set image.base{where} to an image that has this platform, or image.platform",
        )
    raise ToolError(
        f"image: the base {wanted.name!r} is not here and cannot be fetched",
        found=[message],
        tip=f"check image.base{where}; `docker pull {wanted.name}` must work",
    )


def fetch_engine_base(
    client: APIClient, base: BaseImage, wanted: BaseRequest, log: BuildLog
) -> dict[str, Any]:
    """Return what the engine knows of a base that was resolved before; fetch it if it is not there.

    Raises ToolError if the image is not to be had any more.
    """
    here = inspect_image(client, base.image)
    message = "only the engine had it"
    if here is None and base.reference:
        named = BaseRequest(base.reference, wanted.platform, wanted.origin, wanted.login)
        message = _pull(client, named, log)
        here = inspect_image(client, base.image)
    if here is None:
        raise ToolError(
            f"image: the base {wanted.name!r} is not what it was, and what it was is gone",
            found=[f"it was {base.reference or base.image}", message],
            tip="run `doit image --update-base` to build upon what it is now",
        )
    return here


def make_base_image(image: Mapping[str, Any], name: str) -> BaseImage:
    """Return the base that the engine's description of an image is.

    name: under which it was looked for, so that the reference is in the same repository.
    """
    from docker.utils import parse_repository_tag

    repository = parse_repository_tag(name)[0]
    references = image.get("RepoDigests") or []
    fitting = [one for one in references if one.partition("@")[0] == repository]
    return BaseImage(str(image["Id"]), fitting[0] if fitting else "")


def _pull(client: APIClient, wanted: BaseRequest, log: BuildLog) -> str:
    """Try to fetch the base; return what went wrong, or ""."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(wanted.name)
    try:
        auth = find_engine_auth(_find_host(repository), wanted.login)
    except ToolError as exc:
        auth = {}  # most bases are there for everybody
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


def _matches_platform(image: Mapping[str, Any], platform: str) -> bool:
    """Return whether an image is for a platform ("os/architecture[/variant]", "" is any)."""
    if not platform:
        return True
    wanted = [_ARCHITECTURES.get(part, part) for part in platform.lower().split("/")]
    is_same = [image["Os"], image["Architecture"]] == wanted[:2]
    variant = image.get("Variant") or ""
    return is_same and (len(wanted) < 3 or not variant or variant == wanted[2])  # noqa: PLR2004


def _find_host(repository: str) -> str:
    from docker.auth import resolve_repository_name

    return str(resolve_repository_name(repository)[0])


def _inspect(client: APIClient, wanted: BaseRequest) -> dict[str, Any] | None:
    from docker.errors import APIError

    try:
        return inspect_image(client, wanted.name)
    except APIError as exc:
        if exc.status_code != 400:  # noqa: PLR2004  (the engine's word for what is no name)
            raise
        raise SettingsError(
            f"image: image.base {wanted.name!r} is no image's name",
            found=[read_engine_error(exc)],
            tip=f"correct it in {wanted.origin or 'config/'}",
        ) from exc


_WAITS_S = (1.0, 4.0)


class DockerBuilder:
    """A container engine; `resolve`, `build` and `push` are what stages base, image and push ask for.

    login: for the registry of the settings; for any other, and without one, Docker's own is used
    say: takes a sentence for the user; pause: waits for seconds
    It connects when it is first used.
    """

    def __init__(
        self,
        login: RegistryLogin | None = None,
        *,
        say: Callable[[str], None] = print,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._login = login
        self._say = say
        self._pause = pause

    def resolve(
        self, name: str, platform: str, *, origin: str, log: Path, update: bool
    ) -> BaseImage:
        """Return the image that a base's name stands for; a stages.base.Resolve."""
        attempted = f"image: the base {name!r} cannot be looked up"
        with self._work(attempted, log, {}) as (client, lines):
            wanted = BaseRequest(name, platform, origin, self._login)
            return make_base_image(find_engine_base(client, wanted, lines, update=update), name)

    def build(self, recipe: ImageRecipe, layers: LayerContents, *, log: Path) -> BuiltImage:
        """Build an image; what the engine and pip say goes into the log as they say it.

        Raises SettingsError for a base that cannot be one, StoreError if the disk does not take
        what is sent to the engine, ToolError for all else.
        """
        with wrap_disk_errors():
            return self._build(recipe, layers, log)

    def push(self, image: str, repository: str, tags: Sequence[str]) -> str:
        """Push an image under each tag and return the digest of its manifest in the registry.

        A refusal that may pass is tried again, a few times and with a word.
        """
        auth = find_engine_auth(repository.partition("/")[0], self._login)
        attempted = f"push: the push to {repository} broke off"
        with open_engine() as client, wrap_engine_errors(attempted):
            for tag in tags:
                _tag(client, image, repository, tag)
            digests = [self._push_tag(client, repository, tag, auth) for tag in tags]
            self._verify(client, repository, digests[-1], auth)
        return digests[-1]

    def _build(self, recipe: ImageRecipe, layers: LayerContents, log: Path) -> BuiltImage:
        attempted = f"image: the build on base {recipe.base!r} broke off"
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
        """Give the engine and a log that is written anew; errors name the log, and show no secrets."""
        with (
            open_engine() as client,
            open_build_log(log, list_build_secrets(client, build_env)) as lines,
            add_log_to_errors(lines),
            wrap_engine_errors(attempted),
        ):
            yield client, lines

    def _push_tag(self, client: APIClient, repository: str, tag: str, auth: dict[str, str]) -> str:
        for wait_s in (*_WAITS_S, None):
            digest, message = _push_once(client, repository, tag, auth)
            if digest:
                return digest
            if wait_s is None or not classify_failure(message).is_transient:
                break
            self._say(f"push: {classify_failure(message).meaning}; trying again in {wait_s:g} s")
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
            raise self._refuse(attempted, read_engine_error(exc), repository) from exc

    def _refuse(self, attempted: str, message: str, repository: str) -> ToolError:
        host = repository.partition("/")[0]
        ours = self._login is not None and self._login.host == host
        username = self._login.username if self._login and ours else ""
        return make_registry_error(attempted, message, server=host, username=username)


def list_build_secrets(client: APIClient, build_env: Mapping[str, str]) -> dict[str, str]:
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
        raise ImageNotFoundError(
            f"push: the image {image[:19]} is not in the engine any more",
            found=[read_engine_error(exc)],
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
                return "", read_stream_error(event)
            digest = (event.get("aux") or {}).get("Digest", digest)
    except APIError as exc:
        return "", read_engine_error(exc)
    return digest, "" if digest else "the engine ended without a digest"
