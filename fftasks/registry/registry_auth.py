"""Authentication at a registry: find the login, answer challenges, and keep the tokens."""

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
_TOKEN_USER = "<token>"  # noqa: S105  - Docker's user name for a login whose password is a token
_VALUE = r'([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))'
# Some registries offer both schemes in one header; the parameters of Bearer end where the next one begins.
_BEARER = re.compile(rf"\bbearer\s+((?:{_VALUE}\s*,?\s*)+)", re.IGNORECASE)
_BASIC = re.compile(r"\bbasic\b", re.IGNORECASE)
_SHORTEST = 4  # shorter values are not secret, and hiding them would make the text unreadable


class SendTokenRequest(Protocol):
    """Function that sends a request without a login, or raises RequestFailedError."""

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
    sent only to a token server in the same domain (see fftasks.http.origin.is_same_site), or to that of the
    settings.

    Attributes:
        username: User name of the login from the settings, "" if another login is used.
        login_error: The error about Docker's own login, if it could not be read.
        untrusted_token_server: Origin of a token server to which the password was not sent; "" for none.
    """

    def __init__(
        self,
        host: str,
        login: RegistryLogin | None,
        origin: str,
        fetch: SendTokenRequest,
        token_server: str = "",
    ) -> None:
        """Create it; nothing is read or sent yet.

        Args:
            host: Name of the registry in Docker's configuration.
            login: Login from the settings; None to use Docker's own.
            origin: "https://host"; a token server may use plain HTTP only if the registry does.
            fetch: Sends a request to the token server.
            token_server: HOST or HOST:PORT of a token server in another domain that may receive the
                password.
        """
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
        """Answer a challenge of the registry, and return whether the request should be sent again.

        Args:
            challenge: The header WWW-Authenticate.
            scopes: Scopes that the request needs.
            tried: Authentication headers of the request that was refused.

        Raises:
            RequestFailedError: The token server refused.
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
        """Return a text in which the known passwords and tokens are replaced."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "<hidden>")
        return text

    def _find_credentials(self) -> _Credentials:
        if self._credentials is None:
            found = self._read_login()
            # Docker's file and its credential helpers spell the keys in two ways
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
            self.login_error = exc  # most base images can be pulled without a login
            return {}

    def _fetch_token(self, values: Mapping[str, str], scopes: Sequence[str]) -> str:
        """Return a token for the scopes, and for the scopes in the challenge, from its token server."""
        realm = urljoin(self._origin, values.get("realm", ""))
        self._check_realm(realm)
        # a registry behind a path may use other repository names in its scopes
        others = [s for s in values.get("scope", "").split() if not _covers_scopes(scopes, [s])]
        answer = self._ask_token(realm, values.get("service", ""), [*scopes, *others])
        check_response(answer)
        content = parse_json_object(answer.content)
        token = content.get("token") or content.get("access_token")
        if not isinstance(token, str):
            raise make_invalid_response_error("it contains no token")
        self._keep_secret(token, str(content.get("refresh_token") or ""))
        return token

    def _check_realm(self, realm: str) -> None:
        """Raise RequestFailedError if no request may be sent to the token server."""
        try:
            theirs, ours = parse_origin(realm), parse_origin(self._origin)
        except ValueError as exc:
            raise make_invalid_response_error("the URL of its token server is invalid") from exc
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
        """Return the login in the form of the engine's API (AuthConfig)."""
        address = _HUB_ADDRESS if self.host == DOCKER_HUB else self.host
        return {"username": self.username, "password": self.password, "serveraddress": address}


def make_login(repository: str, username: str, password: str) -> RegistryLogin | None:
    """Return the login from the settings; None if they have none, so that Docker's own login is used.

    Args:
        repository: "host[:port]/path".
        username: Setting registry.username.
        password: Setting registry.password.

    Raises:
        SettingsError: Only one of the two is set.
    """
    if bool(username) != bool(password):
        given, missing = ("username", "password") if username else ("password", "username")
        raise SettingsError(
            f"push: registry.{given} is set, but registry.{missing} is not",
            tip="set both, or neither: then Docker's own login is used",
        )
    return RegistryLogin(repository.partition("/")[0], username, password) if username else None


def find_engine_auth(host: str, login: RegistryLogin | None) -> dict[str, str]:
    """Return the login for a host in the form of the engine's API.

    Args:
        host: Host and port of the registry.
        login: Login from the settings. If it is for another host, Docker's own login is used.

    Returns:
        The login; {} if there is none.

    Raises:
        ToolError: Docker's own login cannot be read.
    """
    if login is not None and login.host == host:
        return login.to_engine_auth()
    from docker import auth, credentials, errors

    try:
        with warnings.catch_warnings():
            # docker-py warns about a missing credential helper, and raises as well
            warnings.simplefilter("ignore")
            return auth.load_config().resolve_authconfig(host) or {}
    except (errors.DockerException, credentials.StoreError, ValueError) as exc:
        raise ToolError(
            f"push: Docker's own login for {host} cannot be read",
            found=[str(exc)],
            tip=f"run `docker login {host}`, or set registry.username and registry.password",
        ) from exc
