"""One way to talk to Kubeflow Pipelines: JSON over HTTP, each request sent once.

Not kfp.Client: to import it takes half a second, it keeps files in ~/.config/kfp, and loses what its version
does not know of an answer. How it proves who somebody is, is used: see kfp_access.py.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fftasks.ports.answer import (
    MOST_BYTES,
    MOST_PAGES,
    TooLongError,
    UnreadableError,
    Watch,
    fit,
    parse_json,
    read_body,
    watch_pools,
)
from fftasks.ports.credentials import is_same_origin, parse_origin
from fftasks.ports.kfp_access import Access, make_headers, make_tls_context, read_access
from fftasks.ports.kfp_errors import (
    Answer,
    explain_late,
    explain_nonsense,
    explain_silence,
    explain_status,
    explain_tls,
)

if TYPE_CHECKING:
    import urllib3

    from fftasks.settings import KFPSettings

API = "/apis/v2beta1"
_OK = range(200, 300)
_PAGE = 100
_PATIENCE = 4  # times kfp.timeout_s, for an answer that keeps coming

Json = dict[str, Any]
Fields = Mapping[str, tuple[str, bytes, str]]  # name -> name of the file, content, type


@dataclass(frozen=True)
class Question:
    """A request to the host of the settings.

    Attributes:
        method: The HTTP method.
        path: Path below the base; it begins with a slash.
        query: Query parameters.
        body: JSON to send.
        fields: Fields of a form to send.
        content: Raw content to send: its type and its bytes.
        base: Path of the same server that `path` is appended to, for services beside Kubeflow Pipelines; None
            for the path of kfp.host. A request cannot go to another server.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    fields: Fields | None = None
    content: tuple[str, bytes] | None = None
    base: str | None = None


class Connection:
    """An open way to one host."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._pool: urllib3.PoolManager | None = None
        self._watch = Watch()

    def get(self, attempted: str, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return what there is at a path below /apis/v2beta1; see `ask`."""
        return self.ask(attempted, Question("GET", API + path, query or {}))

    def post(self, attempted: str, path: str, body: Json, needed: str = "") -> Json:
        """Return what the host answers to JSON that is sent below /apis/v2beta1; see `ask`."""
        return self.ask(attempted, Question("POST", API + path, body=body), needed)

    def ask(self, attempted: str, question: Question, needed: str = "") -> Json:
        """Return the JSON that the host answers.

        attempted: for the error
        needed: a key without which an answer is none, "" for any

        Raises ToolError: as NoAnswerError if the request may have been carried out, as NotFoundError if
        Kubeflow Pipelines does not know what is asked for.
        """
        response = self.send(attempted, question)
        try:
            answer = parse_json(response.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or (needed and not answer.get(needed)):
            text = response.data.decode("utf-8", "replace")
            raise explain_nonsense(self.access, attempted, text)
        return answer

    def send(
        self, attempted: str, question: Question, *, check: bool = True, most: int = 0
    ) -> Answer:
        """Return an answer of any kind.

        Args:
            attempted: What failed, for the error.
            question: The request.
            check: Whether an HTTP status other than 2xx is an error.
            most: Number of bytes after which the content is cut; 0 to refuse an answer that is too large.

        Raises:
            ToolError: As `ask` does.
        """
        from urllib3.exceptions import HTTPError, SSLError

        try:
            response = self._send(question, most or MOST_BYTES)
        except SSLError as error:
            raise explain_tls(self.access, attempted, str(error)) from error
        except TooLongError as error:
            raise explain_late(self.access, attempted, error.seconds) from error
        except UnreadableError as error:
            raise explain_nonsense(self.access, attempted, str(error)) from error
        except HTTPError as error:
            raise explain_silence(self.access, attempted, error) from error
        except OSError as error:  # the file of certificates
            raise explain_tls(self.access, attempted, str(error)) from error
        if response.is_cut and not most:
            found = f"an answer of more than {MOST_BYTES // 1_000_000} MB"
            raise explain_nonsense(self.access, attempted, found)
        if check and response.status not in _OK:
            raise explain_status(self.access, attempted, response)
        return response

    def list_all(
        self, attempted: str, path: str, name: str, query: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Yield what a list has, page by page, as far as somebody reads on; name: of the list's key."""
        token, seen = "", {""}
        while True:
            page = {"page_size": str(_PAGE), **(query or {})}
            page |= {"page_token": token} if token else {}
            answer = self.get(attempted, path, page)
            yield from fit(answer.get(name), [dict]) or ()
            token = str(answer.get("next_page_token") or "")
            if not token:
                return
            if token in seen or len(seen) > MOST_PAGES:
                raise explain_nonsense(self.access, attempted, "a list of pages without an end")
            seen.add(token)

    def close(self) -> None:
        """Close what is open."""
        if self._pool is not None:
            self._pool.clear()

    def _send(self, question: Question, most: int) -> Answer:
        import urllib3

        access = self.access
        base = access.path if question.base is None else question.base
        url = access.host.removesuffix(access.path) + base + question.path
        if not is_same_origin(url, parse_origin(access.host)):
            raise ValueError("a request of Kubeflow Pipelines may not leave the origin of kfp.host")
        headers = make_headers(access)
        content: dict[str, Any] = {"fields": question.fields} if question.fields else {}
        if question.body is not None:
            headers["Content-Type"] = "application/json"
            content["body"] = json.dumps(question.body).encode()
        if question.content is not None:
            headers["Content-Type"], content["body"] = question.content
        query = f"?{urlencode(question.query)}" if question.query else ""
        seconds = _PATIENCE * access.timeout_s
        with warnings.catch_warnings(), self._watch.limit(seconds):
            # urllib3 warns of verify_ssl: false at each request; the user has said so
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            response = self._open().request(
                question.method,
                url + query,
                headers=headers,
                redirect=False,  # it would lead to a login page, or send credentials to another server
                retries=False,
                preload_content=False,
                **content,
            )
            data, is_cut = read_body(response, most)
        return Answer(response.status, response.reason or "", response.headers, data, is_cut)

    def _open(self) -> urllib3.PoolManager:
        import urllib3

        if self._pool is None:
            timeout = urllib3.Timeout(connect=self.access.timeout_s, read=self.access.timeout_s)
            options: dict[str, Any] = {"timeout": timeout}
            if self.access.host.startswith("https:"):
                options["ssl_context"] = make_tls_context(self.access)
            self._pool = urllib3.PoolManager(**options)
            watch_pools(self._pool, self._watch)
        return self._pool


@contextmanager
def connect(settings: KFPSettings) -> Iterator[Connection]:
    """Give a connection to the host of the settings; raise SettingsError if they are not right."""
    connection = Connection(read_access(settings))
    try:
        yield connection
    finally:
        connection.close()
