"""The time that a search for secrets takes grows with the size of the file, whatever the file holds."""

from __future__ import annotations

import time

import pytest

from fftasks.secrets.scanner import find_tokens, hide_tokens
from tests.secrets.test_rules import MIXED, PASSWORD, find

SIZE = 1 << 18
LARGE = 1 << 21
SECONDS = 5  # measured: 0.01 s to 1 s; before, 8 s to 25 s
PATHS = ["a.yaml", "a.json", ".env", "a.ini", "a.sh", "a.py", "a.txt", ".netrc", "config/a.yaml"]
UNITS = [
    "password=",
    "password=a,",
    f"password={PASSWORD};",
    '"password": "',
    "token: ",
    "curl -u a:",
    "login('",
    "://a:",
    "sig=",
    "${{",
    "\n",
    "{a: [",
    '"kty" "d": "',
    '{"name": "TOKEN", "value": ',
    "value: ",
    "PuTTY-User-Key-File-3: ",
    "-----BEGIN PRIVATE KEY-----",
    f"ghp_{MIXED[:36]} ",
    f"{MIXED[:32]}/ghp_{MIXED[:36]}.",
    "kind: Secret {",
]


@pytest.mark.parametrize("unit", UNITS)
def test_one_line_of_repeated_text_is_searched_in_no_time(unit):
    text = unit * (SIZE // len(unit))
    took = {}
    for path in PATHS:
        begin = time.process_time()
        find(path, text, 1 << 20)
        took[path] = time.process_time() - begin

    assert {path: seconds for path, seconds in took.items() if seconds > SECONDS} == {}


@pytest.mark.parametrize("path", ["a.yaml", "a.sh"])
@pytest.mark.parametrize("unit", ["password=", "password=a,"])
def test_eight_times_the_size_takes_about_eight_times_as_long(path, unit):
    begin = time.process_time()
    find(path, unit * (LARGE // len(unit)), 1 << 20)

    assert time.process_time() - begin < 8 * SECONDS


@pytest.mark.parametrize("unit", [f"ghp_{MIXED[:36]} é", f"https://a:{PASSWORD}@b.corp.net "])
def test_many_tokens_of_one_text_are_hidden_in_no_time(unit):
    text = unit * (SIZE // len(unit))
    begin = time.process_time()

    shown = hide_tokens(text)
    found = find_tokens(text)

    assert time.process_time() - begin < 2 * SECONDS
    assert unit[:20] not in shown.replace("https://a:", "")
    assert len(found) == SIZE // len(unit)
    assert text[found[-1].begin : found[-1].end] in unit
