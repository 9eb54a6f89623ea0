"""protobuf's JSON as Go writes it, which differs from Python's in numbers and in spaces."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message


def format_message(message: Message) -> str:
    """Return a message as the launcher prints it: no unset fields, names in lowerCamelCase."""
    return format_value(to_value(message))


def to_value(message: Message) -> Any:
    """Return a message as plain JSON; every number in a google.protobuf.Value is a float."""
    from google.protobuf import json_format

    return json_format.MessageToDict(message)


def format_value(value: Any) -> str:
    """Return plain JSON without spaces, keys sorted, floats as Go writes them."""
    if isinstance(value, dict):
        pairs = (f"{_quote(key)}:{format_value(value[key])}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(format_value, value)) + "]"
    if isinstance(value, float):
        return format_number(value)
    return _quote(value) if isinstance(value, str) else json.dumps(value)


def format_number(number: float) -> str:
    """Return a float the way encoding/json does.

    5.0        5
    0.1        0.1
    1e20       100000000000000000000
    1e21       1e+21
    1e-7       1e-7, where Python writes 1e-07
    """
    if number == 0:
        return "-0" if str(number).startswith("-") else "0"
    if 1e-6 <= abs(number) < 1e21:
        return format_plain(number)
    digits, exponent = repr(number).split("e")
    return f"{digits.removesuffix('.0')}e{exponent[0]}{exponent[1:].lstrip('0')}"


def format_plain(number: float) -> str:
    """Return a float without an exponent, as the launcher puts it into a placeholder."""
    text = f"{Decimal(repr(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
