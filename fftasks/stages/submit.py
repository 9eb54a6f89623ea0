"""Stage submit: a pipeline document -> a run on Kubeflow Pipelines.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fftasks.errors import ParameterError, SettingsError, ToolError
from fftasks.record import Record, digest_bytes, digest_json
from fftasks.stages.document import parse_documents
from fftasks.stages.placeholder import REASON, is_carried

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings

VERSION = 1

# a run in one of these states gives no results; DELETED: the host knows no such run (any more)
_LOST = frozenset({"FAILED", "CANCELING", "CANCELED", "DELETED"})
_SETTINGS = (
    "host", "namespace", "experiment", "run_name", "labels", "service_account", "pipeline_root",
)  # fmt: skip
_DESCRIPTION = re.compile(r"fftasks: workflow (.+?), pipeline (sha256:[0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """A run to be started: the pipeline document, and the names under which it is found.

    parameters: the values of all its run parameters
    platform: the second document, with what is for Kubernetes; {} if there is none
    """

    document: dict[str, Any]
    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline_spec(self) -> dict[str, Any]:
        """What KFP's interface takes: the document, or both by their names."""
        if not self.platform:
            return self.document
        return {"pipeline_spec": self.document, "platform_spec": self.platform}


@dataclass(frozen=True)
class Run:
    """A run on Kubeflow Pipelines: its id, and its page."""

    run_id: str
    url: str


class StartRun(Protocol):
    """Start one run, never two, at the host and in the experiment of the settings; ports/kfp.py does."""

    def __call__(self, settings: KFPSettings, request: Request) -> Run:
        """Return the run that was started; raise ToolError or SettingsError if none was."""


def make(
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
    inputs = list_inputs(pipeline, settings, values)
    description = describe(pipeline, settings)
    document, platform = parse_documents(text)
    request = Request(document, inputs["run_name"], description, values, platform)
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


def describe(pipeline: Record, settings: KFPSettings) -> str:
    """Return what a run says about itself: its workflow, its pipeline's digest, the settings' labels."""
    labels = "".join(f", {name}={value}" for name, value in sorted(settings.labels.items()))
    return f"fftasks: workflow {pipeline['workflow']}, pipeline {pipeline['output']}{labels}"


def name_version(pipeline: Record) -> str:
    """Return what a pipeline is called as a stored version: the first digits of its digest."""
    return str(pipeline["output"].removeprefix("sha256:")[:12])


def read_description(text: str) -> tuple[str, str]:
    """Return the workflow and the pipeline's digest that `describe` wrote; "" and "" if it did not."""
    found = _DESCRIPTION.match(text)
    return (found[1], found[2]) if found else ("", "")


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ParameterError for a value of a run parameter that would not arrive as it is."""
    for name, value in values.items():
        if not is_carried(value):
            raise ParameterError(
                f"submit: parameter {name!r} was given {value!r}",
                found=[f"it would not arrive as it is: {REASON}"],
                tip="choose another value",
            )


def list_inputs(
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


def spell_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
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
