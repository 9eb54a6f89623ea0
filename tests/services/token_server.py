"""A server that gives tokens, and a registry that wants them."""

from __future__ import annotations

import base64
import json
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.services.certificate import Certificate
from tests.services.fault_proxy import Exchange, FaultProxy
from tests.services.registry import Registry, make_registry

SERVICE = "tests"
ISSUER = "tests-issuer"
_AUTH = """\
auth:
  token: {{realm: "{realm}", service: {service}, issuer: {issuer}, rootcertbundle: {bundle}}}
"""


class TokenServer(FaultProxy):
    """Gives a token to a user with the password or the refresh token, and reading to everybody.

    asked: of each request, how ("GET", "POST") and for which scopes
    """

    def __init__(self, certificate: Certificate, username: str, password: str) -> None:
        super().__init__(0)
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.refresh_token = "refresh-me-please"
        self.tokens: list[str] = []
        self._certificate = certificate
        pair = f"{username}:{password}".encode()
        self._basic = f"Basic {base64.b64encode(pair).decode()}"

    @property
    def realm(self) -> str:
        """The address to ask."""
        return f"http://{self.server}/token"

    def take_fault(self, seen: Any) -> Any:
        """Answer every request oneself, unless there is a fault for it."""
        return super().take_fault(seen) or self._answer

    def _answer(self, exchange: Exchange) -> None:
        body = exchange.read_body().decode()
        is_post = exchange.command == "POST"
        form = parse_qs(body if is_post else urlsplit(exchange.path).query)
        scopes = tuple(scope for value in form.get("scope", []) for scope in value.split())
        self.asked.append((exchange.command, scopes))
        if is_post:
            is_known = form["refresh_token"] == [self.refresh_token]
        else:
            is_known = exchange.headers.get("Authorization") == self._basic
        if not is_known and (is_post or exchange.headers.get("Authorization")):
            details = {"details": "incorrect username or password"}
            exchange.reply(401, {"Content-Type": "application/json"}, json.dumps(details).encode())
            return
        token = self._make_token(scopes, may_write=is_known)
        self.tokens.append(token)
        content = {"access_token" if is_post else "token": token, "expires_in": 300}
        exchange.reply(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _make_token(self, scopes: tuple[str, ...], *, may_write: bool) -> str:
        chain = [base64.b64encode(ssl.PEM_cert_to_DER_cert(self._certificate.path.read_text()))]
        head = {"typ": "JWT", "alg": "RS256", "x5c": [link.decode() for link in chain]}
        access = [_grant(scope, may_write=may_write) for scope in scopes]
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": "", "access": access, "jti": "1"}
        claims |= {"iat": now, "nbf": now - 60, "exp": now + 3600}
        signed = b".".join(_encode(json.dumps(part).encode()) for part in (head, claims))
        return (signed + b"." + _encode(self._certificate.sign(signed))).decode()


def make_token_registry(folder: Path, tokens: TokenServer, certificate: Certificate) -> Registry:
    """Return a registry that believes a token server; not started."""
    registry = make_registry(folder)
    config = folder / "config.yml"
    auth = _AUTH.format(realm=tokens.realm, service=SERVICE, issuer=ISSUER, bundle=certificate.path)
    config.write_text(config.read_text().partition("auth:")[0] + auth)
    return registry


def _grant(scope: str, *, may_write: bool) -> dict[str, Any]:
    kind, name, actions = scope.split(":")
    allowed = {"pull", "push"} if may_write else {"pull"}
    granted = [action for action in actions.split(",") if action in allowed]
    return {"type": kind, "name": name, "actions": granted}


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
