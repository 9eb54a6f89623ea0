"""Port kfp: start a run on Kubeflow Pipelines, and ask how one is.

Nothing is taken from this machine but what the settings name. No request that starts something is sent twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fftasks.errors import SettingsError, ToolError
from fftasks.ports.answer import MOST_BYTES, TooLongError, Watch, fit, make_watched, parse_json
from fftasks.ports.kfp_access import make_headers, make_tls_context, read_access
from fftasks.ports.kfp_connection import Connection, Json, Question, connect
from fftasks.ports.kfp_errors import NoAnswerError
from fftasks.stages.submit import Request, Run

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings

_STATE_TIMEOUT_S = 5.0
_RECENT = 50
_NAMESPACES = "/api/v1/namespaces/"  # of the cluster's API server
_NOT_FOUND = 5  # gRPC's code in KFP's answers, as opposed to the 404 of some other server


def start_run(settings: KFPSettings, request: Request) -> Run:
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
    return Run(run_id, make_url(kfp, run_id))


def find_page(settings: KFPSettings, run_id: str) -> str:
    """Return the address of a run's page; asks nobody. Raises SettingsError if kfp.host is none."""
    return f"{read_access(settings).page}/#/runs/details/{run_id}"


def make_url(kfp: Connection, run_id: str) -> str:
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


def read_state(settings: KFPSettings, run_id: str) -> str | None:
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

    watch = Watch()

    class Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, request: Any) -> Any:
            return self.do_open(make_watched(http.client.HTTPConnection, watch), request)

        def https_open(self, request: Any) -> Any:
            connection, context = http.client.HTTPSConnection, make_tls_context(access)
            return self.do_open(make_watched(connection, watch), request, context=context)

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
            run = parse_json(answer.read(MOST_BYTES))
            state = run.get("state")
            history = [seen.get("state") for seen in fit(run.get("state_history"), [dict]) or ()]
            if state == "FAILED" and "CANCELING" in history:
                state = "CANCELED"
    except urllib.error.HTTPError as error:
        with error:
            return "DELETED" if _is_not_found(error) else None
    except (SettingsError, OSError, ValueError, AttributeError, http.client.HTTPException):
        return None
    except TooLongError:
        return None
    return state if isinstance(state, str) else None


def check_host(kfp: Connection, settings: KFPSettings) -> Json:
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


def make_experiment(kfp: Connection, settings: KFPSettings) -> str:
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


def find_experiment(kfp: Connection, settings: KFPSettings) -> str:
    """Return the id of the settings' experiment, "" if there is none."""
    attempted = f"cannot look for experiment {settings.experiment!r}{_in(settings)}"
    query = {**name_filter("display_name", settings.experiment), **in_namespace(settings)}
    for row in kfp.list_all(attempted, "/experiments", "experiments", query):
        # the filter again: a proxy may have dropped it
        if row.get("display_name") == settings.experiment and row.get("experiment_id"):
            return str(row["experiment_id"])
    return ""


def has_namespace(kfp: Connection, settings: KFPSettings) -> bool | None:
    """Tell whether the settings' namespace is there; None if nobody says.

    Kubeflow Pipelines does not: in a namespace that is none it finds nothing, and makes what it is told to
    until pods are to run. What is in it shows that it is there; and the API server of the cluster knows,
    where all goes through it (kfp.auth: kubeconfig).
    """
    base, through, _ = kfp.access.path.partition(_NAMESPACES)
    if settings.auth == "kubeconfig" and through:
        path = _NAMESPACES + quote(settings.namespace, safe="")
        question = Question("GET", path, base=base)
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


def _find_started(kfp: Connection, experiment_id: str, description: str, error: ToolError) -> str:
    """Return the id of the run whose answer was lost; raise ToolError if there is none, or none to see."""
    page = f"{kfp.access.page}/#/experiments/details/{experiment_id}"
    unclear = f"it is not clear whether the run was started: look at {page} before you submit again"
    query = {
        "experiment_id": experiment_id,
        "page_size": str(_RECENT),
        "sort_by": "created_at desc",
    }
    try:
        runs = fit(kfp.get(error.attempted, "/runs", query).get("runs"), [dict]) or ()
    except ToolError:
        runs = ()
    for run in runs:
        if run.get("description") == description and run.get("run_id"):
            return str(run["run_id"])
    raise ToolError(error.attempted, found=[*error.found, unclear], tip=error.tip) from error


def _is_not_found(error: Any) -> bool:
    try:
        answer = parse_json(error.read(MOST_BYTES)) if error.code == 404 else {}  # noqa: PLR2004
        return bool(answer.get("code") == _NOT_FOUND)
    except (OSError, ValueError, AttributeError):
        return False


def _in(settings: KFPSettings) -> str:
    return f" in namespace {settings.namespace!r}" if settings.namespace else ""
