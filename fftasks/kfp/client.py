"""Port kfp: start a run on Kubeflow Pipelines, and ask how one is.

Nothing is taken from this machine but what the settings name. No request that starts something is sent twice.

Port kfp: runs that were started: read, listed, canceled, and their pods with their logs.

Part.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.http.response import (
    MAX_RESPONSE_BYTES,
    ResponseTimeoutError,
    ResponseTimer,
    filter_by_type,
    make_timed_connection,
    parse_json,
)
from fftasks.kfp.authentication import make_headers, make_tls_context, read_access
from fftasks.kfp.connection import (
    API,
    Json,
    KFPConnection,
    KFPRequest,
    NoAnswerError,
    NotFoundError,
    connect,
)

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings
    from fftasks.kfp.object_store import ArtifactURI

_STATE_TIMEOUT_S = 5.0
_RECENT = 50
_NAMESPACES = "/api/v1/namespaces/"  # of the cluster's API server
_NOT_FOUND = 5  # gRPC's code in KFP's answers, as opposed to the 404 of some other server


def start_run(settings: KFPSettings, request: RunRequest) -> SubmittedRun:
    """Start a run in the experiment of the settings, which is made if there is none; see stages/submit.py.

    If the answer to the one request that starts it is lost, the run is looked for under a word that stands
    in its description, and found again or reported as unclear; it is never started a second time.

    Raises SettingsError and ToolError, with the setting to look at.
    """
    with connect(settings) as kfp:
        check_host(kfp, settings)
        experiment_id = make_experiment(kfp, settings)
        word = uuid.uuid4().hex[:12]
        description = f"{request.description}, submission {word}"
        body = {
            "display_name": request.name,
            "description": description,
            "experiment_id": experiment_id,
            "pipeline_spec": request.pipeline_spec,
            "runtime_config": make_runtime_config(settings, request.parameters),
        }
        if settings.service_account:
            body["service_account"] = settings.service_account
        attempted = (
            f"submit: cannot start run {request.name!r} in experiment {settings.experiment!r}"
        )
        try:
            run_id = str(kfp.post(attempted, "/runs", body, "run_id")["run_id"])
        except NoAnswerError as error:
            run_id = _find_started(kfp, experiment_id, description, error)
    return SubmittedRun(run_id, make_url(kfp, run_id))


def get_run_url(settings: KFPSettings, run_id: str) -> str:
    """Return the address of a run's page; asks nobody. Raises SettingsError if kfp.host is none."""
    return f"{read_access(settings).page}/#/runs/details/{run_id}"


def make_url(kfp: KFPConnection, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{kfp.access.page}/#/runs/details/{run_id}"


def make_runtime_config(settings: KFPSettings, parameters: Mapping[str, Any]) -> Json:
    """Return what a run or a schedule says about how it runs.

    parameters: the values of all run parameters
    """
    return {
        **({"pipeline_root": settings.pipeline_root} if settings.pipeline_root else {}),
        **({"parameters": dict(parameters)} if parameters else {}),
    }


def read_run_state(settings: KFPSettings, run_id: str) -> str | None:
    """Return a run's state in KFP's words, "DELETED" if there is no such run, None if that is unknown.

    A canceled run is FAILED for Kubeflow Pipelines, with CANCELING in its history; here it is CANCELED.

    Does not import kfp, waits a few seconds at most, and raises nothing: an unknown state is no news.
    """
    import http.client
    import urllib.error
    import urllib.request

    class KeepRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            """Follow nothing: it leads to a login page, and the token is not for others."""

    watch = ResponseTimer()

    class Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(make_timed_connection(http.client.HTTPConnection, watch), request)

        def https_open(self, request: Any) -> Any:
            connection, context = http.client.HTTPSConnection, make_tls_context(access)
            return self.do_open(make_timed_connection(connection, watch), request, context=context)

    try:
        access = read_access(settings)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            Handler(),
            KeepRedirect(),
        )
        url = f"{access.host}/apis/v2beta1/runs/{quote(run_id, safe='')}"
        request = urllib.request.Request(url, headers=make_headers(access))  # noqa: S310 - http(s) only
        timeout_s = min(access.timeout_s, _STATE_TIMEOUT_S)
        with watch.limit(timeout_s), opener.open(request, timeout=timeout_s) as answer:
            run = parse_json(answer.read(MAX_RESPONSE_BYTES))
            state = run.get("state")
            history = [
                seen.get("state") for seen in filter_by_type(run.get("state_history"), [dict]) or ()
            ]
            if state == "FAILED" and "CANCELING" in history:
                state = "CANCELED"
    except urllib.error.HTTPError as error:
        with error:
            return "DELETED" if _is_not_found(error) else None
    except (SettingsError, OSError, ValueError, AttributeError, http.client.HTTPException):
        return None
    except ResponseTimeoutError:
        return None
    return state if isinstance(state, str) else None


def check_host(kfp: KFPConnection, settings: KFPSettings) -> Json:
    """Return what the host says about itself; raise SettingsError if it needs a namespace and has none."""
    attempted = "cannot work with Kubeflow Pipelines"
    health = kfp.get(attempted, "/healthz")
    if health.get("multi_user") and not settings.namespace:
        raise SettingsError(
            "submit: kfp.namespace is not set",
            found=[f"Kubeflow Pipelines at {kfp.access.host} serves several users"],
            tip="kfp.namespace: the name of your profile",
        )
    return health


def make_experiment(kfp: KFPConnection, settings: KFPSettings) -> str:
    """Return the experiment's id; make the experiment if there is none."""
    check_experiment(settings)
    found = find_experiment(kfp, settings)
    if found:
        return found
    experiment = {"display_name": settings.experiment}
    experiment |= {"namespace": settings.namespace} if settings.namespace else {}
    attempted = f"submit: cannot make experiment {settings.experiment!r}{_in(settings)}"
    try:
        answer = kfp.post(attempted, "/experiments", experiment, "experiment_id")
        return str(answer["experiment_id"])
    except ToolError:
        # made by somebody else since, or made while the answer was lost; its name is unique
        found = find_experiment(kfp, settings)
        if not found:
            raise
        return found


def check_experiment(settings: KFPSettings) -> None:
    """Raise SettingsError for an experiment that has no name."""
    if not settings.experiment.strip():
        raise SettingsError("kfp.experiment is empty", tip='use "Default"')


def find_experiment(kfp: KFPConnection, settings: KFPSettings) -> str:
    """Return the id of the settings' experiment, "" if there is none."""
    attempted = f"cannot look for experiment {settings.experiment!r}{_in(settings)}"
    query = {**name_filter("display_name", settings.experiment), **in_namespace(settings)}
    for row in kfp.list_all(attempted, "/experiments", "experiments", query):
        # the filter again: a proxy may have dropped it
        if row.get("display_name") == settings.experiment and row.get("experiment_id"):
            return str(row["experiment_id"])
    return ""


def has_namespace(kfp: KFPConnection, settings: KFPSettings) -> bool | None:
    """Tell whether the settings' namespace is there; None if nobody says.

    Kubeflow Pipelines does not: in a namespace that is none it finds nothing, and makes what it is told to
    until pods are to run. What is in it shows that it is there; and the API server of the cluster knows,
    where all goes through it (kfp.auth: kubeconfig).
    """
    base, through, _ = kfp.access.path.partition(_NAMESPACES)
    if settings.auth == "kubeconfig" and through:
        path = _NAMESPACES + quote(settings.namespace, safe="")
        question = KFPRequest("GET", path, base=base)
        answer = kfp.send("cannot look for the namespace", question, check=False)
        if answer.status in (200, 404):  # else whoever asks may not know
            return answer.status == 200  # noqa: PLR2004 - HTTP
    attempted = f"cannot look for experiments{_in(settings)}"
    rows = kfp.list_all(attempted, "/experiments", "experiments", in_namespace(settings))
    return True if any(True for _ in rows) else None


def name_filter(key: str, value: str) -> Json:
    """Return the part of a query that asks for what is named so."""
    named = {"operation": "EQUALS", "key": key, "string_value": value}
    return {"filter": json.dumps({"predicates": [named]})}


def in_namespace(settings: KFPSettings) -> Json:
    """Return the part of a query that says in which namespace."""
    return {"namespace": settings.namespace} if settings.namespace else {}


def _find_started(
    kfp: KFPConnection, experiment_id: str, description: str, error: ToolError
) -> str:
    """Return the id of the run whose answer was lost; raise ToolError if there is none, or none to see."""
    page = f"{kfp.access.page}/#/experiments/details/{experiment_id}"
    unclear = f"it is not clear whether the run was started: look at {page} before you submit again"
    query = {
        "experiment_id": experiment_id,
        "page_size": str(_RECENT),
        "sort_by": "created_at desc",
    }
    try:
        runs = filter_by_type(kfp.get(error.attempted, "/runs", query).get("runs"), [dict]) or ()
    except ToolError:
        runs = ()
    for run in runs:
        if run.get("description") == description and run.get("run_id"):
            return str(run["run_id"])
    raise ToolError(error.attempted, found=[*error.found, unclear], tip=error.tip) from error


def _is_not_found(error: Any) -> bool:
    try:
        answer = parse_json(error.read(MAX_RESPONSE_BYTES)) if error.code == 404 else {}  # noqa: PLR2004
        return bool(answer.get("code") == _NOT_FOUND)
    except (OSError, ValueError, AttributeError):
        return False


def _in(settings: KFPSettings) -> str:
    return f" in namespace {settings.namespace!r}" if settings.namespace else ""


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


def fetch_run(settings: KFPSettings, run_id: str) -> Json:
    """Return a run as KFP shows it; raise NotFoundError if there is none, ToolError if nobody says."""
    with connect(settings) as kfp:
        return _Versions(kfp).complete(_read(kfp, run_id))


def fetch_runs(settings: KFPSettings, most: int) -> list[Json]:
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


def ask_version(kfp: KFPConnection) -> str:
    """Return the version of a host, "" if it does not say it."""
    try:
        answer = kfp.ask("no version", KFPRequest("GET", _OLD))
    except FFTasksError:  # nobody has to say it
        return ""
    return str(answer.get("tag_name") or answer.get("apiServerTagName") or "")


def cancel_run(settings: KFPSettings, run_id: str) -> None:
    """Ask a run to end; it does so in its own time. Raises as read_run does."""
    with connect(settings) as kfp:
        path = f"/runs/{_quote(run_id)}:terminate"
        kfp.post(f"cannot cancel run {run_id}", path, {})


def fetch_log(settings: KFPSettings, run: Json, pod: str) -> tuple[str | None, str]:
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


def fetch_artifact_text(settings: KFPSettings, uri: ArtifactURI) -> str | None:
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


def fetch_pods(settings: KFPSettings, names: Iterable[str]) -> dict[str, Json]:
    """Return pods as Kubernetes has them, by name, as far as they are there and the page's server gives them.

    Raises ToolError if the host does not answer at all.
    """
    namespace, found, misses = settings.namespace or "kubeflow", {}, 0
    with connect(settings) as kfp:
        for name in names:
            pod = filter_by_type(_read_object(kfp, "/k8s/pod", name, namespace), _POD)
            if pod:
                found[name] = pod
            misses += name not in found
            if misses > _MOST_MISSES and not found:
                break  # whoever answers there does not know of pods
    return found


def fetch_events(settings: KFPSettings, pod: str) -> list[Json]:
    """Return the events of a pod, as far as the server of the web UI gives them; raises as fetch_pods does."""
    with connect(settings) as kfp:
        found = _read_object(kfp, "/k8s/pod/events", pod, settings.namespace or "kubeflow")
    return filter_by_type(found.get("items"), _EVENTS) or []


def _read_object(kfp: KFPConnection, path: str, pod: str, namespace: str) -> Json:
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

    def __init__(self, kfp: KFPConnection) -> None:
        self._kfp = kfp
        self._known: dict[str, Json] = {}

    def complete(self, run: Json) -> Json:
        """Return a run with what it takes from its version."""
        reference = filter_by_type(run.get("pipeline_version_reference"), _REFERENCE)
        if not reference or run.get("pipeline_spec"):
            return run
        key = str(reference.get("pipeline_version_id"))
        if key not in self._known:
            self._known[key] = find_version(self._kfp, reference)
        taken = {name: self._known[key].get(name) for name in ("pipeline_spec", "description")}
        return {**run, **{name: run.get(name) or value for name, value in taken.items() if value}}


def _ask_page(
    kfp: KFPConnection, pod: str, run_id: str, namespace: str, created: str
) -> tuple[str | None, str]:
    query = {"podname": pod, "runid": run_id, "podnamespace": namespace, "createdat": created}
    return _read_log(kfp, "/k8s/pod/logs", query)


def _ask_api(kfp: KFPConnection, pod: str, run_id: str) -> tuple[str | None, str]:
    path = f"/apis/v1alpha1/runs/{_quote(run_id)}/nodes/{_quote(pod)}/log"
    return _read_log(kfp, path, {})


def _read_log(kfp: KFPConnection, path: str, query: Json) -> tuple[str | None, str]:
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


def _read_text(kfp: KFPConnection, path: str, query: Json, page: str = "html") -> str | None:
    question = KFPRequest("GET", path, query)
    answer = kfp.send("cannot read a log", question, check=False, most=_LONGEST_LOG)
    # whoever does not know the path may answer with its page
    is_page = page and page in answer.headers.get("Content-Type", "")
    if answer.status != 200 or is_page:  # noqa: PLR2004 - HTTP
        return None
    text = answer.data.decode("utf-8", "replace")
    note = _CUT.format(_LONGEST_LOG // 1_000_000, query.get("podname") or "POD")
    return text + note if answer.is_cut else text


def _read(kfp: KFPConnection, run_id: str) -> Json:
    attempted = f"cannot read run {run_id}"
    try:
        return kfp.ask(attempted, KFPRequest("GET", f"{API}/runs/{_quote(run_id)}"), "run_id")
    except NotFoundError as error:
        raise NotFoundError(
            attempted,
            found=[f"Kubeflow Pipelines at {kfp.access.host} does not know it (any more)"],
            tip="`doit runs` lists those that there are",
        ) from error


def _quote(text: str) -> str:
    return quote(text, safe="")


def find_version(kfp: KFPConnection, reference: Mapping[str, Any]) -> Json:
    """Return a version with its pipeline, {} if it is not there any more.

    reference: as a run or a recurring run has it
    """
    ids = [
        _quote_kfp_catalog_part0(str(reference.get(key, "")))
        for key in ("pipeline_id", "pipeline_version_id")
    ]
    try:
        return kfp.get("cannot look for a version", f"/pipelines/{ids[0]}/versions/{ids[1]}")
    except NotFoundError:
        return {}


def _quote_kfp_catalog_part0(text: str) -> str:
    return quote(text, safe="")


@dataclass(frozen=True)
class RunRequest:
    """A run to be started: the pipeline document, and the names under which it is found.

    parameters: the values of all its run parameters
    platform: the second document, with what is for Kubernetes; {} if there is none
    """

    document: dict[str, Any]
    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline_spec(self) -> dict[str, Any]:
        """What KFP's interface takes: the document, or both by their names."""
        if not self.platform:
            return self.document
        return {"pipeline_spec": self.document, "platform_spec": self.platform}


@dataclass(frozen=True)
class SubmittedRun:
    """A run on Kubeflow Pipelines: its id, and its page."""

    run_id: str
    url: str
