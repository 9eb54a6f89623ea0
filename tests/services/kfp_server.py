"""A server on this machine that speaks KFP's REST interface; what it answers is in kfp_api.py.

with KFPServer(execute=Cluster(...)) as server:
    client = server.connect()            # a kfp.Client
    server.faults.append(Fault(status=503, path="/runs", times=2))
    ...
    assert len(server.list_requests("POST", "/runs")) == 3
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import urllib.parse
import warnings
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.services.argo import Argo, Node
from tests.services.kfp_api import Api
from tests.services.kfp_catalog import NoAnswerError
from tests.services.kfp_forms import find_problem
from tests.services.kfp_listing import Request
from tests.services.kfp_run import Execute, Run, succeed
from tests.services.metadata_store import KIND, PATH, MetadataStore
from tests.services.missing import find_program
from tests.services.pod_object import describe_events, describe_pod, read_log
from tests.services.refusal import RefusalError
from tests.services.waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

_HTML = "text/html; charset=utf-8"
LOGIN_PAGE = b"<!doctype html><title>Log in to Kubeflow</title>"


@dataclass
class Fault:
    """What goes wrong with the next requests that fit method and path (a regular expression).

    status     answer with this HTTP status
    delay_s    wait before anything else
    body       answer 200 with these bytes, e.g. b'{"run_' or an HTML page
    kind       of these bytes
    reset      break the connection
    performed  do what was asked before the fault: the client cannot know whether it was done
    """

    status: int = 0
    delay_s: float = 0
    body: bytes | None = None
    kind: str = "application/json"
    reset: bool = False
    performed: bool = False
    times: int = 1
    method: str = ""
    path: str = ""
    message: str = "a fault that the test asked for"

    def fits(self, request: Request) -> bool:
        """Say whether the fault is for this request."""
        is_method = self.method in ("", request.method)
        return self.times > 0 and is_method and re.search(self.path, request.path) is not None


class KFPServer:
    """One KFP installation; a context manager.

    execute               what a run does; default: every task succeeds at once
    token                 the bearer token that every request must carry
    cookies               the Cookie header that every request must carry; else a login page
    multi_user            namespaces are wanted everywhere
    forbidden_namespaces  namespaces of such an installation that the user may not use
    certificate           files with certificate and key: speak https
    log_servers           who gives logs of pods: the page's server, the API's
    version               as the server says it; how runs go follows from it
    argo                  how runs go, for more than the version says
    prefix                what stands before all paths, as behind the API server of Kubernetes
    namespaces            those that this API server knows
    """

    def __init__(
        self,
        execute: Execute = succeed,
        *,
        token: str = "",
        cookies: str = "",
        multi_user: bool = False,
        forbidden_namespaces: frozenset[str] = frozenset(),
        certificate: tuple[Path, Path] | None = None,
        log_servers: frozenset[str] = frozenset({"page", "api"}),
        prefix: str = "",
        version: str = "2.17.0",
        namespaces: frozenset[str] = frozenset(),
        argo: Argo | None = None,
    ) -> None:
        self.api = Api(
            execute,
            multi_user=multi_user,
            forbidden_namespaces=forbidden_namespaces,
            argo=argo or Argo(version),
        )
        self.log_servers = log_servers
        self.prefix = prefix
        self.namespaces = namespaces
        self.version = argo.version if argo else version
        self.token = token
        self.cookies = cookies
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.refusals: list[RefusalError] = []
        self.crashes: list[BaseException | None] = []
        self.closing = threading.Event()
        self._certificate = certificate
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.kfp = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # the handshake waits for the connection's own thread, or one client could block all
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The host that a client is given."""
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://localhost:{self._http.server_port}"

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first, with all that the server knows of them."""
        return list(self.api.runs.values())

    def connect(self, **options: Any) -> Any:
        """Return a kfp.Client of this server; options as kfp.Client takes them."""
        import kfp

        with warnings.catch_warnings():
            # it warns of servers older than itself, always
            warnings.simplefilter("ignore", FutureWarning)
            return kfp.Client(host=self.url, **options)

    def list_requests(self, method: str = "", path: str = "") -> list[Request]:
        """Return the requests so far of a method whose path ends so."""
        return [
            request
            for request in self.requests
            if method in ("", request.method) and request.path.endswith(path)
        ]

    def wait(self, run_id: str, *, timeout_s: float = 120) -> Run:
        """Return a run when it is in a final state."""
        run = self.api.runs[run_id]
        wait_until(
            lambda: bool(run.finished), what=f"run {run_id} ({run.state})", timeout_s=timeout_s
        )
        return run

    def close(self) -> None:
        """Stop listening, terminate all runs; harmless if closed. A crash of the server shows here."""
        self.closing.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self.api.close()
        if self.crashes:
            raise RuntimeError("the KFP test server crashed") from self.crashes.pop()

    def take_fault(self, request: Request) -> Fault | None:
        """Return the fault for a request, counted as used."""
        for fault in self.faults:
            if fault.fits(request):
                fault.times -= 1
                return fault
        return None

    def check_user(self, request: Request) -> None:
        """Refuse a request without the token."""
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise RefusalError(
                401, "Request header error: there is no valid user identity in the request"
            )

    def find_page(self, request: Request) -> tuple[int, bytes, str] | None:
        """Return what the page's server answers about a pod, an artifact or the metadata; None for others.

        As frontend/server/handlers of 2.17.0 do: errors are plain sentences, and no JSON.
        """
        if "page" not in self.log_servers:
            return None
        method = PATH.fullmatch(request.path)
        if method:
            return 200, MetadataStore(self.runs).answer(method[1], request.body), KIND
        handlers = {
            "/k8s/pod/logs": self._find_log_of_page,
            "/k8s/pod": self._find_pod,
            "/k8s/pod/events": self._find_pod,
            "/artifacts/get": self._find_artifact,
        }
        handler = handlers.get(request.path)
        return handler(request) if handler else None

    def _find_node(self, name: str) -> tuple[Run, Node] | None:
        """Return the node of a pod that there is, and its run."""
        for run in self.runs:
            node = None if run.pods_are_gone else run.find_pod(name)
            if node is not None:
                return run, node
        return None

    def _find_pod(self, request: Request) -> tuple[int, bytes, str]:
        """Answer for /k8s/pod and /k8s/pod/events (pod-info.ts)."""
        for key in ("podname", "podnamespace"):
            if not request.query.get(key):
                return 422, f"{key} argument is required".encode(), _HTML
        name, namespace = request.query["podname"], request.query["podnamespace"]
        found = self._find_node(name)
        if request.path == "/k8s/pod":
            if found is None:
                problem = f"Could not get pod {name} in namespace {namespace}"
                return 500, problem.encode(), _HTML
            pod = describe_pod(*found, name, namespace)
            return 200, json.dumps(pod).encode(), _HTML  # as express does
        events = describe_events(*found, name, namespace) if found else []
        body = {"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": events}
        return 200, json.dumps(body).encode(), _HTML

    def _find_log_of_page(self, request: Request) -> tuple[int, bytes, str]:
        """Answer for /k8s/pod/logs (pod-logs.ts)."""
        name = request.query.get("podname", "")
        if not name:
            return 400, b"podname argument is required", _HTML
        found = self._find_node(name)
        log = None if found is None else read_log(found[1])
        if log is None:
            problem = "Could not get main container logs: Error: Unable to retrieve workflow status"
            return 500, problem.encode(), _HTML
        return 200, log.encode(), "text/plain"

    def _find_artifact(self, request: Request) -> tuple[int, bytes, str]:
        """Answer for /artifacts/get (artifacts.ts): an object of the bucket."""
        store = getattr(self.api.execute, "store", None)
        query = request.query
        path = None
        if store is not None:
            path = store.get_path(
                f"{query.get('source')}://{query.get('bucket')}/{query.get('key')}"
            )
        if path is None or not path.is_file():
            problem = (
                f"Failed to get object in bucket {query.get('bucket')} at path {query.get('key')}"
            )
            return 500, f"{problem}: S3Error: The specified key does not exist.".encode(), _HTML
        content = path.read_bytes()
        peek = int(query.get("peek") or 0)
        return 200, content[:peek] if peek else content, "application/octet-stream"

    def find_log(self, request: Request) -> tuple[bytes, str] | None:
        """Return the API server's answer to /apis/v1alpha1/runs/{run}/nodes/{pod}/log; None for other paths.

        KFP 2.17.0 seen on a real installation: the status is 200 also for a log that it cannot give, and the
        body then is JSON as text/plain. It asks Kubernetes for the pod, and the archive without one.
        """
        found = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", request.path)
        if found is None or "api" not in self.log_servers:
            return None
        run_id, pod = found.groups()
        run = self.api.runs.get(run_id)
        if run is None:
            problem = f"ResourceNotFoundError: Run {run_id} not found"
            problem = f"due to run fetching error: Failed to fetch run {run_id}: {problem}"
            return _format_log_error(run_id, problem)
        node = None if run.pods_are_gone else run.find_pod(pod)
        log = None if node is None else read_log(node)
        if log is not None:
            return log.encode(), "text/plain"
        # Argo's default config archives below private-artifacts/, which is not where KFP looks
        key = f"/artifacts/{run.argo_name}/{pod}/main.log"
        cause = (
            f'Failed to get file reader for {key}: blob (key "{key}") (code=NotFound): operation error S3: '
            "GetObject, https response error StatusCode: 404, RequestID: 0, HostID: 0, NoSuchKey: The "
            "specified key does not exist."
        )
        problem = (
            f"InternalServerError: Failed to read logs from archive {pod} due to error fetching the log "
            f"file: InternalServerError: {cause}"
        )
        return _format_log_error(run_id, f": {problem}")


def _format_log_error(run_id: str, problem: str) -> tuple[bytes, str]:
    separator = "" if problem.startswith(":") else " "
    message = f"BadRequestError: Failed to read logs for run {run_id}{separator}{problem}"
    body = {"error_message": message, "error_details": message}
    return json.dumps(body, separators=(",", ":")).encode(), "text/plain; charset=utf-8"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    kfp: KFPServer

    def handle_error(self, *_connection: Any) -> None:
        error = sys.exc_info()[1]
        # a client may go away, or refuse our certificate; anything else is a mistake in here
        if not isinstance(error, OSError):
            self.kfp.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_GET(self) -> None:
        self._answer(b"")

    def do_DELETE(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *_args: Any) -> None:
        """Say nothing: the requests are kept."""

    def _answer(self, body: bytes) -> None:
        kfp = self.server.kfp
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        path = urllib.parse.unquote(address.path)
        is_elsewhere = not path.startswith(self.server.kfp.prefix)
        path = path.removeprefix(self.server.kfp.prefix)
        # names of headers have no case: the client writes "authorization"
        headers = {name.title(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, body)
        kfp.requests.append(request)
        if is_elsewhere:
            namespaces = {f"/api/v1/namespaces/{name}": name for name in kfp.namespaces}
            status = {"kind": "Status", "code": 404, "message": "not found"}
            found = {"kind": "Namespace", "metadata": {"name": namespaces.get(path)}}
            self._send_json(*((200, found) if path in namespaces else (404, status)))
            return
        fault = kfp.take_fault(request)
        if fault is None:
            self._perform(request)
        else:
            self._fail(fault, request)

    def _fail(self, fault: Fault, request: Request) -> None:
        if self.server.kfp.closing.wait(fault.delay_s):
            return  # nobody waits any more, and nothing is to begin now
        if fault.performed:
            self.server.kfp.api.answer(request)
        if fault.reset:
            # a linger time of zero makes closing send RST, not FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault.body is not None:
            self._send(200, fault.body, fault.kind)
        elif fault.status:
            self._send_json(fault.status, RefusalError(fault.status, fault.message).to_json())
        else:
            self._perform(request)

    def _perform(self, request: Request) -> None:
        kfp = self.server.kfp
        if kfp.cookies and request.headers.get("Cookie") != kfp.cookies:
            self._send(200, LOGIN_PAGE, "text/html")
            return
        try:
            if request.path == "/apis/v1beta1/healthz":  # asks for nobody's identity
                self._send_json(200, {"commit_sha": "1", "tag_name": kfp.version})
                return
            kfp.check_user(request)
            log = kfp.find_log(request)
            if log is not None:
                self._send(200, *log)
                return
            page = kfp.find_page(request)
            if page is not None:
                self._send(*page)
                return
            kind, answer = kfp.api.answer(request)
        except RefusalError as refusal:
            kfp.refusals.append(refusal)
            self._send_json(refusal.status, refusal.to_json())
            return
        except NoAnswerError:
            kfp.closing.wait()
            return
        problem = find_problem(kind, answer) if kind else ""
        if problem:  # our own mistake, not the client's
            raise AssertionError(f"the answer to {request} is no {kind}: {problem}")
        self._send_json(200, answer)

    def _send_json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            return  # the client did not wait, as tests of time-outs intend


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost; return the files of certificate and key."""
    program = find_program("openssl", package="openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return certificate, key
