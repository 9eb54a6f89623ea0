"""Decide where credentials may be sent: only to the origin that they belong to, and only over TLS.

An origin is a scheme, a host and a port (RFC 6454). Plain HTTP is allowed where it does not leave the
machine or the cluster: to loopback addresses and to names of Kubernetes services. Every client calls this
module before it attaches a password, a token, a cookie or a certificate to a request.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# getaddrinfo() parses 127.1, 0x7f.1 and 2130706433 as addresses; other programs do not
_LIKE_ADDRESS = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_ZONE = re.compile(r"[\w.~-]+", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
# The names that Kubernetes gives to services. The public DNS has no domain `svc`; `local` is reserved for
# local networks (RFC 6762). `svc.<other domain>` is not listed: anyone may own such a domain, and the short
# form works in every cluster.
# Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
_CLUSTER_SUFFIXES = (".svc", ".svc.cluster.local")
# Hosts that Google itself operates: its APIs, and its proxy in front of Kubeflow Pipelines and notebooks.
# Other names below googleusercontent.com do not qualify:
# <address>.bc.googleusercontent.com is the virtual machine of any customer.
# Sources: https://cloud.google.com/vertex-ai/docs/workbench/instances/service-perimeter (names of the proxy)
# and the addresses of AI Platform Pipelines, <hash>-dot-<region>.pipelines.googleusercontent.com
GOOGLE_DOMAINS = (
    "pipelines.googleusercontent.com",
    "notebooks.googleusercontent.com",
    "kernels.googleusercontent.com",
    "googleapis.com",
)
# second-level labels under which several owners register names: company.co.uk
_SHARED = frozenset({"ac", "co", "com", "edu", "go", "gov", "mil", "ne", "net", "nom", "or", "org"})


class Origin(NamedTuple):
    """The server that a URL names.

    Attributes:
        scheme: "http" or "https".
        host: A name in lower case and ASCII (IDNA) without a dot at its end, or an address without brackets.
        port: The port; the default port of the scheme if the URL has none.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{shown}"

    @property
    def is_protected(self) -> bool:
        """Whether traffic is protected: TLS, or a loopback or cluster-internal address."""
        return self.scheme == "https" or is_loopback(self.host) or is_cluster_internal(self.host)


class ParsedUrl(NamedTuple):
    """A validated URL: its origin, and its text in ASCII, which every HTTP client parses in the same way."""

    origin: Origin
    url: str


def parse_url(url: str) -> ParsedUrl:
    """Parse a URL; accept only URLs that every HTTP client parses in the same way.

    Raises:
        ValueError: The scheme is not http or https, or the URL contains a user name, or the host is neither a
            name nor an address. The message does not repeat the URL, which may contain a password.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("it does not begin with http:// or https://")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if "@" in authority:
        raise ValueError("it contains a user name or a password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise ValueError("its host or port is invalid")
    port = int(parts[2] or _PORTS[scheme])
    if not 0 < port <= _LAST_PORT:
        raise ValueError("its port is invalid")
    host = _read_host(parts[1])
    dot = "." if parts[1].endswith(".") else ""
    shown = f"[{host.replace('%', '%25')}]" if ":" in host else f"{host}{dot}"
    given = f":{parts[2]}" if parts[2] else ""
    return ParsedUrl(Origin(scheme, host, port), f"{scheme}://{shown}{given}{rest}")


def parse_origin(url: str) -> Origin:
    """Return the origin of a URL; raise ValueError as parse_url does."""
    return parse_url(url).origin


def is_same_origin(url: str, origin: Origin) -> bool:
    """Return whether a URL belongs to an origin; an invalid URL belongs to none."""
    try:
        return parse_origin(url) == origin
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: 127.0.0.0/8, ::1, localhost, *.localhost."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_cluster_internal(host: str) -> bool:
    """Return whether a host, in the form of Origin.host, is the name of a Kubernetes service."""
    return host.endswith(_CLUSTER_SUFFIXES)


def is_google(host: str) -> bool:
    """Return whether Google operates a host, in the form of Origin.host."""
    return any(host == domain or host.endswith(f".{domain}") for domain in GOOGLE_DOMAINS)


def is_same_site(host: str, other: str) -> bool:
    """Return whether two hosts, in the form of Origin.host, have the same owner.

    This holds for equal hosts, for all names of this machine, and for names in the same registrable domain,
    such as registry-1.docker.io and auth.docker.io. A domain under which several owners register names,
    such as co.uk, is not enough.
    """
    if host == other or (is_loopback(host) and is_loopback(other)):
        return True
    if _is_address(host) or _is_address(other):
        return False
    domain = _find_domain(host)
    return bool(domain) and domain == _find_domain(other)


def _find_domain(host: str) -> str:
    """Return the registrable domain of a host, or "" if it has none.

    The standard library has no list of public suffixes; http.cookiejar uses a similar rule.
    """
    labels = host.split(".")
    is_shared = len(labels[-1]) == 2 and labels[-2:-1] and labels[-2] in _SHARED  # noqa: PLR2004
    count = 3 if is_shared else 2
    return ".".join(labels[-count:]) if len(labels) >= count else ""


def _read_host(text: str) -> str:
    if text.startswith("["):
        address, percent, zone = text[1:-1].partition("%")
        zone = zone.removeprefix("25")  # RFC 6874
        if percent and not _ZONE.fullmatch(zone):
            raise ValueError("its host is invalid")
        return f"{ipaddress.IPv6Address(address).compressed}{f'%{zone}' if zone else ''}"
    host = text if text.isascii() else _encode(text)
    host = host.lower().removesuffix(".")
    if _LIKE_ADDRESS.fullmatch(host):
        return str(ipaddress.IPv4Address(host))
    if not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("its host is invalid")
    return host


def _encode(host: str) -> str:
    """Encode a name in ASCII (IDNA), as browsers do; http.client and urllib3 encode it in different ways."""
    import idna  # a dependency of requests

    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        raise ValueError("its host is invalid") from None


def _is_address(host: str) -> bool:
    return ":" in host or _LIKE_ADDRESS.fullmatch(host) is not None
