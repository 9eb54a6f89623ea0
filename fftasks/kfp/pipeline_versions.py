"""Port kfp: pipelines that are stored on the cluster, and when they run by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.http.response import filter_by_type
from fftasks.kfp.client import (
    check_host,
    find_experiment,
    find_version,
    in_namespace,
    make_experiment,
    make_runtime_config,
    name_filter,
    quote_path,
)
from fftasks.kfp.connection import API, Json, KFPConnection, KFPRequest, NotFoundError, connect

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings

# what is read of a recurring run; see ports/answer.py
_SCHEDULE = {
    "recurring_run_id": str,
    "display_name": str,
    "description": str,
    "status": str,
    "trigger": {"cron_schedule": {"cron": str}},
    "pipeline_version_reference": {"pipeline_id": str, "pipeline_version_id": str},
    "runtime_config": {"parameters": dict, "pipeline_root": str},
}


@dataclass(frozen=True)
class Package:
    """A pipeline to be stored: its name, that of the version, what is said of it, and its YAML."""

    pipeline: str
    version: str
    description: str
    text: str


@dataclass(frozen=True)
class PipelineVersion:
    """A version that is stored; is_new: it was not before."""

    pipeline_id: str
    version_id: str
    url: str
    is_new: bool


def upload_version(settings: KFPSettings, package: Package) -> PipelineVersion:
    """Store a version of a pipeline, unless it is there; make the pipeline if there is none."""
    with connect(settings) as kfp:
        check_host(kfp, settings)
        pipeline_id = _make_pipeline(kfp, settings, package)
        found = _find_version(kfp, pipeline_id, package.version)
        if found:
            return _describe(kfp, pipeline_id, found, is_new=False)
        try:
            made = _upload(kfp, pipeline_id, package)
        except ToolError:
            # stored by somebody else since, or while the answer was lost; its name is unique
            made = _find_version(kfp, pipeline_id, package.version)
            if not made:
                raise
        return _describe(kfp, pipeline_id, made, is_new=True)


def read_version_name(settings: KFPSettings, reference: Mapping[str, Any]) -> str:
    """Return the name of a version, "" if it is not there any more; see find_version."""
    with connect(settings) as kfp:
        answer = find_version(kfp, reference)
    return str(answer.get("name") or answer.get("display_name") or "")


def list_schedules(settings: KFPSettings) -> list[Json]:
    """Return the recurring runs in the settings' experiment."""
    with connect(settings) as kfp:
        experiment_id = find_experiment(kfp, settings)
        return _list_schedules(kfp, settings, experiment_id) if experiment_id else []


def set_schedule(
    settings: KFPSettings, name: str, version: PipelineVersion, cron: str, values: Mapping[str, Any]
) -> str:
    """Let a version run by the clock, instead of all that ran by the clock under this name; return the id.

    values: of its run parameters

    The new one begins when the old ones have gone, so that there are never two; and the old ones go when the
    new one was taken, so that a refusal changes nothing.
    """
    with connect(settings) as kfp:
        experiment_id = make_experiment(kfp, settings)
        old = _choose(_list_schedules(kfp, settings, experiment_id), name)
        body = {
            "display_name": name,
            "experiment_id": experiment_id,
            "trigger": {"cron_schedule": {"cron": cron}},
            "mode": "DISABLE" if old else "ENABLE",
            "max_concurrency": "1",
            "no_catchup": True,
            "pipeline_version_reference": {
                "pipeline_id": version.pipeline_id,
                "pipeline_version_id": version.version_id,
            },
            "runtime_config": make_runtime_config(settings, values),
        }
        if settings.service_account:
            body["service_account"] = settings.service_account
        attempted = f"schedule: cannot make recurring run {name!r}"
        made = kfp.post(attempted, "/recurringruns", body, "recurring_run_id")["recurring_run_id"]
        for schedule in old:
            _delete(kfp, schedule)
        if old:
            attempted = f"schedule: recurring run {made} is made, and cannot be switched on"
            kfp.post(attempted, f"/recurringruns/{quote_path(made)}:enable", {})
        return str(made)


def remove_schedules(settings: KFPSettings, name: str) -> int:
    """Remove the recurring runs of a name; return how many there were."""
    with connect(settings) as kfp:
        experiment_id = find_experiment(kfp, settings)
        rows = _list_schedules(kfp, settings, experiment_id) if experiment_id else []
        found = _choose(rows, name)
        for schedule in found:
            _delete(kfp, schedule)
        return len(found)


def _make_pipeline(kfp: KFPConnection, settings: KFPSettings, package: Package) -> str:
    found = _find_pipeline(kfp, settings, package.pipeline)
    if found:
        return found
    body = {"name": package.pipeline, "display_name": package.pipeline, **in_namespace(settings)}
    attempted = f"upload: cannot make pipeline {package.pipeline!r}"
    try:
        return str(kfp.post(attempted, "/pipelines", body, "pipeline_id")["pipeline_id"])
    except ToolError:
        found = _find_pipeline(kfp, settings, package.pipeline)
        if not found:
            raise
        return found


def _find_pipeline(kfp: KFPConnection, settings: KFPSettings, name: str) -> str:
    path = f"/pipelines/names/{quote_path(name)}"
    try:
        answer = kfp.get(f"upload: cannot look for pipeline {name!r}", path, in_namespace(settings))
    except NotFoundError:
        return ""
    return str(answer.get("pipeline_id", ""))


def _find_version(kfp: KFPConnection, pipeline_id: str, name: str) -> str:
    path = f"/pipelines/{quote_path(pipeline_id)}/versions"
    attempted = f"upload: cannot look for version {name!r}"
    for row in kfp.list_all(attempted, path, "pipeline_versions", name_filter("name", name)):
        if name in (row.get("name"), row.get("display_name")):
            return str(row.get("pipeline_version_id", ""))
    return ""


def _upload(kfp: KFPConnection, pipeline_id: str, package: Package) -> str:
    query = {
        "name": package.version,
        "pipelineid": pipeline_id,
        "description": package.description,
    }
    file = (f"{package.pipeline}.yaml", package.text.encode(), "application/yaml")
    question = KFPRequest(
        "POST", f"{API}/pipelines/upload_version", query, fields={"uploadfile": file}
    )
    attempted = f"upload: cannot store version {package.version!r} of {package.pipeline!r}"
    return str(kfp.ask(attempted, question, "pipeline_version_id")["pipeline_version_id"])


def _describe(
    kfp: KFPConnection, pipeline_id: str, version_id: str, *, is_new: bool
) -> PipelineVersion:
    url = f"{kfp.access.page}/#/pipelines/details/{pipeline_id}/version/{version_id}"
    return PipelineVersion(pipeline_id, version_id, url, is_new)


def _list_schedules(kfp: KFPConnection, settings: KFPSettings, experiment_id: str) -> list[Json]:
    query = {"experiment_id": experiment_id, **in_namespace(settings)}
    attempted = "schedule: cannot list recurring runs"
    rows = kfp.list_all(attempted, "/recurringruns", "recurringRuns", query)
    fitted = (filter_by_type(row, _SCHEDULE) for row in rows)
    return [row for row in fitted if row.get("recurring_run_id")]


def _choose(schedules: list[Json], name: str) -> list[Json]:
    return [row for row in schedules if row.get("display_name") == name]


def _delete(kfp: KFPConnection, schedule: Json) -> None:
    identity = str(schedule["recurring_run_id"])
    path = f"{API}/recurringruns/{quote_path(identity)}"
    kfp.send(f"schedule: cannot remove recurring run {identity}", KFPRequest("DELETE", path))
