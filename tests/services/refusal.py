"""How the KFP test server says no: the same forms as the real one.

Status, code and message are those that a KFP 2.17.0 was seen to answer, where one was asked
(tests/services/recorded, exchanges); otherwise those of its sources.
"""

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
_STACK = "github.com/kubeflow/pipelines/backend/src/common/util.Wrap"


class RefusalError(Exception):
    """A request that the server answers with an error; it is not a failure of the server.

    Attributes:
        status: The HTTP status.
        message: The whole message, the words around the cause included.
        detail: The cause alone; None: the answer has no details.
        code: The code of google.rpc, where it does not follow from the status.
        cause: What the test server found, for the author of a test. The answer does not have it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        detail: str | None = "",
        *,
        code: int | None = None,
        cause: str = "",
    ) -> None:
        super().__init__(cause or message)
        self.status = status
        self.message = message
        self.detail = detail
        self.code = code if code is not None else _CODES.get(status, 2)
        self.cause = cause or message

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer, a google.rpc.Status."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is None:
            return body
        detail = self.detail or http.HTTPStatus(self.status).phrase
        kind = "type.googleapis.com/google.rpc.Status"
        return body | {"details": [{"@type": kind, "code": self.code, "message": detail}]}


class UploadError(RefusalError):
    """A refused upload, whose answer has another form.

    After backend/src/apiserver/server/pipeline_upload_server.go, 2.17.0.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error_message": self.message, "error_details": self.message}


def wrap_refusal(words: str, refusal: RefusalError) -> RefusalError:
    """Return a refusal with words before its message; the cause in its details stays."""
    message = f"{words}{refusal.message}"
    return RefusalError(
        refusal.status, message, refusal.detail, code=refusal.code, cause=refusal.cause
    )


def refuse_document(problem: str, cause: str = "") -> RefusalError:
    """Return how the server refuses a pipeline document that is none: with 500 (seen on 2.17.0)."""
    words = "Failed to create a run due to error fetching manifest"
    template = "Failed to fetch a template with an invalid pipeline spec manifest"
    message = f"InternalServerError: {words}: {template}: InvalidInputError: {problem}"
    return RefusalError(
        500, f"{message}: pipeline spec is invalid", "Internal Server Error", cause=cause or problem
    )


def refuse_compilation(problem: str) -> RefusalError:
    """Return how the server refuses what it cannot compile for Argo: with 500 (seen on a real 2.17.0)."""
    message = f"Internal error: {problem}\nFailed to compile job\n{_STACK}"
    return RefusalError(500, message, message, cause=problem)
