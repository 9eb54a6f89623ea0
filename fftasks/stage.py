"""Decide whether a stage of a project is up to date, explain why not, and execute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.errors import StoreError
from fftasks.project import Project
from fftasks.records import Record, explain_difference, read_record, write_record

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage of a project, or of one of its workflows.

    Attributes:
        path: Path of the stage's record.
        needs: Paths of the records that the stage reads.
        list_reasons: Returns why the stage must run, given its record or None; [] if it is up to date.
        make: Executes the stage and returns its record.
        describe: Returns a description of a record for the terminal.
    """

    path: Path
    needs: tuple[Path, ...]
    list_reasons: Callable[[Record | None], list[str]]
    make: Callable[[], Record]
    describe: Callable[[Record], str]


def execute_stage(step: Stage) -> None:
    """Execute a stage and write its record."""
    write_record(step.path, step.make())


def is_up_to_date(step: Stage) -> bool:
    """Return whether a stage is up to date; False if a record that it reads is missing."""
    return not list_stage_reasons(step)


def list_stage_reasons(step: Stage) -> list[str]:
    """Return the reasons why a stage must run, one sentence each; [] if it is up to date."""
    gone = [f"{path.name} is gone" for path in step.needs if not read_record(path)]
    return gone or step.list_reasons(read_record(step.path))


def list_input_changes(
    old: Record | None,
    version: int,
    inputs: Inputs,
    describe_inputs: Callable[[Inputs], Inputs] = dict,
) -> list[str]:
    """Return the reasons why a stage with these inputs must run; see records.explain_difference.

    Args:
        old: Record of the last execution, or None.
        version: Version of the stage's program; another version always runs.
        inputs: Current inputs.
        spell: Function that renames inputs to names that the user knows, such as "setting image.tag".

    Returns:
        One sentence per reason; [] if the stage is up to date.
    """
    if old is not None and old.get("version") != version:
        return ["the algorithm of this stage changed"]
    if old is not None and old["inputs"] == inputs:
        return []
    # Imported here, because a run in which every stage is up to date does not need the secret scanner.
    from fftasks.secrets.value_scanner import redact_value

    before = old and describe_inputs(old["inputs"])
    return list(explain_difference(before, describe_inputs(inputs), redact_value))


def require_record(path: Path) -> Record:
    """Return the record of a stage that was executed.

    Raises:
        StoreError: The record is missing or damaged.
    """
    record = read_record(path)
    if record is None:
        raise StoreError(
            f"{path} is missing or damaged", tip="run the command again to recreate it"
        )
    return record


def display_path(project: Project, path: Path) -> str:
    """Return a path for display, relative to the project's folder."""
    return path.relative_to(project.root).as_posix()
