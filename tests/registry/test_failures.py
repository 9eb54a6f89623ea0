"""What registries and engines say when they refuse."""

from __future__ import annotations

import pytest

from fftasks.registry import failures as refusal

_MESSAGES = [
    ("unauthorized: authentication required", "login", False),
    ("no basic auth credentials", "login", False),
    ("denied: requested access to the resource is denied", "permission denied", False),
    (
        'Get "https://x:5000/v2/": http: server gave HTTP response to HTTPS client',
        "plain http",
        False,
    ),
    ("x509: certificate signed by unknown authority", "certificate", False),
    ("dial tcp: lookup x.invalid on 10.0.0.1:53: no such host", "host was not found", False),
    (
        "dial tcp: lookup x on 10.0.0.1:53: read udp 10.0.0.2: i/o timeout",
        "host was not found",
        False,
    ),
    ("dial tcp 127.0.0.1:5000: connect: connection refused", "connection refused", True),
    ("received unexpected HTTP status: 500 Internal Server Error", "did not complete", True),
    ("received unexpected HTTP status: 503 Service Unavailable", "did not complete", True),
    ("write tcp: connection reset by peer", "did not complete", True),
    ("unexpected EOF", "did not complete", True),
    ("net/http: TLS handshake timeout", "did not complete", True),
    ("blob upload unknown", "did not complete", True),
    ("toomanyrequests: You have reached your pull rate limit", "rate limit", True),
    ("received unexpected HTTP status: 429 Too Many Requests", "rate limit", True),
    (
        "name unknown: The repository with name 'x' does not exist",
        "repository was not found",
        False,
    ),
    ("unknown: no space left on device", "no space", False),
    ("HTTP status: 500 x: UNKNOWN: No space left on device", "no space", False),
    ("HTTP status: 507 Insufficient Storage", "no space", False),
    ("HTTP status: 429 x: quota exceeded for unauthorized users", "rate limit", True),
    ("HTTP status: 413 Request Entity Too Large", "too large", False),
    ("HTTP status: 408 Request Timeout", "did not complete", True),
    ("HTTP status: 404 Not Found", "not found in the registry", False),
    ("HTTP status: 404 Not Found: MANIFEST_UNKNOWN: x", "not found in the registry", False),
    (
        "HTTP status: 404 Not Found: BLOB_UPLOAD_UNKNOWN: blob upload unknown",
        "did not complete",
        True,
    ),
    ("Remote end closed connection without response", "did not complete", True),
    ("IncompleteRead(5 bytes read, 5 more expected)", "did not complete", True),
    ("Name or service not known", "host was not found", False),
    ("nodename nor servname provided, or not known", "host was not found", False),
    ("Temporary failure in name resolution", "host was not found", False),
    ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "plain http", False),
    ("[SSL] record layer failure (_ssl.c:1033)", "plain http", False),
    ("Client sent an HTTP request to an HTTPS server.", "uses https", False),
    ("certificate verify failed: self-signed certificate", "not trusted here", False),
    ("certificate verify failed: certificate has expired", "has expired", False),
    ("certificate verify failed: Hostname mismatch, x", "another name", False),
    ("Tunnel connection failed: 407 Proxy Authentication Required", "through the proxy", False),
    ("not a registry's answer: a web page came", "not a registry", False),
    ("it leads from https to plain http", "from https", False),
    ("something new", "the registry refused", False),
]


@pytest.mark.parametrize(("message", "meaning", "passing"), _MESSAGES)
def test_messages(message, meaning, passing):
    found = refusal.classify_failure(message)

    assert meaning in found.meaning
    assert found.is_transient == passing


@pytest.mark.parametrize(("message", "meaning", "passing"), _MESSAGES)
def test_every_refusal_says_what_was_found_and_what_to_do(message, meaning, passing):
    error = refusal.make_registry_error(
        "push: x was not taken", message, server="host:5000", username=""
    )

    assert message in str(error)
    assert "hint:" in str(error)
    assert "{" not in str(error)


def test_tip_for_a_login_from_the_settings_names_them():
    error = refusal.make_registry_error("push: x", "unauthorized", server="host", username="bob")

    assert "registry.username ('bob')" in error.tip


def test_tip_without_a_login_names_both_ways():
    error = refusal.make_registry_error("push: x", "unauthorized", server="host", username="")

    assert "docker login host" in error.tip
    assert "registry.username" in error.tip
