"""What registries and engines say when they refuse."""

from __future__ import annotations

import pytest

from fftasks.ports import refusal

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
    ("something new", "the registry refused", False),
]


@pytest.mark.parametrize(("message", "meaning", "passing"), _MESSAGES)
def test_messages(message, meaning, passing):
    found = refusal.classify(message)

    assert meaning in found.meaning
    assert found.passing == passing


@pytest.mark.parametrize(("message", "meaning", "passing"), _MESSAGES)
def test_every_refusal_says_what_was_found_and_what_to_do(message, meaning, passing):
    error = refusal.explain("push: x was not taken", message, server="host:5000", username="")

    assert message in str(error)
    assert "tip:" in str(error)
    assert "{" not in str(error)


def test_tip_for_a_login_from_the_settings_names_them():
    error = refusal.explain("push: x", "unauthorized", server="host", username="bob")

    assert "registry.username ('bob')" in error.tip


def test_tip_without_a_login_names_both_ways():
    error = refusal.explain("push: x", "unauthorized", server="host", username="")

    assert "docker login host" in error.tip
    assert "registry.username" in error.tip
