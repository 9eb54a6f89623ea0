"""Requests to the KFP test server, and lists of what it has, page by page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.services.kfp_forms import read_filter
from tests.services.refusal import RefusalError

Json = dict[str, Any]
DEFAULT_PAGE_SIZE = 20
_FILTERS = frozenset({"display_name", "name", "namespace", "created_at", "description", "state"})
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda left, right: left == right,
    "NOT_EQUALS": lambda left, right: left != right,
    "IN": lambda left, right: left in right,
    "IS_SUBSTRING": lambda left, right: right in left,
}


@dataclass(frozen=True)
class Request:
    """A request as it came in; kept, so that a test can look at it. headers: Names-Like-This."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """Return the body, if it is JSON."""
        return json.loads(self.body)


def find_row(rows: dict[str, Any], key: str, kind: str) -> Any:
    """Return the row of an id; RefusalError 404 names the kind of thing that there is not."""
    try:
        return rows[key]
    except KeyError:
        raise RefusalError(404, f"{kind} {key} not found") from None


def list_rows(name: str, rows: list[Json], request: Request) -> Json:
    """Return a page of the rows that pass the request's filter, sorted as it asks."""
    for row_field, operation, value in read_filter(request.query.get("filter", ""), _FILTERS):
        rows = [row for row in rows if _COMPARE[operation](row.get(row_field, ""), value)]
    sort_field, _, direction = request.query.get("sort_by", "").partition(" ")
    if sort_field:
        rows = sorted(rows, key=lambda row: row.get(sort_field, ""), reverse=direction == "desc")
    start = int(request.query.get("page_token") or 0)
    end = start + (int(request.query.get("page_size") or 0) or DEFAULT_PAGE_SIZE)
    page: Json = {name: rows[start:end], "total_size": len(rows)} if rows else {}
    if end < len(rows):
        page["next_page_token"] = str(end)
    return page
