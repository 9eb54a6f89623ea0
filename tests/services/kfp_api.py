"""What the KFP test server knows and answers, without HTTP: experiments, pipelines, runs.

Written from the published REST interface v2beta1 and what the server of release 2.17 checks.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable

from tests.services.argo import Argo
from tests.services.kfp_catalog import Catalog
from tests.services.kfp_forms import read_body
from tests.services.kfp_listing import Json, Request, find_row, list_rows
from tests.services.kfp_pipeline import Pipeline, read_parameters, read_pipeline
from tests.services.kfp_run import Execute, Run, now
from tests.services.kfp_schedules import Schedules
from tests.services.refusal import RefusalError


class Api:
    """The state of a KFP installation, and one method per operation of its interface."""

    def __init__(
        self,
        execute: Execute,
        *,
        multi_user: bool,
        forbidden_namespaces: frozenset[str],
        argo: Argo,
    ) -> None:
        self.argo = argo
        self.execute = execute
        self.multi_user = multi_user
        self.forbidden_namespaces = forbidden_namespaces
        self.experiments: dict[str, Json] = {}
        self.catalog = Catalog()
        self.schedules = Schedules(self.catalog, self._find_experiment)
        self.runs: dict[str, Run] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        if not multi_user:
            self._add_experiment(
                {"display_name": "Default", "description": "The default experiment"}
            )

    def answer(self, request: Request) -> tuple[str, Json]:
        """Return the name of the answer's definition (without "v2beta1") and the answer.

        Raises RefusalError for what the real server refuses.
        """
        for method, path, kind, operation in _list_routes(self):
            pattern = "/apis/v2beta1" + path.replace("{id}", "([^/:]+)")
            found = re.fullmatch(pattern, request.path)
            if found and method == request.method:
                with self._lock:
                    return kind, operation(request, *found.groups())
        raise RefusalError(404, "Not Found")

    def close(self) -> None:
        """Terminate the runs that are under way and wait for them."""
        for run in self.runs.values():
            run.terminate()
        for thread in self._threads:
            thread.join(timeout=60)

    # experiments

    def get_health(self, request: Request) -> Json:
        """Tell what kind of installation this is."""
        # protobuf's JSON leaves out what has its default value
        multi_user = {"multi_user": True} if self.multi_user else {}
        return {**multi_user, "pipeline_store": "database"}

    def create_experiment(self, request: Request) -> Json:
        """Add an experiment; its name is unique in its namespace."""
        body = read_body("Experiment", request.body)
        namespace = self._check_namespace(body.get("namespace", ""))
        name = body.get("display_name", "")
        if not name:
            problem = "Experiment name is empty. Please specify a valid experiment name"
            raise RefusalError(400, f"Invalid input error: {problem}")
        body["namespace"] = namespace
        for other in self.experiments.values():
            if (other["display_name"], other.get("namespace", "")) == (name, namespace):
                problem = f"The name {name} already exists. Please specify a new name"
                raise RefusalError(409, f"Failed to create a new experiment. {problem}")
        return self._add_experiment(body)

    def get_experiment(self, request: Request, experiment_id: str) -> Json:
        """Give one experiment."""
        experiment = find_row(self.experiments, experiment_id, "Experiment")
        self._check_namespace(experiment.get("namespace", ""))
        return experiment

    def list_experiments(self, request: Request) -> Json:
        """Give the experiments of a namespace, filtered."""
        namespace = self._check_namespace(request.query.get("namespace", ""))
        rows = [row for row in self.experiments.values() if row.get("namespace", "") == namespace]
        return list_rows("experiments", rows, request)

    def _add_experiment(self, body: Json) -> Json:
        given = {name: value for name, value in body.items() if value not in ("", None)}
        times = {"created_at": now(), "last_run_created_at": "1970-01-01T00:00:00Z"}
        made = {**given, **times, "experiment_id": str(uuid.uuid4()), "storage_state": "AVAILABLE"}
        self.experiments[made["experiment_id"]] = made
        return made

    # runs

    def create_run(self, request: Request) -> Json:
        """Take a run and execute it in the background."""
        body = read_body("Run", request.body)
        if not body.get("display_name"):
            raise RefusalError(
                400, "Invalid input error: The run name is empty. Please specify a valid name"
            )
        experiment = self._find_experiment(body.get("experiment_id", ""))
        pipeline = self._find_pipeline(body)
        config = body.get("runtime_config", {})
        run = Run(
            pipeline,
            read_parameters(pipeline, config.get("parameters", {})),
            body,
            experiment_id=experiment["experiment_id"],
            namespace=experiment.get("namespace", ""),
            pipeline_root=config.get("pipeline_root", ""),
            argo=self.argo,
        )
        run.move("PENDING")
        self.runs[run.run_id] = run
        experiment["last_run_created_at"] = run.created
        shown = run.to_json()
        self._start(run)
        return shown

    def get_run(self, request: Request, run_id: str) -> Json:
        """Give one run with the states of its tasks."""
        return self._find_run(run_id).to_json()

    def list_runs(self, request: Request) -> Json:
        """Give the runs of an experiment or a namespace, filtered."""
        experiment_id = request.query.get("experiment_id", "")
        if experiment_id:
            runs = [run for run in self.runs.values() if run.experiment_id == experiment_id]
        else:
            namespace = self._check_namespace(request.query.get("namespace", ""))
            runs = [run for run in self.runs.values() if run.namespace == namespace]
        return list_rows("runs", [run.to_json() for run in runs], request)

    def terminate_run(self, request: Request, run_id: str) -> Json:
        """Cancel a run that is under way."""
        run = self._find_run(run_id)
        if not run.terminate():
            raise RefusalError(400, f"Failed to terminate run {run_id}: the run has finished")
        return {}

    def retry_run(self, request: Request, run_id: str) -> Json:
        """Run the tasks again that did not succeed."""
        run = self._find_run(run_id)
        if run.state not in {"FAILED", "CANCELED"}:
            raise RefusalError(500, f"Failed to retry run {run_id} as it does not allow retries")
        for name, task in list(run.tasks.items()):
            if task.state not in {"SUCCEEDED", "SKIPPED"}:
                del run.tasks[name]
        run.is_terminated.clear()
        run.move("PENDING")
        self._start(run)
        return {}

    def _start(self, run: Run) -> None:
        thread = threading.Thread(
            target=run.execute, args=(self.execute,), name=f"run {run.run_id}"
        )
        thread.start()
        self._threads.append(thread)

    def _find_run(self, run_id: str) -> Run:
        run: Run = find_row(self.runs, run_id, "Run")
        self._check_namespace(run.namespace)
        return run

    def _find_experiment(self, experiment_id: str) -> Json:
        if experiment_id:
            experiment: Json = find_row(self.experiments, experiment_id, "Experiment")
            self._check_namespace(experiment.get("namespace", ""))
            return experiment
        if self.multi_user:
            raise RefusalError(
                400, "Invalid input error: A run cannot have an empty namespace in multi-user mode"
            )
        return next(iter(self.experiments.values()))

    def _find_pipeline(self, body: Json) -> Pipeline:
        reference = body.get("pipeline_version_reference")
        if bool(reference) == bool(body.get("pipeline_spec")):
            problem = "either a pipeline spec or a pipeline version is needed, not both"
            raise RefusalError(400, f"Failed to fetch a template: {problem}")
        if not reference:
            return read_pipeline(body["pipeline_spec"])
        return self.catalog.find_pipeline(reference)

    def _check_namespace(self, namespace: str) -> str:
        """Return the namespace if this user may use it; an installation of one user has none."""
        if not self.multi_user:
            return ""
        if not namespace:
            problem = "Invalid input error: namespace cannot be empty in multi-user mode"
            raise RefusalError(400, problem)
        if namespace in self.forbidden_namespaces:
            user = "User 'user@example.com' is not authorized with reason:"
            attributes = f"Namespace:{namespace},Group:pipelines.kubeflow.org,Version:v1beta1"
            problem = f"{user} (request: &ResourceAttributes{{{attributes}}}): Unauthorized access"
            raise RefusalError(403, f"PermissionDenied: {problem}")
        return namespace


def _list_routes(api: Api) -> tuple[tuple[str, str, str, Callable[..., Json]], ...]:
    """Return method, path below /apis/v2beta1, name of the answer's definition, operation."""
    catalog, schedules = api.catalog, api.schedules
    return (
        ("GET", "/healthz", "GetHealthzResponse", api.get_health),
        ("GET", "/experiments", "ListExperimentsResponse", api.list_experiments),
        ("POST", "/experiments", "Experiment", api.create_experiment),
        ("GET", "/experiments/{id}", "Experiment", api.get_experiment),
        ("GET", "/runs", "ListRunsResponse", api.list_runs),
        ("POST", "/runs", "Run", api.create_run),
        ("GET", "/runs/{id}", "Run", api.get_run),
        ("POST", "/runs/{id}:terminate", "", api.terminate_run),
        ("POST", "/runs/{id}:retry", "", api.retry_run),
        ("GET", "/recurringruns", "ListRecurringRunsResponse", schedules.list_all),
        ("POST", "/recurringruns", "RecurringRun", schedules.create),
        ("GET", "/recurringruns/{id}", "RecurringRun", schedules.get),
        ("DELETE", "/recurringruns/{id}", "", schedules.delete),
        ("POST", "/recurringruns/{id}:enable", "", schedules.enable),
        ("POST", "/recurringruns/{id}:disable", "", schedules.disable),
        ("GET", "/pipelines", "ListPipelinesResponse", catalog.list_pipelines),
        ("POST", "/pipelines", "Pipeline", catalog.create_pipeline),
        ("POST", "/pipelines/upload", "Pipeline", catalog.upload_pipeline),
        ("POST", "/pipelines/upload_version", "PipelineVersion", catalog.upload_version),
        ("GET", "/pipelines/names/{id}", "Pipeline", catalog.get_pipeline_by_name),
        ("GET", "/pipelines/{id}", "Pipeline", catalog.get_pipeline),
        ("GET", "/pipelines/{id}/versions", "ListPipelineVersionsResponse", catalog.list_versions),
        ("GET", "/pipelines/{id}/versions/{id}", "PipelineVersion", catalog.get_version),
    )
