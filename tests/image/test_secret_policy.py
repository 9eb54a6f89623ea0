"""The gate: what stops, what is let through, and what is said."""

from __future__ import annotations

import pytest

from fftasks.errors import SettingsError
from fftasks.image.context_policy import SecretError, check_secret_policy
from fftasks.secrets.scanner import SecretFinding

ENV = [SecretFinding(1, "dotenv")]
KEY = [SecretFinding(3, "private-key"), SecretFinding(40, "private-key")]


def refuse(found, *allow) -> str:
    with pytest.raises(SecretError) as caught:
        check_secret_policy(found, allow)
    return str(caught.value)


def test_all_are_said_at_once_with_path_line_and_rule():
    text = refuse({".env": ENV, "keys/a.pem": KEY})

    assert "3 secrets would get into the image" in text
    assert ".env:1: dotenv" in text
    assert "keys/a.pem:3: private-key" in text
    assert "keys/a.pem:40: private-key" in text
    assert "'.env' to .dockerignore" in text
    assert "context.allow: ['.env']" in text


def test_twenty_are_shown_and_the_others_counted():
    text = refuse({f"{number:02}.env": ENV for number in range(33)})

    assert text.count(": dotenv") == 20
    assert "and 13 more, in 33 files altogether" in text


def test_one_is_called_one():
    assert "context: a secret would get" in refuse({".env": ENV})


@pytest.mark.parametrize("allow", [".env", "*.env", "**/.env", "/.env", "*"])
def test_allowed_paths_and_patterns_are_noted(allow):
    assert check_secret_policy({".env": ENV}, [allow]) == [[".env", 1, "dotenv"]]


def test_folder_allows_what_is_below_it():
    assert check_secret_policy({"keys/a.pem": KEY}, ["keys"]) == [
        ["keys/a.pem", 3, "private-key"],
        ["keys/a.pem", 40, "private-key"],
    ]


def test_exception_takes_back_what_is_allowed():
    assert "keys/a.pem" in refuse({"keys/a.pem": KEY}, "keys", "!keys/a.pem")


def test_only_what_is_not_allowed_is_said():
    text = refuse({".env": ENV, "keys/a.pem": KEY}, "keys")

    assert ".env:1" in text
    assert "a.pem" not in text


def test_pattern_that_is_none_is_named():
    with pytest.raises(SettingsError, match=r"context\.allow line 2"):
        check_secret_policy({}, ["a", "["])


@pytest.mark.parametrize(
    ("path", "shown", "line"),
    [
        ("a\nb.env", "'a\\nb.env':1", "'a\\nb.env'"),
        ("[a].env", "[a].env:1", "'\\\\[a\\\\].env'"),
    ],
)
def test_odd_names_are_quoted(path, shown, line):
    text = refuse({path: ENV})

    assert shown in text
    assert f"such as {line}" in text


def test_line_of_the_tip_allows_the_path():
    path = "![a]*#.env"
    line = "\\!\\[a\\]\\*#.env"

    assert repr(line) in refuse({path: ENV})
    assert check_secret_policy({path: ENV}, [line])


def test_every_finding_has_a_reason():
    text = refuse({"a.py": [SecretFinding(1, "github-token"), SecretFinding(2, "key-in-code")]})

    assert "a.py:1: github-token (the format of GitHub's tokens)" in text
    assert "a.py:2: key-in-code (a random value" in text
    assert "secret_env" in text


def test_binary_file_has_no_line():
    assert "model.pkl (binary): aws-token" in refuse({"model.pkl": [SecretFinding(0, "aws-token")]})
