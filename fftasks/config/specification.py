"""What a setting may be, and its value as one place sets it. A secret is in no message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fftasks.errors import SettingsError, find_near

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*)\}|\$\{")
_TYPE_NAMES: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list of texts",
    dict: "a mapping of texts to texts",
}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class MissingVariableError(SettingsError):
    """A setting takes a variable from the environment, and it is not there."""


class SettingSpec(NamedTuple):
    """What a setting is: its default (whose type is the setting's), its sentence, its limits.

    form: a regular expression for the text, or for each text in a list or a mapping; what it allows is
        shown by an example. Where there is one, a number need not stand in quotes.
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
        """What the setting may be, in words."""
        if self.choices:
            return f"one of {', '.join(choice or _EMPTY_CHOICE for choice in self.choices)}"
        if self.example:
            return f"{_TYPE_NAMES[type(self.default)]} such as {self.example}"
        minimum = f", at least {self.minimum:g}" if self.minimum > -math.inf else ""
        return f"{_TYPE_NAMES[type(self.default)]}{minimum}"


_EMPTY_CHOICE = '""'  # a choice that is the empty string, in messages
SettingSpecs = Mapping[str, SettingSpec]  # by dotted key, such as "kfp.host"


class SettingValue(NamedTuple):
    """What a setting is set to, and where.

    origin: "config/prod.yaml:3" or "environment FFTASKS_KFP__HOST"
    items: the origin of each item of a list or a mapping
    is_written_out: a secret stands in a file as it is
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
    """A setting and the place where it is set; environ is None where ${NAME} means nothing."""

    key: str
    rule: SettingSpec
    origin: str
    environ: Mapping[str, str] | None = None

    def refuse(self, shown: str, tip: str = "") -> SettingsError:
        """Return the error for a value that is not allowed; a secret is not shown."""
        found = "" if self.rule.secret else f", not {shown}"
        problem = f"{self.origin}: {self.key} must be {self.rule.allowed}{found}"
        return SettingsError(problem, found=[self.rule.says], tip=tip)

    def narrow(self, item: str, origin: str) -> SettingLocation:
        """Return the spot of a text in a list or a mapping."""
        rule = self.rule._replace(default="")
        return replace(self, key=f"{self.key}{item}", rule=rule, origin=origin)

    def expand(self, text: str) -> str:
        """Return a text with its variables filled in."""
        return text if self.environ is None else _VARIABLE.sub(self._fill, text)

    def parse(self, text: str) -> Any:
        """Return what a text stands for, if the setting is no text itself."""
        kind = type(self.rule.default)
        try:
            return _BOOLEANS[text.strip().lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise self.refuse(repr(text)) from None

    def check(self, value: Any) -> Any:
        """Return a value of the right kind, if it is within the limits."""
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
    """Declare a field: its default, the sentence that explains it, and what it may be."""
    rule = SettingSpec(
        default, says, secret, choices, -math.inf if minimum is None else minimum, form, example
    )
    start: dict[str, Any] = (
        {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    )
    return field(**start, metadata={"rule": rule}, repr=not secret)


def has_variable(text: str) -> bool:
    """Tell whether a text takes a variable from the environment."""
    return any(match[1] for match in _VARIABLE.finditer(text))


def suggest_correction(word: str, words: Sequence[str], *, cutoff: float = 0.6) -> str:
    """Return the sentence that offers the nearest of some words, "" if none is near."""
    near = find_near(word, words, cutoff=cutoff)
    return f"did you mean {near}?" if near else ""
