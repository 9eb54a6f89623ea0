"""Upload pipeline versions to Kubeflow Pipelines, and manage their recurring runs."""

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

# fields that are read from a recurring run; see filter_by_type
_RECURRING_RUN = {
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
    """A pipeline to be uploaded.

    Attributes:
        pipeline: Name of the pipeline.
        version: Name of the version, unique in the pipeline.
        description: Description of the version.
        text: Pipeline document as YAML.
    """

    pipeline: str
    version: str
    description: str
    text: str


@dataclass(frozen=True)
class PipelineVersion:
    """A pipeline version in Kubeflow Pipelines.

    Attributes:
        pipeline_id: Id of the pipeline.
        version_id: Id of the version.
        url: URL of the version in the web UI.
        is_new: Whether this upload created the version.
    """

    pipeline_id: str
    version_id: str
    url: str
    is_new: bool


def upload_version(settings: KFPSettings, package: Package) -> PipelineVersion:
    """Upload a pipeline version unless it exists; create the pipeline if it does not exist.

    Raises:
        SettingsError: A setting is missing or invalid.
        ToolError: The server rejects the version, or does not answer.
    """
    with connect(settings) as kfp:
        check_host(kfp, settings)
        pipeline_id = _make_pipeline(kfp, settings, package)
        found = _find_version(kfp, pipeline_id, package.version)
        if found:
            return _describe(kfp, pipeline_id, found, is_new=False)
        try:
            made = _upload(kfp, pipeline_id, package)
        except ToolError:
            # another user may have uploaded it, or the answer was lost; names of versions are unique
            made = _find_version(kfp, pipeline_id, package.version)
            if not made:
                raise
        return _describe(kfp, pipeline_id, made, is_new=True)


def read_version_name(settings: KFPSettings, reference: Mapping[str, Any]) -> str:
    """Return the name of a pipeline version; "" if it does not exist any more.

    Args:
        settings: Section `kfp` of the settings.
        reference: Field `pipeline_version_reference` of a run or a recurring run.
    """
    with connect(settings) as kfp:
        answer = find_version(kfp, reference)
    return str(answer.get("name") or answer.get("display_name") or "")


def list_schedules(settings: KFPSettings) -> list[Json]:
    """Return the recurring runs in the experiment in the settings; [] if it does not exist."""
    with connect(settings) as kfp:
        return _list_recurring_runs(kfp, settings, find_experiment(kfp, settings))


def set_schedule(
    settings: KFPSettings, name: str, version: PipelineVersion, cron: str, values: Mapping[str, Any]
) -> str:
    """Create a recurring run, which replaces all recurring runs of the same name.

    The new one is created disabled, then the old ones are deleted, then the new one is enabled. So two are
    never active at the same time, and if the server rejects the new one, nothing changes.

    Args:
        settings: Section `kfp` of the settings.
        name: Display name of the recurring run.
        version: The pipeline version to run.
        cron: Cron expression with seconds, in KFP's format.
        values: Values of all run parameters by name.

    Returns:
        The id of the recurring run.

    Raises:
        ToolError: A request failed. The message says whether the recurring run was created.
    """
    with connect(settings) as kfp:
        experiment_id = make_experiment(kfp, settings)
        old = _list_recurring_runs(kfp, settings, experiment_id, name)
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
        attempted = f"schedule: cannot create recurring run {name!r}"
        created = kfp.post(attempted, "/recurringruns", body, "recurring_run_id")
        new_id = str(created["recurring_run_id"])
        for recurring_run in old:
            _delete(kfp, recurring_run)
        if old:
            attempted = f"schedule: recurring run {new_id} was created, but cannot be enabled"
            kfp.post(attempted, f"/recurringruns/{quote_path(new_id)}:enable", {})
        return new_id


def remove_schedules(settings: KFPSettings, name: str) -> int:
    """Delete the recurring runs of a name.

    Args:
        settings: Section `kfp` of the settings.
        name: Display name.

    Returns:
        The number of deleted recurring runs.

    Raises:
        ToolError: A request failed.
    """
    with connect(settings) as kfp:
        found = _list_recurring_runs(kfp, settings, find_experiment(kfp, settings), name)
        for recurring_run in found:
            _delete(kfp, recurring_run)
        return len(found)


def _make_pipeline(kfp: KFPConnection, settings: KFPSettings, package: Package) -> str:
    """Return the id of a pipeline; create the pipeline if it does not exist."""
    found = _find_pipeline(kfp, settings, package.pipeline)
    if found:
        return found
    body = {"name": package.pipeline, "display_name": package.pipeline, **in_namespace(settings)}
    attempted = f"upload: cannot create pipeline {package.pipeline!r}"
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
        answer = kfp.get(f"upload: cannot find pipeline {name!r}", path, in_namespace(settings))
    except NotFoundError:
        return ""
    return str(answer.get("pipeline_id", ""))


def _find_version(kfp: KFPConnection, pipeline_id: str, name: str) -> str:
    path = f"/pipelines/{quote_path(pipeline_id)}/versions"
    attempted = f"upload: cannot find version {name!r}"
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
    attempted = f"upload: cannot upload version {package.version!r} of {package.pipeline!r}"
    return str(kfp.ask(attempted, question, "pipeline_version_id")["pipeline_version_id"])


def _describe(
    kfp: KFPConnection, pipeline_id: str, version_id: str, *, is_new: bool
) -> PipelineVersion:
    url = f"{kfp.access.page}/#/pipelines/details/{pipeline_id}/version/{version_id}"
    return PipelineVersion(pipeline_id, version_id, url, is_new)


def _list_recurring_runs(
    kfp: KFPConnection, settings: KFPSettings, experiment_id: str, name: str = ""
) -> list[Json]:
    """Return the recurring runs of an experiment; [] for the id "".

    Args:
        kfp: The connection.
        settings: Section `kfp` of the settings.
        experiment_id: Id of the experiment.
        name: Display name; "" for all.
    """
    if not experiment_id:
        return []
    query = {"experiment_id": experiment_id, **in_namespace(settings)}
    attempted = "schedule: cannot list recurring runs"
    rows = kfp.list_all(attempted, "/recurringruns", "recurringRuns", query)
    valid = (filter_by_type(row, _RECURRING_RUN) for row in rows)
    named = [row for row in valid if row.get("recurring_run_id")]
    return [row for row in named if not name or row.get("display_name") == name]


def _delete(kfp: KFPConnection, recurring_run: Json) -> None:
    identity = str(recurring_run["recurring_run_id"])
    path = f"{API}/recurringruns/{quote_path(identity)}"
    kfp.send(f"schedule: cannot delete recurring run {identity}", KFPRequest("DELETE", path))
