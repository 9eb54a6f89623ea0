"""The base of an image in the engine: looked up there, fetched where it is not, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.ports.engine import Login, find_auth, inspect_image, read_error, read_message
from fftasks.ports.log import Log
from fftasks.stages.base import Base, describe_origin

if TYPE_CHECKING:
    from docker import APIClient

_SPELLINGS = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Wanted:
    """A base that is looked for.

    name: as people write it; platform: "os/architecture[/variant]", "" is any
    origin: where the name was set; login: for its registry, if it is that of the settings
    """

    name: str
    platform: str
    origin: str = ""
    login: Login | None = None


def find_base(
    client: APIClient, wanted: Wanted, log: Log, *, update: bool = False
) -> dict[str, Any]:
    """Return what the engine knows of the base; fetch it if it is not there.

    update: fetch it also if it is there; if that fails, what is there is taken, and the log says so

    Raises ToolError if it is neither here nor to be had, and SettingsError if its name is none.
    """
    here = _inspect(client, wanted)
    if here is not None and _fits(here, wanted.platform) and not update:
        return here
    message = _pull(client, wanted, log)
    found = _inspect(client, wanted)
    if found is not None and _fits(found, wanted.platform):
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


def fetch_resolved(client: APIClient, base: Base, wanted: Wanted, log: Log) -> dict[str, Any]:
    """Return what the engine knows of a base that was resolved before; fetch it if it is not there.

    Raises ToolError if the image is not to be had any more.
    """
    here = inspect_image(client, base.image)
    message = "only the engine had it"
    if here is None and base.reference:
        named = Wanted(base.reference, wanted.platform, wanted.origin, wanted.login)
        message = _pull(client, named, log)
        here = inspect_image(client, base.image)
    if here is None:
        raise ToolError(
            f"image: the base {wanted.name!r} is not what it was, and what it was is gone",
            found=[f"it was {base.reference or base.image}", message],
            tip="run `doit image --update-base` to build upon what it is now",
        )
    return here


def describe_base(image: Mapping[str, Any], name: str) -> Base:
    """Return the base that the engine's description of an image is.

    name: under which it was looked for, so that the reference is in the same repository.
    """
    from docker.utils import parse_repository_tag

    repository = parse_repository_tag(name)[0]
    references = image.get("RepoDigests") or []
    fitting = [one for one in references if one.partition("@")[0] == repository]
    return Base(str(image["Id"]), fitting[0] if fitting else "")


def _pull(client: APIClient, wanted: Wanted, log: Log) -> str:
    """Try to fetch the base; return what went wrong, or ""."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(wanted.name)
    try:
        auth = find_auth(_find_host(repository), wanted.login)
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
                return read_error(event)
            if "progress" not in event:
                log.write(f"{event.get('id', '')} {event.get('status', '')}\n".lstrip())
    except APIError as exc:
        return read_message(exc)
    return ""


def _fits(image: Mapping[str, Any], platform: str) -> bool:
    """Return whether an image is for a platform ("os/architecture[/variant]", "" is any)."""
    if not platform:
        return True
    wanted = [_SPELLINGS.get(part, part) for part in platform.lower().split("/")]
    is_same = [image["Os"], image["Architecture"]] == wanted[:2]
    variant = image.get("Variant") or ""
    return is_same and (len(wanted) < 3 or not variant or variant == wanted[2])  # noqa: PLR2004


def _find_host(repository: str) -> str:
    from docker.auth import resolve_repository_name

    return str(resolve_repository_name(repository)[0])


def _inspect(client: APIClient, wanted: Wanted) -> dict[str, Any] | None:
    from docker.errors import APIError

    try:
        return inspect_image(client, wanted.name)
    except APIError as exc:
        if exc.status_code != 400:  # noqa: PLR2004  (the engine's word for what is no name)
            raise
        raise SettingsError(
            f"image: image.base {wanted.name!r} is no image's name",
            found=[read_message(exc)],
            tip=f"correct it in {wanted.origin or 'config/'}",
        ) from exc
