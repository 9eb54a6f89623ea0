"""Specifications of settings, and their values with the place where they are set.

Messages never contain the value of a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fftasks.errors import SettingsError, find_near

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*)\}|\$\{")
_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    tuple: "a list of strings",
    dict: "a mapping of strings to strings",
}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class MissingVariableError(SettingsError):
    """Set the environment variable that a setting refers to."""


class SettingSpec(NamedTuple):
    """Specification of a setting.

    Attributes:
        default: Default value; its type is the type of the setting.
        says: Description of the setting.
        secret: Whether the value must not appear in messages.
        choices: Allowed values; empty if the values are not restricted to a list.
        minimum: Smallest allowed number.
        form: Regular expression for the string, or for each string in a list or a mapping. A number then
            needs no
            quotes.
        example: Example of a valid value, for messages.
    """

    default: Any
    says: str
    secret: bool = False
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    form: str = ""
    example: str = ""

    @property
    def allowed(self) -> str:
        """Description of the allowed values."""
        if self.choices:
            return f"one of {', '.join(choice or _EMPTY_CHOICE for choice in self.choices)}"
        if self.example:
            return f"{_TYPE_NAMES[type(self.default)]} such as {self.example}"
        minimum = f", at least {self.minimum:g}" if self.minimum > -math.inf else ""
        return f"{_TYPE_NAMES[type(self.default)]}{minimum}"


_EMPTY_CHOICE = '""'  # a choice that is the empty string, in messages
SettingSpecs = Mapping[str, SettingSpec]  # by dotted key, such as "kfp.host"


class SettingValue(NamedTuple):
    """Value of a setting, and where it is set.

    Attributes:
        value: The value; for a secret whose variable is not set, the error.
        origin: "config/prod.yaml:3" or "environment FFTASKS_KFP__HOST".
        items: Origin of each item of a list or a mapping.
        is_plaintext_secret: Whether a file contains a secret in plain text.
    """

    value: Any  # of a secret that is not there, the error that says so
    origin: str
    items: tuple[str, ...] = ()
    is_plaintext_secret: bool = False

    def list_origins(self) -> tuple[str, ...]:
        """Return the origin of each item of a list or a mapping."""
        return self.items or (self.origin,) * len(self.value)


@dataclass(frozen=True)
class SettingLocation:
    """A setting and the place where it is set.

    Attributes:
        key: Dotted key, such as "kfp.host".
        rule: Specification of the setting.
        origin: Place, for messages.
        environ: Environment variables for ${NAME}; None if ${NAME} is not replaced.
    """

    key: str
    rule: SettingSpec
    origin: str
    environ: Mapping[str, str] | None = None

    def refuse(self, shown: str, tip: str = "") -> SettingsError:
        """Return the error for an invalid value; the message does not contain the value of a secret."""
        found = "" if self.rule.secret else f", not {shown}"
        problem = f"{self.origin}: {self.key} must be {self.rule.allowed}{found}"
        return SettingsError(problem, found=[self.rule.says], tip=tip)

    def narrow(self, item: str, origin: str) -> SettingLocation:
        """Return the location of an item of a list or a mapping."""
        rule = self.rule._replace(default="")
        return replace(self, key=f"{self.key}{item}", rule=rule, origin=origin)

    def expand(self, text: str) -> str:
        """Return a string with each ${NAME} replaced."""
        return text if self.environ is None else _VARIABLE.sub(self._fill, text)

    def parse(self, text: str) -> Any:
        """Return the value of a setting that is not a string, given as text."""
        kind = type(self.rule.default)
        try:
            return _BOOLEANS[text.strip().lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise self.refuse(repr(text)) from None

    def check(self, value: Any) -> Any:
        """Return a value unchanged; raise SettingsError if it is not allowed."""
        if self.rule.choices and value not in self.rule.choices:
            raise self.refuse(repr(value), suggest_correction(value, self.rule.choices))
        form = self.rule.form
        if form and isinstance(value, str) and value and not re.fullmatch(form, value):
            raise self.refuse(repr(value))
        if isinstance(value, int | float) and not self.rule.minimum <= value < math.inf:
            raise self.refuse(repr(value))
        return value

    def _fill(self, match: re.Match[str]) -> str:
        name = match[1]
        if match[0] == "$${":
            return "${"
        if name is None:
            raise SettingsError(
                f"{self.origin}: {self.key} has a `${{` that no `NAME}}` follows",
                tip="write ${NAME} for a variable of the environment, $${ for a plain ${",
            )
        if self.environ is None or name not in self.environ:
            raise MissingVariableError(
                f"{self.origin}: {self.key} needs the environment variable {name}, which is not set",
                tip=f"export {name}=..., or write $${{ for a plain ${{",
            )
        return self.environ[name]


def make_setting(  # noqa: PLR0913 - most are given to few settings, by their names
    default: Any,
    says: str,
    *,
    secret: bool = False,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    form: str = "",
    example: str = "",
) -> Any:
    """Declare a setting as a dataclass field; the arguments are the attributes of SettingSpec."""
    rule = SettingSpec(
        default, says, secret, choices, -math.inf if minimum is None else minimum, form, example
    )
    start: dict[str, Any] = (
        {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    )
    return field(**start, metadata={"rule": rule}, repr=not secret)


def has_variable(text: str) -> bool:
    """Return whether a string contains a ${NAME}."""
    return any(match[1] for match in _VARIABLE.finditer(text))


def suggest_correction(word: str, words: Sequence[str], *, cutoff: float = 0.6) -> str:
    """Return a hint with the most similar word, or "" if no word is similar.

    Args:
        word: The unknown word.
        words: Known words.
        cutoff: Smallest similarity, from 0 to 1.
    """
    near = find_near(word, words, cutoff=cutoff)
    return f"did you mean {near}?" if near else ""
