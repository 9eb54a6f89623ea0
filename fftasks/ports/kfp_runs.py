"""Port kfp: runs that were started: read, listed, canceled, and their pods with their logs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from fftasks.errors import FFTasksError
from fftasks.ports.answer import fit, parse_json
from fftasks.ports.kfp import find_experiment, in_namespace
from fftasks.ports.kfp_catalog import find_version
from fftasks.ports.kfp_connection import API, Connection, Json, Question, connect
from fftasks.ports.kfp_errors import NotFoundError

if TYPE_CHECKING:
    from fftasks.ports.artifact_uri import ArtifactURI
    from fftasks.settings import KFPSettings

_OLD = "/apis/v1beta1/healthz"  # which says the version; the newer one does not
_MOST_MISSES = 2
_PAGE = re.compile(r"\s*<(!doctype )?html", re.IGNORECASE)
_LONGEST_LOG = 32_000_000  # bytes that are read of a log
_CUT = "\n[the log is longer than {} MB: `kubectl logs {}` shows the rest, while the pod is there]"
# what is read of the objects of Kubernetes; see ports/answer.py
_CONTAINER = {
    "name": str,
    "state": {...: {"reason": str, "message": str, "startedAt": str, "finishedAt": str}},
}
_CONDITION = {
    "type": str,
    "status": str,
    "reason": str,
    "message": str,
    "lastTransitionTime": str,
}
_POD = {
    "status": {
        "reason": str,
        "message": str,
        "conditions": [_CONDITION],
        "containerStatuses": [_CONTAINER],
        "initContainerStatuses": [_CONTAINER],
    },
}
_EVENTS = [{"type": str, "reason": str, "message": str, "lastTimestamp": str, "eventTime": str}]
_REFERENCE = {"pipeline_id": str, "pipeline_version_id": str}
_LATEST = {"sort_by": "created_at desc"}


def read_run(settings: KFPSettings, run_id: str) -> Json:
    """Return a run as KFP shows it; raise NotFoundError if there is none, ToolError if nobody says."""
    with connect(settings) as kfp:
        return _Versions(kfp).complete(_read(kfp, run_id))


def list_runs(settings: KFPSettings, most: int) -> list[Json]:
    """Return the latest runs of the settings' experiment, newest first; [] if it was never made."""
    with connect(settings) as kfp:
        experiment_id = find_experiment(kfp, settings)
        if not experiment_id:
            return []
        query = {**_LATEST, "experiment_id": experiment_id, **in_namespace(settings)}
        query["page_size"] = str(min(most, 100))
        runs = kfp.list_all("cannot list runs", "/runs", "runs", query)
        versions = _Versions(kfp)
        return [versions.complete(run) for run in itertools.islice(runs, most)]


def read_version(settings: KFPSettings) -> str:
    """Return the version of the host, "" if it does not say it."""
    with connect(settings) as kfp:
        return ask_version(kfp)


def ask_version(kfp: Connection) -> str:
    """Return the version of a host, "" if it does not say it."""
    try:
        answer = kfp.ask("no version", Question("GET", _OLD))
    except FFTasksError:  # nobody has to say it
        return ""
    return str(answer.get("tag_name") or answer.get("apiServerTagName") or "")


def cancel_run(settings: KFPSettings, run_id: str) -> None:
    """Ask a run to end; it does so in its own time. Raises as read_run does."""
    with connect(settings) as kfp:
        path = f"/runs/{_quote(run_id)}:terminate"
        kfp.post(f"cannot cancel run {run_id}", path, {})


def read_log(settings: KFPSettings, run: Json, pod: str) -> tuple[str | None, str]:
    """Return the log of the main container of a pod.

    The server of the web UI gives it while the pod is there, and from Argo's archive afterwards; so does the
    API server, where it has the rights.

    Returns:
        The log, None if no server gives it; and what the API server says instead, "" for nothing.

    Raises:
        ToolError: The host does not answer at all.
    """
    run_id = str(run.get("run_id", ""))
    namespace = settings.namespace or "kubeflow"
    created = str(run.get("created_at", ""))[:10]
    with connect(settings) as kfp:
        log, _ = _ask_page(kfp, pod, run_id, namespace, created)
        if log:
            return log, ""
        other, said = _ask_api(kfp, pod, run_id)
        return (log if other is None else other), said


def read_artifact(settings: KFPSettings, uri: ArtifactURI) -> str | None:
    """Return the text of an artifact as the server of the web UI gives it; None if it does not.

    Args:
        settings: How to reach the server.
        uri: URI of the artifact; the caller has checked that it belongs to the run.

    Raises:
        ToolError: The host does not answer at all.
    """
    query = {"source": uri.scheme, "bucket": uri.bucket, "key": "/".join(uri.names)}
    query |= {"namespace": settings.namespace} if settings.namespace else {}
    with connect(settings) as kfp:
        return _read_log(kfp, "/artifacts/get", query)[0]


def read_pods(settings: KFPSettings, names: Iterable[str]) -> dict[str, Json]:
    """Return pods as Kubernetes has them, by name, as far as they are there and the page's server gives them.

    Raises ToolError if the host does not answer at all.
    """
    namespace, found, misses = settings.namespace or "kubeflow", {}, 0
    with connect(settings) as kfp:
        for name in names:
            pod = fit(_read_object(kfp, "/k8s/pod", name, namespace), _POD)
            if pod:
                found[name] = pod
            misses += name not in found
            if misses > _MOST_MISSES and not found:
                break  # whoever answers there does not know of pods
    return found


def read_events(settings: KFPSettings, pod: str) -> list[Json]:
    """Return the events of a pod, as far as the server of the web UI gives them; raises as read_pods does."""
    with connect(settings) as kfp:
        found = _read_object(kfp, "/k8s/pod/events", pod, settings.namespace or "kubeflow")
    return fit(found.get("items"), _EVENTS) or []


def _read_object(kfp: Connection, path: str, pod: str, namespace: str) -> Json:
    """Return what Kubernetes has of a pod, {} if the server does not give it."""
    text = _read_text(kfp, path, {"podname": pod, "podnamespace": namespace}, "")
    try:
        answer = parse_json(text or "")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


class _Versions:
    """What runs of stored versions do not say of themselves: their pipeline, and whose it is.

    So are those that began by the clock, or in the page.
    """

    def __init__(self, kfp: Connection) -> None:
        self._kfp = kfp
        self._known: dict[str, Json] = {}

    def complete(self, run: Json) -> Json:
        """Return a run with what it takes from its version."""
        reference = fit(run.get("pipeline_version_reference"), _REFERENCE)
        if not reference or run.get("pipeline_spec"):
            return run
        key = str(reference.get("pipeline_version_id"))
        if key not in self._known:
            self._known[key] = find_version(self._kfp, reference)
        taken = {name: self._known[key].get(name) for name in ("pipeline_spec", "description")}
        return {**run, **{name: run.get(name) or value for name, value in taken.items() if value}}


def _ask_page(
    kfp: Connection, pod: str, run_id: str, namespace: str, created: str
) -> tuple[str | None, str]:
    query = {"podname": pod, "runid": run_id, "podnamespace": namespace, "createdat": created}
    return _read_log(kfp, "/k8s/pod/logs", query)


def _ask_api(kfp: Connection, pod: str, run_id: str) -> tuple[str | None, str]:
    path = f"/apis/v1alpha1/runs/{_quote(run_id)}/nodes/{_quote(pod)}/log"
    return _read_log(kfp, path, {})


def _read_log(kfp: Connection, path: str, query: Json) -> tuple[str | None, str]:
    """Return a log, None for an answer that is none, and the error that stands in its place.

    The API server answers 200 and text/plain also when it has no log; then its error is a JSON object.
    """
    text = _read_text(kfp, path, query)
    if text is None or _PAGE.match(text):
        return None, ""
    try:
        answer = parse_json(text) if text.startswith('{"error_') else None
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error_message" in answer:
        return None, str(answer["error_message"])
    return text, ""


def _read_text(kfp: Connection, path: str, query: Json, page: str = "html") -> str | None:
    question = Question("GET", path, query)
    answer = kfp.send("cannot read a log", question, check=False, most=_LONGEST_LOG)
    # whoever does not know the path may answer with its page
    is_page = page and page in answer.headers.get("Content-Type", "")
    if answer.status != 200 or is_page:  # noqa: PLR2004 - HTTP
        return None
    text = answer.data.decode("utf-8", "replace")
    note = _CUT.format(_LONGEST_LOG // 1_000_000, query.get("podname") or "POD")
    return text + note if answer.is_cut else text


def _read(kfp: Connection, run_id: str) -> Json:
    attempted = f"cannot read run {run_id}"
    try:
        return kfp.ask(attempted, Question("GET", f"{API}/runs/{_quote(run_id)}"), "run_id")
    except NotFoundError as error:
        raise NotFoundError(
            attempted,
            found=[f"Kubeflow Pipelines at {kfp.access.host} does not know it (any more)"],
            tip="`doit runs` lists those that there are",
        ) from error


def _quote(text: str) -> str:
    return quote(text, safe="")
