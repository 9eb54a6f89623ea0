"""What a registry's refusal means, as the engine or the registry itself words it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fftasks.errors import ToolError


@dataclass(frozen=True)
class Refusal:
    """One kind of refusal.

    passing: the same request may well succeed a moment later; tip: with {server} and {login}
    """

    sign: str
    meaning: str
    tip: str
    passing: bool = False


# the first row whose sign is found holds
_REFUSALS = (
    Refusal(
        "server gave HTTP response to HTTPS client",
        "the registry speaks plain http",
        'add "{server}" to "insecure-registries" in the daemon.json of the engine, and restart it',
    ),
    Refusal(
        "wrong.version.number|record.layer.failure",
        "the registry speaks plain http",
        "check the port in registry.server; if it is meant so, set registry.insecure: true",
    ),
    Refusal(
        "HTTP request to an HTTPS server|HTTP request was sent to HTTPS",
        "the registry speaks https",
        "set registry.insecure: false, and registry.ca_cert to the CA of its certificate",
    ),
    Refusal(
        "tunnel connection failed|unable to connect to proxy|proxyconnect",
        "the proxy on the way to the registry does not let it through",
        "check HTTPS_PROXY, and name the registry in NO_PROXY if it needs no proxy",
    ),
    Refusal(
        "certificate has expired|not yet valid",
        "the registry's certificate is out of date",
        "have it renewed, and check the clock of this machine",
    ),
    Refusal(
        "hostname mismatch|ip address mismatch",
        "the registry's certificate is for another name",
        "set registry.server to the name in the certificate",
    ),
    Refusal(
        "certificate.verify.failed",
        "nobody here knows the CA of the registry's certificate",
        "set registry.ca_cert to a file with that CA",
    ),
    Refusal(
        "not a registry's answer",
        "what answers there is no registry",
        "check registry.server, and whether a proxy or a login page is in the way",
    ),
    Refusal(
        "x509:|certificate",
        "the engine does not trust the registry's certificate",
        "put your CA into /etc/docker/certs.d/{server}/ca.crt on the engine's machine",
    ),
    Refusal(
        "no such host|server misbehaving|name resolution|lookup .* timeout|name or service not known"
        "|nodename nor servname|no address associated",
        "there is no such host",
        "check registry.server, and that the engine's machine can resolve it",
    ),
    Refusal(
        "toomanyrequests|too many requests|HTTP status: 429",
        "the registry is asked too often",
        "run it again later",
        passing=True,
    ),
    Refusal(
        "no basic auth credentials|unauthorized|authentication required|incorrect username"
        "|HTTP status: 401",
        "the registry does not accept the login",
        "{login}",
    ),
    Refusal(
        "denied|forbidden|insufficient_scope|HTTP status: 403",
        "the registry does not allow it",
        "ask for the right to it, or set registry.repository to one that is yours ({login})",
    ),
    Refusal(
        "name unknown|name_unknown|repository .* (not found|does not exist)",
        "the registry has no such repository and does not make one",
        "make it there first, or check registry.repository",
    ),
    Refusal(
        "no space left|quota|HTTP status: 507",
        "the registry has no space left",
        "make room there; what has been sent is not sent again",
    ),
    Refusal(
        "HTTP status: 413|entity too large",
        "something that is sent is too large for the registry, or for a proxy before it",
        "raise its limit (nginx: client_max_body_size)",
    ),
    Refusal(
        "plain http",
        "the registry leads from https to plain http",
        "have the registry's own address set to https in its configuration",
    ),
    Refusal(
        "connection refused",
        "nothing answers there",
        "check registry.server, and that the registry runs",
        passing=True,
    ),
    Refusal(
        "HTTP status: (5..|408)|EOF|connection reset|broken pipe|timeout|timed out|blob upload"
        "|unreachable|use of closed network connection|TLS handshake|closed connection|aborted"
        "|incomplete ?read|connection broken",
        "the registry broke off",
        "run it again: what has been sent is not sent again; else look at the registry's log",
        passing=True,
    ),
    Refusal(
        "manifest.unknown|blob.unknown|HTTP status: 404",
        "the registry does not have it",
        "check the name, and whether it was deleted there; {login}",
    ),
)
_UNKNOWN = Refusal("", "the registry refused", "look at the registry's log")


def classify(message: str) -> Refusal:
    """Return the kind of a refusal."""
    return next((r for r in _REFUSALS if re.search(r.sign, message, re.IGNORECASE)), _UNKNOWN)


def explain(attempted: str, message: str, *, server: str, username: str) -> ToolError:
    """Return the error for a refusal.

    username: that of the login that was used, "" for Docker's own, or none.
    """
    refusal = classify(message)
    login = (
        f"check registry.username ({username!r}) and registry.password"
        if username
        else f"set registry.username and registry.password, or run `docker login {server}`"
    )
    return ToolError(
        f"{attempted}: {refusal.meaning}",
        found=[message],
        tip=refusal.tip.format(server=server, login=login),
    )
