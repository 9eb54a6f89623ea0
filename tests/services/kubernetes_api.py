"""As much of the API server of Kubernetes as the real kubectl needs: pods, their logs and events.

Source: the paths that kubectl 1.32 asks for, and Kubernetes' API (core/v1).
"""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_RESOURCES = [
    {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
    {"name": "events", "singularName": "event", "namespaced": True, "kind": "Event", "verbs": ["list"]},
]  # fmt: skip
_DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": _RESOURCES},
}


class KubernetesApi:
    """A server that answers for the pods of one namespace.

    Attributes:
        asked: The paths and queries of all requests.
        refusal: The status for a pod that it does not have: 404, or 403 for a user who may not look.
    """

    def __init__(self, namespace: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refusal = 404
        self._namespace = namespace
        self._folder = f"/api/v1/namespaces/{namespace}"
        self._answers: dict[str, Any] = dict(_DISCOVERY)
        self._events: list[dict[str, Any]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.api = self  # type: ignore[attr-defined]

    def add_pod(self, name: str, log: str = "", **status: Any) -> None:
        """Add a pod with its log and status."""
        containers = [{"name": "main", "image": "x"}, {"name": "wait", "image": "y"}]
        metadata = {"name": name, "namespace": self._namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        self._answers[f"{self._folder}/pods/{name}"] = {
            **pod,
            "spec": {"containers": containers},
            "status": status,
        }
        self._answers[f"{self._folder}/pods/{name}/log"] = log

    def warn(self, pod: str, reason: str, message: str) -> None:
        """Add a warning about a pod."""
        event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{pod}.1"}}
        about = {"involvedObject": {"kind": "Pod", "name": pod}}
        self._events.append(
            {**event, **about, "type": "Warning", "reason": reason, "message": message}
        )

    def write_config(self, path: Path) -> None:
        """Write a file for KUBECONFIG."""
        cluster = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }
        path.write_text(json.dumps(config))

    def answer(self, path: str) -> tuple[int, Any]:
        """Return the status and the body for a path."""
        if path == f"{self._folder}/events":
            return 200, {
                "apiVersion": "v1",
                "kind": "EventList",
                "metadata": {},
                "items": self._events,
            }
        if path in self._answers:
            return 200, self._answers[path]
        reason = {404: "NotFound", 403: "Forbidden"}[self.refusal]
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
        return self.refusal, {**status, "message": f"{path}: {reason}", "code": self.refusal}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        api: KubernetesApi = self.server.api  # type: ignore[attr-defined]
        path, _, query = self.path.partition("?")
        api.asked.append((path, query))
        status, answer = api.answer(path)
        is_text = isinstance(answer, str)
        body = (answer if is_text else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
