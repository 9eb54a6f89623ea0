"""What registries and engines say when they refuse."""

from __future__ import annotations

import pytest

from fftasks.registry import failures as refusal

_MESSAGES = [
    ("unauthorized: authentication required", "login", False),
    ("no basic auth credentials", "login", False),
    ("denied: requested access to the resource is denied", "does not allow", False),
    (
        'Get "https://x:5000/v2/": http: server gave HTTP response to HTTPS client',
        "plain http",
        False,
    ),
    ("x509: certificate signed by unknown authority", "certificate", False),
    ("dial tcp: lookup x.invalid on 10.0.0.1:53: no such host", "no such host", False),
    ("dial tcp: lookup x on 10.0.0.1:53: read udp 10.0.0.2: i/o timeout", "no such host", False),
    ("dial tcp 127.0.0.1:5000: connect: connection refused", "nothing answers", True),
    ("received unexpected HTTP status: 500 Internal Server Error", "broke off", True),
    ("received unexpected HTTP status: 503 Service Unavailable", "broke off", True),
    ("write tcp: connection reset by peer", "broke off", True),
    ("unexpected EOF", "broke off", True),
    ("net/http: TLS handshake timeout", "broke off", True),
    ("blob upload unknown", "broke off", True),
    ("toomanyrequests: You have reached your pull rate limit", "too often", True),
    ("received unexpected HTTP status: 429 Too Many Requests", "too often", True),
    ("name unknown: The repository with name 'x' does not exist", "no such repository", False),
    ("unknown: no space left on device", "no space", False),
    ("HTTP status: 500 x: UNKNOWN: No space left on device", "no space", False),
    ("HTTP status: 507 Insufficient Storage", "no space", False),
    ("HTTP status: 429 x: quota exceeded for unauthorized users", "too often", True),
    ("HTTP status: 413 Request Entity Too Large", "too large", False),
    ("HTTP status: 408 Request Timeout", "broke off", True),
    ("HTTP status: 404 Not Found", "does not have it", False),
    ("HTTP status: 404 Not Found: MANIFEST_UNKNOWN: x", "does not have it", False),
    ("HTTP status: 404 Not Found: BLOB_UPLOAD_UNKNOWN: blob upload unknown", "broke off", True),
    ("Remote end closed connection without response", "broke off", True),
    ("IncompleteRead(5 bytes read, 5 more expected)", "broke off", True),
    ("Name or service not known", "no such host", False),
    ("nodename nor servname provided, or not known", "no such host", False),
    ("Temporary failure in name resolution", "no such host", False),
    ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "plain http", False),
    ("[SSL] record layer failure (_ssl.c:1033)", "plain http", False),
    ("Client sent an HTTP request to an HTTPS server.", "speaks https", False),
    ("certificate verify failed: self-signed certificate", "nobody here knows", False),
    ("certificate verify failed: certificate has expired", "out of date", False),
    ("certificate verify failed: Hostname mismatch, x", "another name", False),
    ("Tunnel connection failed: 407 Proxy Authentication Required", "the proxy", False),
    ("not a registry's answer: a web page came", "no registry", False),
    ("it leads from https to plain http", "from https", False),
    ("something new", "the registry refused", False),
]


@pytest.mark.parametrize(("message", "meaning", "passing"), _MESSAGES)
def test_messages(message, meaning, passing):
    found = refusal.classify_failure(message)

    assert meaning in found.meaning
    assert found.passing == passing


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
