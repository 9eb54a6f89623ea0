"""What the KFP test server knows and answers, without HTTP: experiments, pipelines, runs.

Written from the published REST interface v2beta1 and what the server of release 2.17 checks.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

from tests.services.argo import Argo
from tests.services.kfp_catalog import Catalog
from tests.services.kfp_forms import read_body
from tests.services.kfp_listing import Json, Request, find_row, list_rows
from tests.services.kfp_pipeline import Pipeline, check_compilation, read_parameters, read_pipeline
from tests.services.kfp_run import Execute, Run, now
from tests.services.kfp_schedules import Schedules
from tests.services.refusal import RefusalError, wrap_refusal

_DEFAULT_DESCRIPTION = "All runs created without specifying an experiment will be grouped here."
_NO_EXPERIMENT = (
    "Failed to create a run due to invalid experimentId and namespace combination: "
    "Failed to fetch namespace for experiment {id}: Failed to fetch namespace from experiment {id}: "
)
_NOT_SUCCEEDED = "Workflow must be Failed/Error to retry"


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
        self.runs: dict[str, Run] = {}
        self.schedules = Schedules(
            self.catalog, self._find_experiment, self._add_locked, lambda: list(self.runs.values())
        )
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        if not multi_user:
            self._add_experiment({"display_name": "Default", "description": _DEFAULT_DESCRIPTION})

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
        raise RefusalError(404, "Not Found", None)

    def close(self) -> None:
        """Terminate the runs that are under way and wait for them."""
        self.schedules.close()
        for run in self.runs.values():
            run.terminate()
        for thread in self._threads:
            thread.join(timeout=60)

    # experiments

    def get_health(self, request: Request) -> Json:
        """Tell what kind of installation this is."""
        head = {"commit_sha": "4a3592cb2dd0", "tag_name": self.argo.version}
        return {**head, "multi_user": self.multi_user, "pipeline_store": "database"}

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
                problem = f"Failed to create a new experiment. {problem}"
                words = "Failed to create a experiment: Already exist error"
                raise RefusalError(409, f"{words}: {problem}", problem)
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
        try:
            return self.add_run(body)
        except RefusalError as refusal:
            # the compiler's errors have no words before them
            if refusal.message.startswith("Internal error"):
                raise
            raise wrap_refusal("Failed to create a new run: ", refusal) from refusal

    def _add_locked(self, body: Json, **given: Any) -> Json:
        with self._lock:
            return self.add_run(body, **given)

    def add_run(self, body: Json, **given: Any) -> Json:
        """Take a run; given: fields of Run that are not the client's."""
        if not body.get("display_name"):
            problem = "The run name is empty. Please specify a valid name"
            raise RefusalError(400, f"Invalid input error: {problem}", problem)
        experiment = self._find_experiment(body.get("experiment_id", ""), _NO_EXPERIMENT)
        pipeline = self._find_pipeline(body)
        config = body.get("runtime_config", {})
        parameters = read_parameters(pipeline, config.get("parameters", {}))
        check_compilation(pipeline)
        run = Run(
            pipeline,
            parameters,
            body,
            experiment_id=experiment["experiment_id"],
            namespace=experiment.get("namespace", ""),
            pipeline_root=config.get("pipeline_root", ""),
            argo=self.argo,
            **given,
        )
        if not run.recurring:  # a recorded run of a recurring run begins with RUNNING
            run.move("PENDING")
        self.runs[run.run_id] = run
        experiment["last_run_created_at"] = run.created
        shown = run.to_json()
        self._start(run)
        return shown

    def get_run(self, request: Request, run_id: str) -> Json:
        """Give one run with the states of its tasks."""
        return self._find_run(run_id, "Failed to get a run: ").to_json()

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
        words = f"Failed to terminate a run: Failed to terminate run {run_id}"
        run = self._find_run(run_id, f"{words} due to error fetching the run: ")
        if not run.terminate():
            problem = f"Failed to terminate a run {run_id}. Row not found"
            raise RefusalError(400, f"{words}: Invalid input error: {problem}", problem)
        return {}

    def archive_run(self, request: Request, run_id: str) -> Json:
        """Put a run away."""
        self._find_run(run_id, "Failed to archive a run: ").storage_state = "ARCHIVED"
        return {}

    def unarchive_run(self, request: Request, run_id: str) -> Json:
        """Bring a run back."""
        self._find_run(run_id, "Failed to unarchive a run: ").storage_state = "AVAILABLE"
        return {}

    def delete_run(self, request: Request, run_id: str) -> Json:
        """Forget a run."""
        self._find_run(run_id, "Failed to delete a run: ").terminate()
        del self.runs[run_id]
        return {}

    def retry_run(self, request: Request, run_id: str) -> Json:
        """Run the tasks again that did not succeed."""
        words = f"Failed to retry a run: Failed to retry run {run_id}"
        run = self._find_run(run_id, f"{words}: ")
        if run.state not in {"FAILED", "CANCELED"}:
            message = f"{words}: BadRequestError: {_NOT_SUCCEEDED}: workflow cannot be retried"
            raise RefusalError(409, message, _NOT_SUCCEEDED, code=10)
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

    def _find_run(self, run_id: str, words: str = "") -> Run:
        run: Run = find_row(self.runs, run_id, "Run", f"{words}Failed to fetch run {run_id}: ")
        self._check_namespace(run.namespace)
        return run

    def _find_experiment(self, experiment_id: str, words: str = "") -> Json:
        if experiment_id:
            before = words.format(id=experiment_id)
            experiment: Json = find_row(self.experiments, experiment_id, "Experiment", before)
            self._check_namespace(experiment.get("namespace", ""))
            return experiment
        if self.multi_user:
            raise RefusalError(
                400, "Invalid input error: A run cannot have an empty namespace in multi-user mode"
            )
        return next(iter(self.experiments.values()))

    def _find_pipeline(self, body: Json) -> Pipeline:
        """Return the pipeline of a run: the one that it brings, or an uploaded version."""
        reference = body.get("pipeline_version_reference")
        if reference and not body.get("pipeline_spec"):
            return self.catalog.find_pipeline(reference)
        if "pipeline_spec" not in body:
            words = "InternalServerError: Failed to create a run due to error fetching manifest"
            problem = "Failed to fetch a template with an empty pipeline spec manifest"
            message = f"{words}: Invalid input error: {problem}"
            raise RefusalError(500, message, "Internal Server Error", cause=problem)
        return read_pipeline(body["pipeline_spec"])

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
        ("GET", "/healthz", "", api.get_health),
        ("GET", "/experiments", "ListExperimentsResponse", api.list_experiments),
        ("POST", "/experiments", "Experiment", api.create_experiment),
        ("GET", "/experiments/{id}", "Experiment", api.get_experiment),
        ("GET", "/runs", "ListRunsResponse", api.list_runs),
        ("POST", "/runs", "Run", api.create_run),
        ("GET", "/runs/{id}", "Run", api.get_run),
        ("POST", "/runs/{id}:terminate", "", api.terminate_run),
        ("POST", "/runs/{id}:retry", "", api.retry_run),
        ("POST", "/runs/{id}:archive", "", api.archive_run),
        ("POST", "/runs/{id}:unarchive", "", api.unarchive_run),
        ("DELETE", "/runs/{id}", "", api.delete_run),
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
