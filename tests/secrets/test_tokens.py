"""The table of tokens, and the matcher that reads it."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from fftasks.secrets import scanner as secret
from fftasks.secrets.token_formats import ALPHABETS, FORMATS
from fftasks.secrets.tokens import (
    find_token_in_binary,
    find_token_in_word,
    has_valid_checksum,
    is_random,
)

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "secrets.md"
RANDOM = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY"


def test_every_format_states_its_source():
    assert [form for form in FORMATS if not form.source] == []
    assert len({form.issuer for form in FORMATS}) >= 60


def test_every_format_has_something_to_look_for():
    parts = [part for form in FORMATS for part in form.rest]
    literal = [form for form in FORMATS if form.prefixes or form.near or len(form.rest) > 1]

    assert len(literal) == len(FORMATS)
    assert any(part.startswith(tuple(ALPHABETS)) for part in parts)


def test_documentation_names_every_issuer():
    text = HOW_TO.read_text()

    assert [form.issuer for form in FORMATS if form.issuer not in text] == []


@pytest.mark.parametrize("before", ["", " ", '"', "=", "/", "\\n", "https://", "("])
def test_token_begins_after_what_is_no_part_of_a_word(before):
    data = f"{before}ghp_{RANDOM}aB3d".encode()
    begin = max(0, len(before) - (before.endswith("n") or 0))

    found = find_token_in_word(data, begin, len(data), near=False)

    assert found is not None
    assert data[found.begin : found.end] == f"ghp_{RANDOM}aB3d".encode()


def test_token_in_a_longer_word_is_none():
    data = f"xghp_{RANDOM}aB3d".encode()

    assert find_token_in_word(data, 0, len(data), near=False) is None
    assert find_token_in_binary(data, 0, len(data)) is not None


def test_format_without_a_prefix_needs_its_issuer_on_the_same_line():
    key = b"0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"
    for before, kind in (
        (b"WANDB_API_KEY=", "wandb-token"),
        (b"commit = ", None),
        (b"wandb\n", None),
    ):
        data = before + key
        found = find_token_in_word(data, len(before), len(data), near=True)
        assert (found and found.format.kind) == kind


@pytest.mark.parametrize(
    ("word", "random"),
    [
        (RANDOM, True),
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", True),
        ("test_that_version_2_of_the_model_is_loaded", False),
        ("UsersUpdatePasswordMeResponse", False),
        ("2024-01-01T00-00-00", False),
        ("kubernetes.io/service-account.name", False),
    ],
)
def test_random_words_change_often_between_letters_and_digits(word, random):
    assert is_random(word.encode()) is random


def test_checksum_of_a_token_of_github():
    body = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"  # an example that was published with its checksum

    assert has_valid_checksum(f"ghp_{body}0mLq17".encode())
    assert not has_valid_checksum(f"ghp_{body}0mLq18".encode())


def test_digest_changes_with_every_module_of_the_rules(monkeypatch, tmp_path):
    for module in Path(secret.__file__).parent.glob("*.py"):
        shutil.copy(module, tmp_path)
    monkeypatch.setattr(secret, "__file__", str(tmp_path / "scanner.py"))
    assert secret._digest_rules() == secret.SCANNER_DIGEST

    for module in sorted(tmp_path.glob("*.py")):
        text = module.read_text()
        module.write_text(text + "# one more rule\n")
        assert secret._digest_rules() != secret.SCANNER_DIGEST, module.name
        module.write_text(text)


HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2
SENTRY = base64.b64encode(b'{"iat":1700000000.5,"url":"https://sentry.io","org":"a"}').decode()


@pytest.mark.parametrize("before", ["", "KEY=", "x: '", '{"a": "', "client(", "/"])
@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("sentry-token", f"sntrys_{SENTRY.rstrip('=')}=_{RANDOM}aB3dE5fG7hJ"),
        ("sentry-token", f"sntrys_{SENTRY.rstrip('=')}==_{RANDOM}aB3dE5fG7hJ="),
        ("neptune-token", base64.b64encode(b'{"api_address":"https://app.neptune.ai","a":"7x"}').decode()),
        ("jina-token", "jina_" + (RANDOM * 2)[:60]),
        ("voyage-token", "pa-" + (RANDOM * 2)[:43]),
        ("cerebras-token", "csk-" + (RANDOM * 2).lower()[:48]),
        ("new-relic-token", HEX[:36] + "NRAL"),
        ("runpod-token", "rpa_" + (RANDOM * 2).upper()[:46]),
    ],
)  # fmt: skip
def test_token_is_found_whole_in_any_text(before, kind, token):
    text = f"{before}{token}"

    found = secret.find_tokens(f"first\n{text}\n")

    assert [(one.kind, one.end - one.begin) for one in found] == [(kind, len(token))]
