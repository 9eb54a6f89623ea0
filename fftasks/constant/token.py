"""Tokens: bytes that stand for a value, for two values never the same; a list has one of its items.

Source: hash trees, Merkle, 'A digital signature based on a conventional encryption function', 1987.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from typing import Any


def encode(text: str) -> bytes:
    """Return the bytes of a text, also of one that is no Unicode."""
    return text.encode("utf-8", "surrogatepass")


def join(tag: str, *parts: bytes | memoryview) -> bytes:
    """Return one token for those of all parts, in order; tag: says what they are parts of."""
    hasher = hashlib.sha256(tag.encode())
    for part in parts:
        hasher.update(b"%d:" % len(part))
        hasher.update(part)
    return b"#" + hasher.digest()


def seal(token: bytes) -> str:
    """Return the digest that a token becomes: "sha256:<64 hex>"."""
    return "sha256:" + hashlib.sha256(token).hexdigest()


def _format_float(value: float) -> bytes:
    return b"f" + (b"nan" if math.isnan(value) else struct.pack(">d", value))


SIMPLE: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"None",
    type(...): lambda _: b"...",
    type(NotImplemented): lambda _: b"NotImplemented",
    bool: lambda value: b"True" if value else b"False",
    int: lambda value: b"i%x" % value,
    float: _format_float,
    complex: lambda value: b"c" + _format_float(value.real) + _format_float(value.imag),
    str: lambda value: b"s" + encode(value),
    bytes: lambda value: b"b" + value,
    bytearray: lambda value: b"B" + bytes(value),
}
