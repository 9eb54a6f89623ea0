"""The forms of the bodies that KFP's REST interface takes and gives, checked strictly."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema

from tests.services.refusal import RefusalError

_FORMS = Path(__file__).with_name("kfp_api.json")
_OPERATIONS = (
    *("OPERATION_UNSPECIFIED", "EQUALS", "NOT_EQUALS", "GREATER_THAN", "", "GREATER_THAN_EQUALS"),
    *("LESS_THAN", "LESS_THAN_EQUALS", "IN", "IS_SUBSTRING"),
)


def read_body(kind: str, body: bytes) -> dict[str, Any]:
    """Return a request's JSON; kind: its definition's name without "v2beta1".

    Raises RefusalError 400 for what the server's parser does not take: no JSON, an unknown
    field, a value of a wrong type.
    """
    try:
        value = json.loads(body)
    except ValueError as exc:
        # seen on a real 2.17.0 for "{"
        raise RefusalError(400, "unexpected EOF", None, cause=str(exc)) from exc
    problem = find_problem(kind, value)
    if problem:
        raise RefusalError(400, f"proto: (line 1:2): {problem}", None)
    return value


def find_problem(kind: str, value: Any) -> str:
    """Return what is wrong with a body of that kind, or ""."""
    error = jsonschema.exceptions.best_match(_make_validator(f"v2beta1{kind}").iter_errors(value))
    if error is None:
        return ""
    place = ".".join(str(step) for step in error.absolute_path) or kind
    unknown = re.search(r"\((.*) (?:was|were) unexpected\)", error.message)
    if unknown:
        return f"unknown field {unknown.group(1).replace(chr(39), chr(34))} in {place}"
    return f"invalid value for {place}: {error.message[:300]}"


def read_filter(text: str, fields: frozenset[str]) -> list[tuple[str, str, Any]]:
    """Return the predicates (field, operation, value) of a list request's filter.

    fields: what the thing that is listed can be filtered by. The client writes operations as
    numbers and names as stringValue, as protobuf's JSON may.
    """
    if not text:
        return []
    try:
        value = _spell_filter(json.loads(text))
    except ValueError as exc:
        raise RefusalError(400, f"Failed to create list options: filter is no JSON: {exc}") from exc
    problem = find_problem("Filter", value)
    if problem:
        raise RefusalError(400, f"Failed to create list options: {problem}")
    return [_read_predicate(predicate, fields) for predicate in value.get("predicates", [])]


def _read_predicate(predicate: dict[str, Any], fields: frozenset[str]) -> tuple[str, str, Any]:
    rest = dict(predicate)
    field, operation = rest.pop("key", ""), rest.pop("operation", "OPERATION_UNSPECIFIED")
    if field not in fields:
        problem = f'no support for filtering on unrecognized field "{field}"'
        words = "Failed to create list options: Invalid input error"
        raise RefusalError(400, f"{words}: {problem}", problem)
    if operation not in {"EQUALS", "NOT_EQUALS", "IN", "IS_SUBSTRING"}:
        raise RefusalError(501, f"the test server does not filter by {operation}")
    if len(rest) != 1:
        raise RefusalError(400, f"Invalid input error: no value to compare {field} with")
    value = next(iter(rest.values()))
    return field, operation, value["values"] if isinstance(value, dict) else value


def _spell_filter(value: Any) -> Any:
    """Return a filter with names in snake_case and operations by name."""
    if isinstance(value, list):
        return [_spell_filter(item) for item in value]
    if not isinstance(value, dict):
        return value
    spelled = {
        re.sub(r"([A-Z])", r"_\1", name).lower(): _spell_filter(item)
        for name, item in value.items()
    }
    operation = spelled.get("operation")
    if isinstance(operation, int) and 0 <= operation < len(_OPERATIONS):
        spelled["operation"] = _OPERATIONS[operation]
    return spelled


@functools.cache
def _make_validator(name: str) -> jsonschema.Draft7Validator:
    forms = json.loads(_FORMS.read_text())
    return jsonschema.Draft7Validator({**forms, "$ref": f"#/definitions/{name}"})
