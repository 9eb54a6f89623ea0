"""Who one is at a registry: answers its challenges, and keeps the tokens that it gives."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urljoin

from fftasks.errors import SettingsError, ToolError
from fftasks.http.origin import is_same_origin, is_same_site, parse_origin
from fftasks.registry.failures import (
    RequestFailedError,
    check_response,
    make_invalid_response_error,
    parse_json_object,
)
from fftasks.registry.reference import DOCKER_HUB

if TYPE_CHECKING:
    from requests import Response

_CLIENT = "fftasks"
_TOKEN_USER = "<token>"  # noqa: S105  (Docker's name for a login whose password is a token)
_VALUE = r'([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))'
# some registries offer both in one header; a bearer's parameters end where the next scheme begins
_BEARER = re.compile(rf"\bbearer\s+((?:{_VALUE}\s*,?\s*)+)", re.IGNORECASE)
_BASIC = re.compile(r"\bbasic\b", re.IGNORECASE)
_SHORTEST = 4  # anything shorter is no secret, and hiding it would garble the text


class SendTokenRequest(Protocol):
    """Sends a request without a login; raises RequestFailedError if no answer comes."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], data: str | None
    ) -> Response: ...


@dataclass(frozen=True)
class _Credentials:
    username: str = ""
    password: str = ""
    refresh_token: str = ""

    @property
    def basic(self) -> str:
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class RegistryAuth:
    """Authentication headers for one registry.

    The registry names the token server, and any token server could store the password. So the password is
    sent only to a token server in the same domain (see credentials.is_same_site), or to the one in the
    settings.

    Attributes:
        trouble: Reason why Docker's own login could not be read.
        withheld: Origin of a token server to which the password was not sent, "" for none.

    Args:
        host: Name of the registry in Docker's configuration.
        login: Login from the settings; None to use Docker's own.
        origin: "https://host"; a token server may use plain HTTP only if the registry does.
        fetch: Sends a request to the token server.
        token_server: HOST or HOST:PORT of a token server in another domain that may receive the password.
    """

    def __init__(
        self,
        host: str,
        login: RegistryLogin | None,
        origin: str,
        fetch: SendTokenRequest,
        token_server: str = "",
    ) -> None:
        self.username = login.username if login is not None and login.host == host else ""
        self.login_error: ToolError | None = None
        self.untrusted_token_server = ""
        self._token_server = token_server.strip().removeprefix("https://").rstrip("/")
        self._host = host
        self._login = login
        self._origin = origin
        self._fetch = fetch
        self._credentials: _Credentials | None = None
        self._basic = ""
        self._tokens: dict[tuple[str, ...], str] = {}
        self._secrets: set[str] = set()

    def make_headers(self, scopes: Sequence[str]) -> dict[str, str]:
        """Return the headers for a request that needs these scopes; empty before a challenge."""
        if self._basic:
            return {"Authorization": self._basic}
        token = next(
            (t for given, t in self._tokens.items() if _covers_scopes(given, scopes)), None
        )
        return {"Authorization": f"Bearer {token}"} if token else {}

    def answer(self, challenge: str, scopes: Sequence[str], tried: Mapping[str, str]) -> bool:
        """Take up a challenge and return whether the request is worth being sent again.

        challenge: the value of WWW-Authenticate; tried: the headers that were not good enough
        Raises RequestFailedError if the token server refuses.
        """
        if bearer := _BEARER.search(challenge):
            values = {n: a or b for n, a, b in re.findall(_VALUE, bearer[1], re.IGNORECASE)}
            self._tokens = {g: t for g, t in self._tokens.items() if not _covers_scopes(g, scopes)}
            self._tokens[tuple(scopes)] = self._fetch_token(values, scopes)
            return True
        credentials = self._find_credentials()
        if tried or not _BASIC.search(challenge) or not credentials.username:
            return False
        self._basic = credentials.basic
        return True

    def hide(self, text: str) -> str:
        """Return text without the passwords and tokens that are known here."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "<hidden>")
        return text

    def _find_credentials(self) -> _Credentials:
        if self._credentials is None:
            found = self._read_login()
            # Docker's file and its helpers write the same keys in two ways
            values = {key.lower(): value or "" for key, value in found.items()}
            username, password = values.get("username", ""), values.get("password", "")
            token = values.get("identitytoken", "")
            if username == _TOKEN_USER:
                username, password, token = "", "", password
            self._credentials = _Credentials(username, password, token)
            self._keep_secret(password, token, self._credentials.basic.removeprefix("Basic "))
        return self._credentials

    def _read_login(self) -> dict[str, str]:
        try:
            return find_engine_auth(self._host, self._login)
        except ToolError as exc:
            self.login_error = exc  # most base images are there for everybody
            return {}

    def _fetch_token(self, values: Mapping[str, str], scopes: Sequence[str]) -> str:
        """Ask the token server that a challenge names, for the scopes and for what it names."""
        realm = urljoin(self._origin, values.get("realm", ""))
        self._check_realm(realm)
        # a registry behind a path has names of its own for what it wants
        others = [s for s in values.get("scope", "").split() if not _covers_scopes(scopes, [s])]
        answer = self._ask_token(realm, values.get("service", ""), [*scopes, *others])
        check_response(answer)
        content = parse_json_object(answer.content)
        token = content.get("token") or content.get("access_token")
        if not isinstance(token, str):
            raise make_invalid_response_error("there is no token in it")
        self._keep_secret(token, str(content.get("refresh_token") or ""))
        return token

    def _check_realm(self, realm: str) -> None:
        """Raise RequestFailedError if no request may be sent to the token server."""
        try:
            theirs, ours = parse_origin(realm), parse_origin(self._origin)
        except ValueError as exc:
            raise make_invalid_response_error("the address of its token server is invalid") from exc
        if theirs.scheme != "https" and ours.scheme == "https":
            raise RequestFailedError("the registry names a token server at a plain-HTTP address")

    def _choose_credentials(self, realm: str) -> _Credentials:
        """Return the login if the token server may receive it, else an empty login."""
        credentials = self._find_credentials()
        theirs, ours = parse_origin(realm), parse_origin(self._origin)
        is_known = is_same_site(theirs.host, ours.host) or (
            bool(self._token_server)
            and is_same_origin(f"{theirs.scheme}://{self._token_server}", theirs)
        )
        # the registry's own host may use plain HTTP if registry.insecure permits it for the registry
        is_safe = theirs.is_protected or theirs.host == ours.host
        if is_known and is_safe:
            return credentials
        if credentials != _Credentials():
            self.untrusted_token_server = str(theirs)
        return _Credentials()

    def _ask_token(self, realm: str, service: str, scopes: Sequence[str]) -> Response:
        credentials = self._choose_credentials(realm)
        if credentials.refresh_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": credentials.refresh_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._fetch("POST", realm, headers=headers, data=urlencode(form))
        query = urlencode([("service", service), *(("scope", scope) for scope in scopes)])
        headers = {"Authorization": credentials.basic} if credentials.username else {}
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        return self._fetch("GET", url, headers=headers, data=None)

    def _keep_secret(self, *values: str) -> None:
        self._secrets.update(value for value in values if len(value) >= _SHORTEST)


def format_scope(repository: str, actions: str) -> str:
    """Return the scope for actions ("pull", "pull,push") on a repository."""
    return f"repository:{repository}:{actions}"


def _covers_scopes(given: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether scopes that were asked for contain others."""
    return all(any(_covers_scope(g, w) for g in given) for w in wanted)


def _covers_scope(given: str, wanted: str) -> bool:
    (name, _, actions), (wanted_name, _, wanted_actions) = (
        scope.rpartition(":") for scope in (given, wanted)
    )
    return name == wanted_name and set(wanted_actions.split(",")) <= set(actions.split(","))


_HUB_ADDRESS = f"https://index.{DOCKER_HUB}/v1/"


@dataclass(frozen=True)
class RegistryLogin:
    """Credentials for one registry, from the settings."""

    host: str
    username: str
    password: str = field(repr=False)

    def to_engine_auth(self) -> dict[str, str]:
        """Return the form in which the engine takes it."""
        address = _HUB_ADDRESS if self.host == DOCKER_HUB else self.host
        return {"username": self.username, "password": self.password, "serveraddress": address}


def make_login(repository: str, username: str, password: str) -> RegistryLogin | None:
    """Return the login that the settings give, or None if they leave it to Docker's own store.

    repository: "host/path". Raises SettingsError if one of the two is missing.
    """
    if bool(username) != bool(password):
        there, missing = ("username", "password") if username else ("password", "username")
        raise SettingsError(
            f"push: registry.{there} is set, and registry.{missing} is not",
            tip="set both, or neither: then Docker's own login is used",
        )
    return RegistryLogin(repository.partition("/")[0], username, password) if username else None


def find_engine_auth(host: str, login: RegistryLogin | None) -> dict[str, str]:
    """Return the engine's form of a login for a host: ours if it is for it, else Docker's own.

    An empty dictionary if there is none. Raises ToolError if Docker's own cannot be read.
    """
    if login is not None and login.host == host:
        return login.to_engine_auth()
    from docker import auth, credentials, errors

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # docker-py warns of a helper that is missing, and raises
            return auth.load_config().resolve_authconfig(host) or {}
    except (errors.DockerException, credentials.StoreError, ValueError) as exc:
        raise ToolError(
            f"push: Docker's own login for {host} cannot be read",
            found=[str(exc)],
            tip=f"run `docker login {host}`, or set registry.username and registry.password",
        ) from exc
