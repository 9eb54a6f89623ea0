"""Reads the corpora of the secret check: files with a planted secret each, and innocent files.

The files with secrets (planted.txt) describe each value by the format that its issuer publishes, and
never by the product's table of tokens. Values are random, with a fixed seed, so that the repository
contains no literal secret.

    === name | path | encoding     begins a file; encoding: utf-8 (default), another codec, or a container
    «...»                          the secret; «base64:...» is the Base64 form of its text
    @{A20}                         20 random characters of the alphabet A (see ALPHABETS)
    @{m} @{g}                      a password that a person would choose; a UUID
"""

from __future__ import annotations

import base64
import hashlib
import io
import pickle
import random
import re
import sqlite3
import string
import tempfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ALPHABETS = {
    "A": string.ascii_letters + string.digits,
    "a": string.ascii_letters,
    "B": string.ascii_uppercase + "234567",
    "b": string.ascii_letters + string.digits + "+/",
    "c": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
    "d": string.digits,
    "H": "0123456789ABCDEF",
    "h": "0123456789abcdef",
    "L": string.ascii_lowercase + string.digits,
    "l": string.ascii_lowercase,
    "p": string.ascii_letters + string.digits + "!%&()*+,-./?@^_~",
    "U": string.ascii_uppercase + string.digits,
    "w": string.ascii_letters + string.digits + "-_",
}
WORDS = "Winter coffee Bridge falcon Monday rocket Garden silver Oslo tiger Harbor violet".split()
MAGIC = b"\x7fELF\x02\x01\x01" + b"\0" * 9  # of a binary file

_BLANK = re.compile(r"@\{([A-Za-z])(\d*)\}")
_SECRET = re.compile(r"«([^»]*)»")


class Planted(NamedTuple):
    """A file with a secret.

    name: what kind of file and secret it is
    lines: the lines on which the secret stands, counted from 1; of a container, none
    secret: the value as it stands in the text
    """

    name: str
    path: str
    content: bytes
    secret: str
    lines: range
    template: str

    @property
    def is_held_back(self) -> bool:
        """Whether the case belongs to the third that must not guide the design of the rules."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 3 == 0


def read_planted(seed: int = 14) -> list[Planted]:
    """Return all files with secrets; the values depend on the seed and on the case's name only."""
    cases = []
    for name, path, encoding, template in _read("planted.txt"):
        draw = random.Random(f"{seed} {name}")
        parts = _SECRET.split(_BLANK.sub(lambda match, draw=draw: _fill(match, draw), template))
        parts[1::2] = [_encode(part) for part in parts[1::2]]
        assert len(parts) == 3, name
        first = parts[0].count("\n") + 1
        lines = range(first, first + parts[1].count("\n") + 1)
        cases.append(
            Planted(name, path, WRITE[encoding]("".join(parts)), parts[1], lines, template)
        )
    return cases


def read_innocent(seed: int = 14) -> list[tuple[str, str, bytes]]:
    """Return name, path and content of all innocent files."""
    cases = []
    for name, path, encoding, template in _read("innocent.txt"):
        draw = random.Random(f"{seed} {name}")
        text = _BLANK.sub(lambda match, draw=draw: _fill(match, draw), template)
        cases.append((name, path, WRITE[encoding](text)))
    return cases


def _read(file: str) -> list[tuple[str, str, str, str]]:
    cases = []
    for block in re.split(r"(?m)^=== ", (HERE / file).read_text("utf-8"))[1:]:
        head, text = block.split("\n", 1)
        name, path, encoding = (*head.split(" | "), "utf-8")[:3]
        cases.append((name, path, encoding, text))
    assert len({name for name, *_ in cases}) == len(cases)
    return cases


def _fill(match: re.Match[str], draw: random.Random) -> str:
    kind, count = match[1], int(match[2] or 0)
    if kind == "g":
        return str(uuid.UUID(int=draw.getrandbits(128), version=4))
    if kind == "m":
        return (
            draw.choice(WORDS) + draw.choice("-_.") + draw.choice(WORDS) + f"{draw.randrange(100)}!"
        )
    return "".join(draw.choices(ALPHABETS[kind], k=count))


def _encode(text: str) -> str:
    if text.startswith("base64:"):
        return base64.b64encode(text[7:].encode()).decode()
    return text


def _write_sqlite(text: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE cache (url TEXT, answer TEXT)")
            connection.execute("INSERT INTO cache VALUES (?, ?)", ("https://api.corp.net", text))
        connection.close()
        return path.read_bytes()


def _write_zip(text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("main.js", text)
    return stream.getvalue()


WRITE: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-8-sig": lambda text: text.encode("utf-8-sig"),
    "latin-1": lambda text: text.encode("latin-1"),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "utf-16": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be-mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "binary": lambda text: MAGIC + text.encode() + b"\0\1\2",
    "pickle": lambda text: pickle.dumps(["first", text, 0, 1.5], protocol=4),
    "sqlite": _write_sqlite,
    "zip": _write_zip,
}
