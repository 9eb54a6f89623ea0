"""The recurring runs that the KFP test server knows, and the runs that they start by the clock."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.services.argo import FINAL, number_node
from tests.services.kfp_catalog import Catalog
from tests.services.kfp_cron import Cron, CronError
from tests.services.kfp_forms import read_body
from tests.services.kfp_listing import Json, Request, find_row, list_rows
from tests.services.kfp_run import Run, make_suffix, now, write_time
from tests.services.refusal import RefusalError

_LOOK_S = 0.1  # how often the clock is looked at


class Schedules:
    """Recurring runs by id; one method per operation of the interface.

    Args:
        start: Starts a run: its request, and fields of Run.
        list_runs: Gives all runs.
    """

    def __init__(
        self,
        catalog: Catalog,
        find_experiment: Callable[[str], Json],
        start: Callable[..., Any],
        list_runs: Callable[[], list[Run]],
    ) -> None:
        self.rows: dict[str, Json] = {}
        self._catalog = catalog
        self._find_experiment = find_experiment
        self._start = start
        self._list_runs = list_runs
        self._due: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Start nothing any more."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def create(self, request: Request) -> Json:
        """Add one; refuse what the real server refuses, which takes five fields of cron for six."""
        body = read_body("RecurringRun", request.body)
        _read_trigger(body)
        experiment = self._find_experiment(body.get("experiment_id", ""))
        if "pipeline_spec" not in body:
            self._catalog.find_pipeline(body.get("pipeline_version_reference", {}))
        concurrency = int(body.get("max_concurrency", 0))
        if not 1 <= concurrency <= 10:
            problem = "The max concurrency of the recurring run must be in the range [1, 10]"
            raise RefusalError(400, f"Invalid input error: {problem}")
        is_on = body.get("mode") == "ENABLE"
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "created_at": now()}
        made |= {"updated_at": made["created_at"], "status": "ENABLED" if is_on else "DISABLED"}
        made["experiment_id"] = experiment["experiment_id"]
        if experiment.get("namespace"):
            made["namespace"] = experiment["namespace"]
        self.rows[made["recurring_run_id"]] = made
        # template.go, toSWFCRDResourceGeneratedName, and five characters of Kubernetes
        name = re.sub(r"[^a-z0-9-]+", "", made.get("display_name", "").lower()) or "job-"
        self._names[made["recurring_run_id"]] = name[:25] + make_suffix()
        self._due[made["recurring_run_id"]] = _find_due(made, time.time())
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return made

    def _watch(self) -> None:
        """Start the runs that are due."""
        while not self._is_closing.wait(_LOOK_S):
            for key, row in list(self.rows.items()):
                due = self._due.get(key, float("inf"))  # a row may be a test's own
                if row["status"] != "ENABLED" or due > time.time():
                    continue
                running = [
                    run
                    for run in self._list_runs()
                    if run.recurring.get("recurring_run_id") == key and run.state not in FINAL
                ]
                if len(running) < int(row["max_concurrency"]):
                    self._due[key] = _find_due(row, time.time())
                    self._fire(key, row, due)

    def _fire(self, key: str, row: Json, due: float) -> None:
        """Start one run, called <workflow>-<n>-<hash of that> (scheduled_workflow.go, NextResourceName)."""
        self._counts[key] = self._counts.get(key, 0) + 1
        name = f"{self._names[key]}-{self._counts[key]}"
        name = f"{name}-{number_node(name)}"
        given = ("experiment_id", "pipeline_version_reference", "pipeline_spec", "runtime_config")
        body = {field: row[field] for field in given if field in row}
        recurring = {"recurring_run_id": key, "scheduled_at": write_time(due)}
        self._start({**body, "display_name": name}, workflow=name, recurring=recurring)

    def get(self, request: Request, schedule_id: str) -> Json:
        """Give one."""
        return find_row(self.rows, schedule_id, "RecurringRun")

    def list_all(self, request: Request) -> Json:
        """Give those of an experiment or a namespace, filtered."""
        wanted = {
            key: request.query[key]
            for key in ("experiment_id", "namespace")
            if key in request.query
        }
        rows = [row for row in self.rows.values() if wanted.items() <= row.items()]
        return list_rows("recurringRuns", rows, request)

    def delete(self, request: Request, schedule_id: str) -> Json:
        """Remove one."""
        find_row(self.rows, schedule_id, "RecurringRun")
        del self.rows[schedule_id]
        return {}

    def enable(self, request: Request, schedule_id: str) -> Json:
        """Let one start runs."""
        return self._set(schedule_id, "ENABLED", "ENABLE")

    def disable(self, request: Request, schedule_id: str) -> Json:
        """Let one start no runs."""
        return self._set(schedule_id, "DISABLED", "DISABLE")

    def _set(self, schedule_id: str, status: str, mode: str) -> Json:
        row = find_row(self.rows, schedule_id, "RecurringRun")
        row |= {"status": status, "mode": mode, "updated_at": now()}
        self._due[schedule_id] = _find_due(row, time.time())
        return {}


def _read_trigger(body: Json) -> Cron | None:
    """Return the cron of a recurring run; None for one with an interval."""
    trigger = body.get("trigger", {})
    text = trigger.get("cron_schedule", {}).get("cron", "")
    if not text and "periodic_schedule" in trigger:
        return None
    try:
        return Cron(text)
    except CronError as exc:
        place = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)"
        problem = f"{place}. Error: {exc}"
        words = "Failed to create a recurring run due to conversion error: Invalid input error"
        raise RefusalError(400, f"{words}: {problem}", problem) from exc


def _find_due(row: Json, after: float) -> float:
    """Return when a recurring run is due next."""
    cron = _read_trigger(row)
    if cron is not None:
        return cron.find_next(after)
    seconds = int(row["trigger"]["periodic_schedule"].get("interval_second") or 0)
    return after + seconds if seconds else float("inf")
