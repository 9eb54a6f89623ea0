"""Port kfp: start a run on Kubeflow Pipelines, and ask how one is.

Nothing is taken from this machine but the settings: no ~/.config/kfp, no KF_PIPELINES_* variables, no
kubeconfig. No request that starts something is sent twice.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fftasks.errors import SettingsError, ToolError
from fftasks.ports.kfp_access import Access, make_headers, make_tls_context, read_access
from fftasks.ports.kfp_errors import (
    NoAnswerError,
    explain_nonsense,
    explain_silence,
    explain_status,
    explain_tls,
)
from fftasks.stages.submit import Request, Run

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings

_STATE_TIMEOUT_S = 5.0
_EQUALS = 1
_RECENT = 50
_NOT_FOUND = 5  # gRPC's code in KFP's answers, as opposed to the 404 of some other server


def start_run(settings: KFPSettings, request: Request) -> Run:
    """Start a run in the experiment of the settings, which is made if there is none; see stages/submit.py.

    If the answer to the one request that starts it is lost, the run is looked for under a word that stands
    in its description, and found again or reported as unclear; it is never started a second time.

    Raises SettingsError and ToolError, with the setting to look at.
    """
    access = read_access(settings)
    with _connect(access) as api:
        _check_host(api, settings)
        experiment_id = _find_experiment(api, settings)
        word = uuid.uuid4().hex[:12]
        description = f"{request.description}, submission {word}"
        # the generated API takes the document as a dict; kfp's own functions would parse YAML in Python
        body = api.models.V2beta1Run(
            display_name=request.name,
            description=description,
            experiment_id=experiment_id,
            pipeline_spec=request.document,
            runtime_config=api.models.V2beta1RuntimeConfig(),
        )
        attempted = (
            f"submit: cannot start run {request.name!r} in experiment {settings.experiment!r}"
        )
        try:
            run_id = api.ask(attempted, "run_id", api.runs.run_service_create_run, run=body).run_id
        except NoAnswerError as error:
            run_id = _find_started(api, experiment_id, description, error)
    return Run(run_id, f"{access.host}/#/runs/details/{run_id}")


def read_state(settings: KFPSettings, run_id: str) -> str | None:
    """Return a run's state in KFP's words, "DELETED" if there is no such run, None if that is unknown.

    Does not import kfp, waits a few seconds at most, and raises nothing: an unknown state is no news.
    """
    import http.client
    import urllib.error
    import urllib.request

    class KeepRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            """Follow nothing: it leads to a login page, and the token is not for others."""

    try:
        access = read_access(settings)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=make_tls_context(access)),
            KeepRedirect(),
        )
        url = f"{access.host}/apis/v2beta1/runs/{quote(run_id, safe='')}"
        request = urllib.request.Request(url, headers=make_headers(access))  # noqa: S310 - http(s) only
        timeout_s = min(access.timeout_s, _STATE_TIMEOUT_S)
        with opener.open(request, timeout=timeout_s) as answer:
            state = json.load(answer).get("state")
    except urllib.error.HTTPError as error:
        with error:
            return "DELETED" if _is_not_found(error) else None
    except (SettingsError, OSError, ValueError, AttributeError, http.client.HTTPException):
        return None
    return state if isinstance(state, str) else None


class _API:
    """The parts of kfp.Client that are used, and one way to call them."""

    def __init__(self, access: Access, client: Any, models: Any) -> None:
        self.access = access
        self.models = models
        self.healthz = client._healthz_api
        self.experiments = client._experiment_api
        self.runs = client._run_api
        self._client = self.runs.api_client

    def ask(
        self, attempted: str, needed: str, function: Callable[..., Any], **arguments: Any
    ) -> Any:
        """Return the answer of a generated API function.

        attempted: for the error; needed: the attribute without which an answer is none, "" for any

        Raises ToolError, as NoAnswerError if the request may have been carried out.
        """
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        # a float is ignored without a word by kfp_server_api, a pair is not
        timeout_s = (self.access.timeout_s, self.access.timeout_s)
        try:
            answer = function(**arguments, _request_timeout=timeout_s)
            # what is no JSON passes the generated code, as an object without values
            genuine = isinstance(json.loads(self._client.last_response.data), dict)
        except ApiException as error:
            if not error.status:  # a date in the answer that is none
                raise self._refuse_answer(attempted) from error
            raise explain_status(self.access, attempted, error) from error
        except HTTPError as error:
            raise explain_silence(self.access, attempted, error) from error
        except AttributeError as error:
            # kfp_server_api 2.17 decodes the body of an ApiException that has none: TLS failed
            if not isinstance(error.__context__, ApiException):
                raise  # pragma: no cover - a bug of ours
            raise explain_tls(self.access, attempted, error.__context__.reason) from error
        except ValueError as error:
            raise self._refuse_answer(attempted) from error
        if not genuine or (needed and not getattr(answer, needed)):
            raise self._refuse_answer(attempted)
        return answer

    def _refuse_answer(self, attempted: str) -> ToolError:
        return explain_nonsense(self.access, attempted, str(self._client.last_response.data))


@contextmanager
def _connect(access: Access) -> Iterator[_API]:
    with warnings.catch_warnings():
        # kfp warns of itself on import and on use, urllib3 of verify_ssl: false; the user can do nothing
        warnings.simplefilter("ignore")
        import kfp_server_api
        from kfp.client.client import Client as KFPClient
        from kfp_server_api.configuration import Configuration

        configuration = Configuration(host=access.host)
        configuration.verify_ssl = access.verify_ssl
        configuration.ssl_ca_cert = access.ca_cert or None
        configuration.retries = False  # neither a second POST nor the way to a login page
        if access.token:
            configuration.api_key["authorization"] = access.token
            configuration.api_key_prefix["authorization"] = "Bearer"

        class Client(KFPClient):  # type: ignore[misc]  # kfp has no types
            """kfp.Client without what it would read on this machine, and without its calls on creation."""

            def _load_config(self, *_: Any, **__: Any) -> Any:
                return configuration

            def _load_context_setting_or_default(self) -> None:
                self._context_setting = {"namespace": "given with each call"}

        client = Client(host=access.host, cookies=access.cookies or None)
        try:
            yield _API(access, client, kfp_server_api)
        finally:
            client._run_api.api_client.rest_client.pool_manager.clear()


def _check_host(api: _API, settings: KFPSettings) -> None:
    attempted = "submit: cannot work with Kubeflow Pipelines"
    health = api.ask(attempted, "", api.healthz.healthz_service_get_healthz)
    if health.multi_user and not settings.namespace:
        raise SettingsError(
            "submit: kfp.namespace is not set",
            found=[f"Kubeflow Pipelines at {api.access.host} serves several users"],
            tip="kfp.namespace: the name of your profile",
        )


def _find_experiment(api: _API, settings: KFPSettings) -> str:
    """Return the experiment's id; make the experiment if there is none."""
    if not settings.experiment.strip():
        raise SettingsError("kfp.experiment is empty", tip='use "Default"')
    found = _look_for_experiment(api, settings)
    if found:
        return found
    experiment = api.models.V2beta1Experiment(
        display_name=settings.experiment, namespace=settings.namespace or None
    )
    attempted = f"submit: cannot make experiment {settings.experiment!r}{_in(settings)}"
    create = api.experiments.experiment_service_create_experiment
    try:
        return str(api.ask(attempted, "experiment_id", create, experiment=experiment).experiment_id)
    except ToolError:
        # made by somebody else since, or made while the answer was lost; its name is unique
        found = _look_for_experiment(api, settings)
        if not found:
            raise
        return found


def _look_for_experiment(api: _API, settings: KFPSettings) -> str:
    named = {"operation": _EQUALS, "key": "display_name", "stringValue": settings.experiment}
    arguments = {"filter": json.dumps({"predicates": [named]})}
    if settings.namespace:
        arguments["namespace"] = settings.namespace
    attempted = f"submit: cannot look for experiment {settings.experiment!r}{_in(settings)}"
    listed = api.ask(
        attempted, "", api.experiments.experiment_service_list_experiments, **arguments
    )
    # the filter again: a proxy may have dropped it
    ids = [
        e.experiment_id for e in listed.experiments or () if e.display_name == settings.experiment
    ]
    return str(ids[0]) if ids else ""


def _find_started(api: _API, experiment_id: str, description: str, error: ToolError) -> str:
    """Return the id of the run whose answer was lost; raise ToolError if there is none, or none to see."""
    page = f"{api.access.host}/#/experiments/details/{experiment_id}"
    unclear = f"it is not clear whether the run was started: look at {page} before you submit again"
    try:
        listed = api.ask(
            error.attempted,
            "",
            api.runs.run_service_list_runs,
            experiment_id=experiment_id,
            page_size=_RECENT,
            sort_by="created_at desc",
        )
    except ToolError:
        listed = None
    for run in (listed.runs if listed else None) or ():
        if run.description == description and run.run_id:
            return str(run.run_id)
    raise ToolError(error.attempted, found=[*error.found, unclear], tip=error.tip) from error


def _is_not_found(error: Any) -> bool:
    try:
        return bool(error.code == 404 and json.load(error).get("code") == _NOT_FOUND)  # noqa: PLR2004
    except (OSError, ValueError, AttributeError):
        return False


def _in(settings: KFPSettings) -> str:
    return f" in namespace {settings.namespace!r}" if settings.namespace else ""
