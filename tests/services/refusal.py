"""How the KFP test server says no: the same forms as the real one."""

from __future__ import annotations

import http
from typing import Any

_CODES = {  # HTTP status -> google.rpc.Code
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    409: 6,
    500: 13,
    501: 12,
    503: 14,
}


class RefusalError(Exception):
    """A request that the server answers with an error; it is not a failure of the server."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer, a google.rpc.Status."""
        code = _CODES.get(self.status, 2)
        name = http.HTTPStatus(self.status).phrase
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": name}
        return {"code": code, "message": self.message, "details": [detail]}
