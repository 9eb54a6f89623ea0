"""The secret check against files with a planted secret each, and against innocent files.

Before the rules were written, a third of the planted files was held back from their design.
"""

from __future__ import annotations

import pytest

from fftasks.secrets.scanner import HIDDEN, FileScanner, SecretFinding, find_tokens, hide_tokens
from tests.attacks.corpus import read_innocent, read_planted

PLANTED = read_planted()
INNOCENT = read_innocent()
TOKENS = [case for case in PLANTED if case.name.startswith("svc-")]


def search(path: str, content: bytes, piece_bytes: int = 1 << 20) -> list[SecretFinding]:
    found = FileScanner(path)
    for begin in range(0, len(content), piece_bytes):
        found.feed(content[begin : begin + piece_bytes], is_last=False)
    found.feed(b"", is_last=True)
    return found.list_findings()


def measure(cases) -> float:
    missed = [case.name for case in cases if not search(case.path, case.content)]
    print(f"missed {len(missed)} of {len(cases)}")
    return 1 - len(missed) / len(cases)


def test_corpus_is_large_enough():
    assert len(PLANTED) >= 300
    assert 100 <= sum(case.is_held_back for case in PLANTED) <= 150


def test_almost_all_planted_secrets_are_found():
    assert measure([case for case in PLANTED if not case.is_held_back]) >= 0.95


def test_held_back_secrets_are_found_nearly_as_often():
    assert measure([case for case in PLANTED if case.is_held_back]) >= 0.92


def test_other_random_values_are_found_as_often():
    assert measure(read_planted(seed=2024)) >= 0.92


@pytest.mark.parametrize(("name", "path", "content"), INNOCENT, ids=[name for name, *_ in INNOCENT])
def test_innocent_file_is_not_stopped(name, path, content):
    assert search(path, content) == []


def test_finding_names_the_line_of_the_secret():
    found = {case.name: search(case.path, case.content) for case in PLANTED if case.lines}
    on_line = [
        case.name
        for case in PLANTED
        if any(one.line in case.lines for one in found.get(case.name, []))
    ]

    assert len(on_line) >= 0.9 * len(PLANTED)


@pytest.mark.parametrize("piece_bytes", [64, 1000])
def test_size_of_the_pieces_makes_no_difference(piece_bytes):
    for case in PLANTED:
        assert search(case.path, case.content, piece_bytes) == search(case.path, case.content)


def test_no_finding_holds_the_secret():
    for case in PLANTED:
        shown = repr(search(case.path, case.content)) + repr(
            find_tokens(case.content.decode("latin-1"))
        )
        assert case.secret not in shown


def test_tokens_are_hidden_where_a_text_is_shown():
    shown = {case.name: hide_tokens(case.content.decode()) for case in TOKENS}
    left = [case.name for case in TOKENS if case.secret in shown[case.name]]

    assert len(left) <= 0.2 * len(TOKENS)
    assert sum(HIDDEN in text for text in shown.values()) >= 0.8 * len(TOKENS)
