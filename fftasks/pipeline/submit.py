"""Stage submit: a pipeline document -> a run on Kubeflow Pipelines.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from fftasks.errors import ParameterError, SettingsError, ToolError
from fftasks.kfp.client import RunRequest, SubmittedRun
from fftasks.kfp.run import format_run_description
from fftasks.pipeline.ir_yaml import PLACEHOLDER_REASON, is_passed_unchanged, parse_documents
from fftasks.records import Record, digest_bytes, digest_json

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings

VERSION = 1

# a run in one of these states gives no results; DELETED: the host knows no such run (any more)
_LOST = frozenset({"FAILED", "CANCELING", "CANCELED", "DELETED"})
_SETTINGS = (
    "host", "namespace", "experiment", "run_name", "labels", "service_account", "pipeline_root",
)  # fmt: skip


class StartRun(Protocol):
    """Start one run, never two, at the host and in the experiment of the settings; ports/kfp.py does."""

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

    pipeline: the record of the pipeline stage; text: its YAML; values: of all its run parameters
    Side effect: every call starts a run.

    Raises ToolError if the YAML is not the one of the record, and what start_run raises.
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
    """Return what a pipeline is called as a stored version: the first digits of its digest."""
    return str(pipeline["output"].removeprefix("sha256:")[:12])


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ParameterError for a value of a run parameter that would not arrive as it is."""
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
    """Return all that decides whether a run is still the one that is asked for."""
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
    """Return the same inputs by the settings that they come from."""
    spelled = {f"setting kfp.{name}": inputs.get(name, "") for name in _SETTINGS}
    return spelled | {name: value for name, value in inputs.items() if name not in _SETTINGS}


def format_run_name(template: str, workflow: str, digest: str) -> str:
    """Return the name of a run: {workflow}, and {pipeline} for the first digits of the pipeline's digest.

    Raises SettingsError for a template with anything else in braces.
    """
    try:
        name = template.format(workflow=workflow, pipeline=digest.removeprefix("sha256:")[:12])
    except (LookupError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"kfp.run_name: cannot make a name of {template!r}",
            found=[f"{type(error).__name__}: {error}"],
            tip='allowed in braces: {workflow} and {pipeline}; write "{{" for a brace',
        ) from error
    if not name.strip():
        raise SettingsError("kfp.run_name is empty", tip='use "{workflow}"')
    return name


def is_lost(state: str | None) -> bool:
    """Tell whether a run in this state must be started again; an unknown state (None) is not lost."""
    return state in _LOST
