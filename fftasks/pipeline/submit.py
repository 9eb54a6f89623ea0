"""Stage submit: start a run of a compiled pipeline on Kubeflow Pipelines.

VERSION counts changes of what make_submit_record returns for the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fftasks.config.tree import KFPSettings
from fftasks.errors import ParameterError, SettingsError, ToolError
from fftasks.kfp.client import RunRequest, SubmittedRun
from fftasks.kfp.run import format_run_description
from fftasks.pipeline.ir_yaml import PLACEHOLDER_REASON, is_passed_unchanged, parse_documents
from fftasks.records import Record, digest_bytes, digest_json

VERSION = 1

# A run in one of these states has no results; DELETED means that KFP does not have the run (any more).
_LOST = frozenset({"FAILED", "CANCELING", "CANCELED", "DELETED"})
_SETTINGS = (
    "host", "namespace", "experiment", "run_name", "labels", "service_account", "pipeline_root",
)  # fmt: skip


class StartRun(Protocol):
    """Starts exactly one run in the experiment that the settings name; kfp.client.start_run implements it."""

    def __call__(self, settings: KFPSettings, request: RunRequest) -> SubmittedRun:
        """Return the run that was started; raise ToolError or SettingsError if none was."""


def make_submit_record(
    pipeline: Record,
    text: str,
    settings: KFPSettings,
    start_run: StartRun,
    values: Mapping[str, Any] | None = None,
) -> Record:
    """Start a run and return its record, with `run_id` and `url`.

    Every call starts another run.

    Args:
        pipeline: Record of stage pipeline.
        text: YAML of the pipeline.
        settings: Settings of section kfp.
        start_run: Function that starts the run.
        values: Name of a run parameter -> its value, for all run parameters of the workflow.

    Raises:
        ToolError: The YAML was changed after the record was written, or the run could not be started.
        ParameterError: KFP or Kubernetes would change the value of a run parameter.
        SettingsError: kfp.run_name is invalid, or KFP rejected another setting.
    """
    if digest_bytes(text.encode()) != pipeline["file"]:
        raise ToolError(
            f"submit: the pipeline of workflow {pipeline['workflow']!r} was changed after it was made",
            tip="run `doit forget pipeline` and `doit submit`; edit the workflow or config/, not the YAML",
        )
    values = dict(values or {})
    check_values(values)
    inputs = list_submit_inputs(pipeline, settings, values)
    description = format_run_description(pipeline, settings)
    document, platform = parse_documents(text)
    request = RunRequest(document, inputs["run_name"], description, values, platform)
    run = start_run(settings, request)
    return {
        "stage": "submit",
        "version": VERSION,
        "inputs": inputs,
        "output": digest_json([inputs, run.run_id]),
        "workflow": pipeline["workflow"],
        "run_id": run.run_id,
        "url": run.url,
    }


def name_version(pipeline: Record) -> str:
    """Return the name of a stored version of a pipeline: the first 12 hex digits of its digest."""
    return str(pipeline["output"].removeprefix("sha256:")[:12])


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ParameterError if KFP or Kubernetes would change the value of a run parameter."""
    for name, value in values.items():
        if not is_passed_unchanged(value):
            raise ParameterError(
                f"submit: parameter {name!r} was given {value!r}",
                found=[f"it would not arrive as it is: {PLACEHOLDER_REASON}"],
                tip="choose another value",
            )


def list_submit_inputs(
    pipeline: Record, settings: KFPSettings, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the inputs of stage submit: if one of them changes, another run is started.

    Args:
        pipeline: Record of stage pipeline.
        settings: Settings of section kfp.
        values: Name of a run parameter -> its value.
    """
    labels = ", ".join(f"{name}={value}" for name, value in sorted(settings.labels.items()))
    optional = {
        "labels": labels,
        "service_account": settings.service_account,
        "pipeline_root": settings.pipeline_root,
    }
    return {
        **{name: value for name, value in optional.items() if value},
        **{f"parameter {name}": value for name, value in (values or {}).items()},
        "pipeline": pipeline["output"],
        "host": settings.host.rstrip("/"),
        "namespace": settings.namespace,
        "experiment": settings.experiment,
        "run_name": format_run_name(settings.run_name, pipeline["workflow"], pipeline["output"]),
    }


def name_submit_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of stage submit under the names that the user knows, such as "setting kfp.host"."""
    named = {f"setting kfp.{name}": inputs.get(name, "") for name in _SETTINGS}
    return named | {name: value for name, value in inputs.items() if name not in _SETTINGS}


def format_run_name(template: str, workflow: str, digest: str) -> str:
    """Return the name of a run.

    Args:
        template: Setting kfp.run_name, a format string with {workflow} and {pipeline}, the latter for the
            first 12 hex digits of the pipeline's digest.
        workflow: Name of the workflow.
        digest: Digest of the pipeline, "sha256:...".

    Raises:
        SettingsError: The template has anything else in braces, or the name is empty.
    """
    try:
        name = template.format(workflow=workflow, pipeline=digest.removeprefix("sha256:")[:12])
    except (LookupError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"kfp.run_name: invalid value {template!r}",
            found=[f"{type(error).__name__}: {error}"],
            tip='allowed in braces: {workflow} and {pipeline}; write "{{" for a brace',
        ) from error
    if not name.strip():
        raise SettingsError("kfp.run_name is empty", tip='use "{workflow}"')
    return name


def is_lost(state: str | None) -> bool:
    """Return whether a run in this state has to be started again; False for None, an unknown state."""
    return state in _LOST
