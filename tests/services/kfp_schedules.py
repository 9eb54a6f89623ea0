"""The recurring runs that the KFP test server knows; it keeps them, and starts nothing by the clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from tests.services.kfp_catalog import Catalog
from tests.services.kfp_forms import read_body
from tests.services.kfp_listing import Json, Request, find_row, list_rows
from tests.services.kfp_run import now
from tests.services.refusal import RefusalError


class Schedules:
    """Recurring runs by id; one method per operation of the interface."""

    def __init__(self, catalog: Catalog, find_experiment: Callable[[str], Json]) -> None:
        self.rows: dict[str, Json] = {}
        self._catalog = catalog
        self._find_experiment = find_experiment

    def create(self, request: Request) -> Json:
        """Add one; refuse what the real server refuses, which takes five fields of cron for six."""
        body = read_body("RecurringRun", request.body)
        experiment = self._find_experiment(body.get("experiment_id", ""))
        self._catalog.find_pipeline(body.get("pipeline_version_reference", {}))
        concurrency = int(body.get("max_concurrency", 0))
        if not 1 <= concurrency <= 10:
            problem = "The max concurrency of the recurring run must be in the range [1, 10]"
            raise RefusalError(400, f"Invalid input error: {problem}")
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if len(cron.split()) not in (5, 6) and not cron.startswith("@"):
            raise RefusalError(400, f"Schedule cron is not a supported format: {cron}")
        is_on = body.get("mode") == "ENABLE"
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "created_at": now()}
        made |= {"updated_at": made["created_at"], "status": "ENABLED" if is_on else "DISABLED"}
        made["experiment_id"] = experiment["experiment_id"]
        if experiment.get("namespace"):
            made["namespace"] = experiment["namespace"]
        self.rows[made["recurring_run_id"]] = made
        return made

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
        return {}
