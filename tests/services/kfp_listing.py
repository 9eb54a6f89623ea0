"""Requests to the KFP test server, and lists of what it has, page by page."""

from __future__ import annotations

import base64
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


def find_row(rows: dict[str, Any], key: str, kind: str, words: str = "") -> Any:
    """Return the row of an id.

    Args:
        kind: What the server calls it: Run, Experiment.
        words: What stands before the server's message.

    Raises:
        RefusalError: 404, if there is none.
    """
    try:
        return rows[key]
    except KeyError:
        problem = f"{kind} {key} not found"
        message = f"{words or f'Failed to fetch {kind.lower()}: '}ResourceNotFoundError: {problem}"
        raise RefusalError(404, message, problem) from None


def list_rows(name: str, rows: list[Json], request: Request) -> Json:
    """Return a page of the rows that pass the request's filter, sorted as it asks.

    Page tokens are base64, and a page may be as large as a client wants (both seen on a real 2.17.0).
    """
    for row_field, operation, value in read_filter(request.query.get("filter", ""), _FILTERS):
        rows = [row for row in rows if _COMPARE[operation](row.get(row_field, ""), value)]
    sort_field, _, direction = request.query.get("sort_by", "").partition(" ")
    if sort_field:
        # times are whole seconds; the real server goes by ids within one, which tests could not rely on
        places = sorted(
            range(len(rows)),
            key=lambda place: (rows[place].get(sort_field, ""), place),
            reverse=direction == "desc",
        )
        rows = [rows[place] for place in places]
    start = _read_token(request.query.get("page_token", ""))
    end = start + (int(request.query.get("page_size") or 0) or DEFAULT_PAGE_SIZE)
    page: Json = {name: rows[start:end], "total_size": len(rows)} if rows else {}
    if end < len(rows):
        page["next_page_token"] = base64.b64encode(json.dumps({"start": end}).encode()).decode()
    return page


def _read_token(token: str) -> int:
    """Return where a page begins; RefusalError 400 for a token that is none."""
    if not token:
        return 0
    try:
        return int(json.loads(base64.b64decode(token, validate=True))["start"])
    except (ValueError, KeyError, TypeError):
        words = "Failed to create list options: InvalidInputError: Invalid page token"
        message = f"{words}: illegal base64 data at input byte 0"
        raise RefusalError(400, message, "Invalid page token") from None
