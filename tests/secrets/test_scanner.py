"""The search for secrets: lines, pieces of files, and what is shown instead of them."""

import json

import pytest

from fftasks.secrets.scanner import HIDDEN, find_tokens, hide_tokens
from tests.secrets.test_rules import KEY, MIXED, PASSWORD, find

LINES = KEY.format("", "", "\n".join([MIXED[:64]] * 20 + [MIXED[:10]]))
END = "-----END PRIVATE KEY-----"
PUTTY = f"PuTTY-User-Key-File-3: ssh-rsa\nPublic-Lines: 1\n{MIXED}\nPrivate-Lines: 1\n{MIXED}\n"


def test_line_is_that_of_the_value():
    text = "a: 1\n\n" + "password: " + PASSWORD + "\n"

    assert find("a.yaml", text) == [(3, "password-in-config")]


def test_one_finding_a_line_and_twenty_a_file():
    line = "ghp_" + MIXED[:36] + " " + "glpat-" + MIXED[:20] + "\n"

    assert find("a.txt", line * 50) == [(number, "github-token") for number in range(1, 21)]


@pytest.mark.parametrize("before", [0, 1, 8_100, 8_190, 8_191, 8_192, 8_193, 16_384, 30_000])
def test_pieces_make_no_difference(before):
    filler = ("x" * 99 + "\n") * (before // 100) + "y" * (before % 100)
    text = f"{filler}\nghp_{MIXED[:36]}\n{filler}\n{KEY.format('', '', MIXED)}{filler}"

    assert find("a.txt", text, 8_192) == find("a.txt", text)
    assert [rule for _, rule in find("a.txt", text)] == ["github-token", "private-key"]


def test_part_of_a_longer_word_at_the_border_of_pieces_is_none():
    word = "ghp_" + MIXED[:36]
    for length in range(8_100, 8_260):
        assert find("a.txt", "x" * length + word + "\n" + "z" * 9_000, 8_192) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no secret at all", "no secret at all"),
        (f"token ghp_{MIXED[:36]} in a line", f"token {HIDDEN} in a line"),
        (f"https://me:{PASSWORD}@git.invented.com", f"https://me:{HIDDEN}@git.invented.com"),
        ("https://me:changeme@git.invented.com", "https://me:changeme@git.invented.com"),
        (f"before\n{KEY.format('', '', MIXED)}after", f"before\n{HIDDEN}\nafter"),
        (f"before\n{LINES}{END}\nafter", f"before\n{HIDDEN}\nafter"),
        (f"before\n{LINES}=aBcD\n{END}\nafter", f"before\n{HIDDEN}\nafter"),
        (json.dumps({"key": LINES + END, "b": 1}), f'{{"key": "{HIDDEN}", "b": 1}}'),
        ('"' + LINES.replace("\n", '\\n" +\n "') + END + '"', f'"{HIDDEN}"'),
        (KEY.format("", "", MIXED) + "' +\n'" * 1000, f"{HIDDEN}\n' +"),  # in no time
        (f"{PUTTY}Private-MAC: 0123abcd\nafter", f"{HIDDEN}\nafter"),
        ("PuTTY-User-Key-File-3: cut off\nafter", f"{HIDDEN}\nafter"),
        (f"\ud800 ghp_{MIXED[:36]}", f"\ud800 {HIDDEN}"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_people_are_shown_has_no_token(text, shown):
    hidden = hide_tokens(text)

    assert shown in hidden
    assert MIXED[:10] not in hidden
    assert PASSWORD not in hidden


def test_found_tokens_have_their_kind_and_their_place_in_characters():
    token = "ghp_" + MIXED[:36]
    text = f"é {token} https://me:{PASSWORD}@git.invented.com"

    found = find_tokens(text)

    assert [(one.kind, text[one.begin : one.end]) for one in found] == [
        ("github-token", token),
        ("password-in-url", PASSWORD),
    ]
    assert token not in repr(found)


@pytest.mark.parametrize("text", ["", "no secret", "https://me:changeme@git.invented.com", "ghp_x"])
def test_no_token_is_found_in_ordinary_text(text):
    assert find_tokens(text) == []
