"""Client for Kubeflow Pipelines: start, read, list and cancel runs, and read their pods and logs.

Nothing is read from this machine except what the settings name. A request that starts a run is never sent
twice.
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
    GRPC_NOT_FOUND,
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
_RECENT_RUNS = 50  # runs among which a run is searched whose answer was lost
_NAMESPACES = "/api/v1/namespaces/"  # path on the API server of Kubernetes
_VERSION_PATH = "/apis/v1beta1/healthz"  # contains the version, which v2beta1 does not
_MAX_MISSING_PODS = 2
_PAGE = re.compile(r"\s*<(!doctype )?html", re.IGNORECASE)
_MAX_LOG_BYTES = 32_000_000
_CUT = "\n[the log is longer than {} MB: `kubectl logs {}` shows the rest while the pod exists]"
# fields that are read from objects of Kubernetes; see filter_by_type
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
_NEWEST_FIRST = {"sort_by": "created_at desc"}


@dataclass(frozen=True)
class RunRequest:
    """A run to be started.

    Attributes:
        document: Pipeline document (IR YAML as data).
        name: Display name of the run.
        description: Description of the run.
        parameters: Values of all run parameters by name.
        platform: Second document, with the settings for Kubernetes; {} if there is none.
    """

    document: dict[str, Any]
    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline_spec(self) -> dict[str, Any]:
        """The field `pipeline_spec` of KFP's interface: the document, or both documents by their names."""
        if not self.platform:
            return self.document
        return {"pipeline_spec": self.document, "platform_spec": self.platform}


@dataclass(frozen=True)
class SubmittedRun:
    """A run that was started.

    Attributes:
        run_id: Id of the run in KFP.
        url: URL of the run in the web UI.
    """

    run_id: str
    url: str


def start_run(settings: KFPSettings, request: RunRequest) -> SubmittedRun:
    """Start a run in the experiment in the settings, and create the experiment if it does not exist.

    The description of the run contains a random word. If the answer to the request is lost, the run is
    found by this word. It is never started a second time.

    Args:
        settings: Section `kfp` of the settings.
        request: The run.

    Returns:
        The id and the URL of the run.

    Raises:
        SettingsError: A setting is missing or invalid.
        ToolError: The run was not started, or it is unknown whether it was; the message says which.
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
    """Return the URL of a run in the web UI without sending a request.

    Raises:
        SettingsError: kfp.host is invalid.
    """
    return f"{read_access(settings).page}/#/runs/details/{run_id}"


def make_url(kfp: KFPConnection, run_id: str) -> str:
    """Return the URL of a run in the web UI."""
    return f"{kfp.access.page}/#/runs/details/{run_id}"


def make_runtime_config(settings: KFPSettings, parameters: Mapping[str, Any]) -> Json:
    """Return the field `runtime_config` of a run or a recurring run.

    Args:
        settings: kfp.pipeline_root is part of the result if it is set.
        parameters: Values of all run parameters by name.
    """
    return {
        **({"pipeline_root": settings.pipeline_root} if settings.pipeline_root else {}),
        **({"parameters": dict(parameters)} if parameters else {}),
    }


def read_run_state(settings: KFPSettings, run_id: str) -> str | None:
    """Return the state of a run quickly, without an error if it cannot be read.

    A canceled run is FAILED in KFP, with CANCELING in its history; this function returns CANCELED. It uses
    urllib because importing urllib3 would slow down a run in which nothing is to do, and waits at most five
    seconds.

    Args:
        settings: Section `kfp` of the settings.
        run_id: Id of the run.

    Returns:
        The state in KFP's terms; "DELETED" if the run does not exist; None if the state is unknown.
    """
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            """Follow no redirect: it leads to a login page, or sends the token to another server."""

    timer = ResponseTimer()

    class Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(make_timed_connection(http.client.HTTPConnection, timer), request)

        def https_open(self, request: Any) -> Any:
            connection, context = http.client.HTTPSConnection, make_tls_context(access)
            return self.do_open(make_timed_connection(connection, timer), request, context=context)

    try:
        access = read_access(settings)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            Handler(),
            NoRedirect(),
        )
        url = f"{access.host}/apis/v2beta1/runs/{quote(run_id, safe='')}"
        request = urllib.request.Request(url, headers=make_headers(access))  # noqa: S310 - http(s) only
        timeout_s = min(access.timeout_s, _STATE_TIMEOUT_S)
        with timer.limit(timeout_s), opener.open(request, timeout=timeout_s) as answer:
            run = parse_json(answer.read(MAX_RESPONSE_BYTES))
            state = run.get("state")
            history = [
                seen.get("state") for seen in filter_by_type(run.get("state_history"), [dict]) or ()
            ]
            if state == "FAILED" and "CANCELING" in history:
                state = "CANCELED"
    except urllib.error.HTTPError as error:
        with error:
            return "DELETED" if _is_missing_run(error) else None
    except (SettingsError, OSError, ValueError, AttributeError, http.client.HTTPException):
        return None
    except ResponseTimeoutError:
        return None
    return state if isinstance(state, str) else None


def check_host(kfp: KFPConnection, settings: KFPSettings) -> Json:
    """Return the health report of the server.

    Args:
        kfp: The connection.
        settings: Section `kfp` of the settings.

    Raises:
        SettingsError: The server has several users, and kfp.namespace is not set.
        ToolError: The server does not answer.
    """
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
    """Return the id of the experiment in the settings; create the experiment if it does not exist.

    Raises:
        SettingsError: kfp.experiment is empty.
        ToolError: The experiment cannot be created.
    """
    check_experiment(settings)
    found = find_experiment(kfp, settings)
    if found:
        return found
    experiment = {"display_name": settings.experiment}
    experiment |= {"namespace": settings.namespace} if settings.namespace else {}
    attempted = f"submit: cannot create experiment {settings.experiment!r}{_in(settings)}"
    try:
        answer = kfp.post(attempted, "/experiments", experiment, "experiment_id")
        return str(answer["experiment_id"])
    except ToolError:
        # another user may have created it, or the answer was lost; names of experiments are unique
        found = find_experiment(kfp, settings)
        if not found:
            raise
        return found


def check_experiment(settings: KFPSettings) -> None:
    """Raise SettingsError if the name of the experiment is empty."""
    if not settings.experiment.strip():
        raise SettingsError("kfp.experiment is empty", tip='use "Default"')


def find_experiment(kfp: KFPConnection, settings: KFPSettings) -> str:
    """Return the id of the experiment in the settings; "" if it does not exist."""
    attempted = f"cannot find experiment {settings.experiment!r}{_in(settings)}"
    query = {**name_filter("display_name", settings.experiment), **in_namespace(settings)}
    for row in kfp.list_all(attempted, "/experiments", "experiments", query):
        # filter again, because a proxy may have dropped the query parameter
        if row.get("display_name") == settings.experiment and row.get("experiment_id"):
            return str(row["experiment_id"])
    return ""


def has_namespace(kfp: KFPConnection, settings: KFPSettings) -> bool | None:
    """Return whether the namespace in the settings exists; None if this is unknown.

    KFP does not report it: it lists nothing in a namespace that does not exist, and accepts runs, whose
    pods cannot start later. An experiment in the namespace proves that it exists. With kfp.auth:
    kubeconfig, all requests go through the API server of Kubernetes, which is asked first.
    """
    base, through, _ = kfp.access.path.partition(_NAMESPACES)
    if settings.auth == "kubeconfig" and through:
        path = _NAMESPACES + quote_path(settings.namespace)
        question = KFPRequest("GET", path, base=base)
        answer = kfp.send("cannot find the namespace", question, check=False)
        if answer.status in (200, 404):  # otherwise the user has no permission to read namespaces
            return answer.status == 200  # noqa: PLR2004 - HTTP
    attempted = f"cannot list experiments{_in(settings)}"
    rows = kfp.list_all(attempted, "/experiments", "experiments", in_namespace(settings))
    return True if any(True for _ in rows) else None


def name_filter(key: str, value: str) -> Json:
    """Return the query parameter that selects the objects in which a field has a value.

    Args:
        key: Name of the field.
        value: Value of the field.
    """
    named = {"operation": "EQUALS", "key": key, "string_value": value}
    return {"filter": json.dumps({"predicates": [named]})}


def in_namespace(settings: KFPSettings) -> Json:
    """Return the query parameter that selects the namespace in the settings; {} if it is not set."""
    return {"namespace": settings.namespace} if settings.namespace else {}


def _find_started(
    kfp: KFPConnection, experiment_id: str, description: str, error: ToolError
) -> str:
    """Return the id of the run whose answer was lost; raise ToolError if it is not among the recent runs."""
    page = f"{kfp.access.page}/#/experiments/details/{experiment_id}"
    unclear = f"it is not clear whether the run was started: look at {page} before you submit again"
    query = {
        "experiment_id": experiment_id,
        "page_size": str(_RECENT_RUNS),
        **_NEWEST_FIRST,
    }
    try:
        runs = filter_by_type(kfp.get(error.attempted, "/runs", query).get("runs"), [dict]) or ()
    except ToolError:
        runs = ()
    for run in runs:
        if run.get("description") == description and run.get("run_id"):
            return str(run["run_id"])
    raise ToolError(error.attempted, found=[*error.found, unclear], tip=error.tip) from error


def _is_missing_run(error: Any) -> bool:
    """Return whether an HTTPError is KFP's answer for a run that does not exist."""
    try:
        answer = parse_json(error.read(MAX_RESPONSE_BYTES)) if error.code == 404 else {}  # noqa: PLR2004
        return bool(answer.get("code") == GRPC_NOT_FOUND)
    except (OSError, ValueError, AttributeError):
        return False


def _in(settings: KFPSettings) -> str:
    return f" in namespace {settings.namespace!r}" if settings.namespace else ""


def fetch_run(settings: KFPSettings, run_id: str) -> Json:
    """Return a run as KFP's REST interface describes it.

    Raises:
        NotFoundError: The run does not exist.
        ToolError: The run cannot be read.
    """
    attempted = f"cannot read run {run_id}"
    with connect(settings) as kfp:
        try:
            path = f"{API}/runs/{quote_path(run_id)}"
            run = kfp.ask(attempted, KFPRequest("GET", path), "run_id")
        except NotFoundError as error:
            raise NotFoundError(
                attempted,
                found=[
                    f"the run does not exist (any more) in Kubeflow Pipelines at {kfp.access.host}"
                ],
                tip="`doit runs` lists the existing runs",
            ) from error
        return _VersionReader(kfp).complete(run)


def fetch_runs(settings: KFPSettings, most: int) -> list[Json]:
    """Return the latest runs of the experiment in the settings, newest first.

    Args:
        settings: Section `kfp` of the settings.
        most: Maximum number of runs.

    Returns:
        The runs; [] if the experiment does not exist.

    Raises:
        ToolError: The runs cannot be read.
    """
    with connect(settings) as kfp:
        experiment_id = find_experiment(kfp, settings)
        if not experiment_id:
            return []
        query = {**_NEWEST_FIRST, "experiment_id": experiment_id, **in_namespace(settings)}
        query["page_size"] = str(min(most, 100))
        runs = kfp.list_all("cannot list runs", "/runs", "runs", query)
        versions = _VersionReader(kfp)
        return [versions.complete(run) for run in itertools.islice(runs, most)]


def read_version(settings: KFPSettings) -> str:
    """Return the version of the KFP server in the settings; "" if it is unknown."""
    with connect(settings) as kfp:
        return ask_version(kfp)


def ask_version(kfp: KFPConnection) -> str:
    """Return the version of a KFP server; "" if it is unknown."""
    try:
        answer = kfp.ask("no version", KFPRequest("GET", _VERSION_PATH))
    except FFTasksError:  # the version is optional
        return ""
    return str(answer.get("tag_name") or answer.get("apiServerTagName") or "")


def cancel_run(settings: KFPSettings, run_id: str) -> None:
    """Request the cancellation of a run; the run ends later.

    Raises:
        NotFoundError: The run does not exist.
        ToolError: The request failed.
    """
    with connect(settings) as kfp:
        path = f"/runs/{quote_path(run_id)}:terminate"
        kfp.post(f"cannot cancel run {run_id}", path, {})


def fetch_log(settings: KFPSettings, run: Json, pod: str) -> tuple[str | None, str]:
    """Return the log of the main container of a pod.

    The server of the web UI has it while the pod exists, and later in Argo's archive. The API server is
    asked second; it has the log if it has the necessary permissions.

    Args:
        settings: Section `kfp` of the settings.
        run: The run as KFP describes it.
        pod: Name of the pod.

    Returns:
        The log, None if no server has it; and the error message of the API server, "" for none.

    Raises:
        ToolError: The server does not answer at all.
    """
    run_id = str(run.get("run_id", ""))
    query = {
        "podname": pod,
        "runid": run_id,
        "podnamespace": settings.namespace or "kubeflow",
        "createdat": str(run.get("created_at", ""))[:10],
    }
    with connect(settings) as kfp:
        log, _ = _read_log(kfp, "/k8s/pod/logs", query)
        if log:
            return log, ""
        path = f"/apis/v1alpha1/runs/{quote_path(run_id)}/nodes/{quote_path(pod)}/log"
        other, message = _read_log(kfp, path, {})
        return (log if other is None else other), message


def fetch_artifact_text(settings: KFPSettings, uri: ArtifactURI) -> str | None:
    """Return the text of an artifact from the server of the web UI; None if the server does not have it.

    Args:
        settings: Section `kfp` of the settings.
        uri: URI of the artifact. The caller has checked that it belongs to the run.

    Raises:
        ToolError: The server does not answer at all.
    """
    query = {"source": uri.scheme, "bucket": uri.bucket, "key": "/".join(uri.names)}
    query |= {"namespace": settings.namespace} if settings.namespace else {}
    with connect(settings) as kfp:
        return _read_log(kfp, "/artifacts/get", query)[0]


def fetch_pods(settings: KFPSettings, names: Iterable[str]) -> dict[str, Json]:
    """Return pods as Kubernetes describes them, from the server of the web UI.

    Args:
        settings: Section `kfp` of the settings.
        names: Names of the pods.

    Returns:
        The pods that exist, by name. The search stops early if the server finds none of the first pods.

    Raises:
        ToolError: The server does not answer at all.
    """
    namespace, found, misses = settings.namespace or "kubeflow", {}, 0
    with connect(settings) as kfp:
        for name in names:
            pod = filter_by_type(_read_object(kfp, "/k8s/pod", name, namespace), _POD)
            if pod:
                found[name] = pod
            misses += name not in found
            if misses > _MAX_MISSING_PODS and not found:
                break  # the server at this address has no access to pods
    return found


def fetch_events(settings: KFPSettings, pod: str) -> list[Json]:
    """Return the events of a pod from the server of the web UI; [] if it has none.

    Raises:
        ToolError: The server does not answer at all.
    """
    with connect(settings) as kfp:
        found = _read_object(kfp, "/k8s/pod/events", pod, settings.namespace or "kubeflow")
    return filter_by_type(found.get("items"), _EVENTS) or []


def _read_object(kfp: KFPConnection, path: str, pod: str, namespace: str) -> Json:
    """Return an object of Kubernetes that belongs to a pod; {} if the server does not have it."""
    query = {"podname": pod, "podnamespace": namespace}
    text = _read_text(kfp, path, query, accepts_html=True)  # JSON, whatever its content type is
    try:
        answer = parse_json(text or "")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


class _VersionReader:
    """Adds the pipeline document and the description to runs of uploaded pipeline versions.

    KFP omits both in such runs, which are recurring runs and runs that were started in the web UI.
    """

    def __init__(self, kfp: KFPConnection) -> None:
        self._kfp = kfp
        self._known: dict[str, Json] = {}

    def complete(self, run: Json) -> Json:
        """Return a run with the fields that it inherits from its pipeline version."""
        reference = filter_by_type(run.get("pipeline_version_reference"), _REFERENCE)
        if not reference or run.get("pipeline_spec"):
            return run
        key = str(reference.get("pipeline_version_id"))
        if key not in self._known:
            self._known[key] = find_version(self._kfp, reference)
        taken = {name: self._known[key].get(name) for name in ("pipeline_spec", "description")}
        return {**run, **{name: run.get(name) or value for name, value in taken.items() if value}}


def _read_log(kfp: KFPConnection, path: str, query: Json) -> tuple[str | None, str]:
    """Return a log, None if the answer is not a log; and the server's error message or "".

    The API server answers with status 200 and text/plain even if it has no log; the body is then a JSON
    object with the error.
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


def _read_text(
    kfp: KFPConnection, path: str, query: Json, *, accepts_html: bool = False
) -> str | None:
    """Return the text at a path; None for an error or a web page."""
    question = KFPRequest("GET", path, query)
    answer = kfp.send("cannot read a log", question, check=False, most=_MAX_LOG_BYTES)
    # a server that does not support the path may answer with its home page
    is_page = not accepts_html and "html" in answer.headers.get("Content-Type", "")
    if answer.status != 200 or is_page:  # noqa: PLR2004 - HTTP
        return None
    text = answer.data.decode("utf-8", "replace")
    note = _CUT.format(_MAX_LOG_BYTES // 1_000_000, query.get("podname") or "POD")
    return text + note if answer.is_cut else text


def quote_path(text: str) -> str:
    """Quote a text as one part of the path of a URL."""
    return quote(text, safe="")


def find_version(kfp: KFPConnection, reference: Mapping[str, Any]) -> Json:
    """Return a pipeline version with its pipeline document.

    Args:
        kfp: The connection.
        reference: Field `pipeline_version_reference` of a run or a recurring run.

    Returns:
        The version as KFP describes it; {} if it does not exist any more.
    """
    ids = [
        quote_path(str(reference.get(key, ""))) for key in ("pipeline_id", "pipeline_version_id")
    ]
    try:
        return kfp.get("cannot read a pipeline version", f"/pipelines/{ids[0]}/versions/{ids[1]}")
    except NotFoundError:
        return {}
