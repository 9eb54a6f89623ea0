"""The interface of a stage: its record, the reasons to execute it, and the function that does it."""

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
    """One stage of a project, or of one workflow in it.

    Attributes:
        path: File with the record of the stage.
        needs: Files with the records of the stages that this stage reads.
        list_reasons: Returns why the stage has to be executed, one sentence each, given its last record
            (None if it does not exist); an empty list if the stage is up to date.
        make: Executes the stage and returns the new record, without writing it.
        describe: Summarizes a record for the terminal.
    """

    path: Path
    needs: tuple[Path, ...]
    list_reasons: Callable[[Record | None], list[str]]
    make: Callable[[], Record]
    describe: Callable[[Record], str]


def execute_stage(stage: Stage) -> None:
    """Execute a stage and write its record."""
    write_record(stage.path, stage.make())


def is_up_to_date(stage: Stage) -> bool:
    """Return whether a stage is up to date; it is not if a record that it needs is missing."""
    return not list_stage_reasons(stage)


def list_stage_reasons(stage: Stage) -> list[str]:
    """Return why a stage has to be executed, one sentence each; empty if it is up to date."""
    missing = [f"{path.name} is gone" for path in stage.needs if not read_record(path)]
    return missing or stage.list_reasons(read_record(stage.path))


def list_input_changes(
    old: Record | None,
    version: int,
    inputs: Inputs,
    describe_inputs: Callable[[Inputs], Inputs] = dict,
) -> list[str]:
    """Return how the inputs of a stage differ from those in its last record, one sentence each.

    Args:
        old: Last record of the stage, None if there is none.
        version: Version of the stage's algorithm; a record of another version is out of date.
        inputs: Inputs that a new record would have.
        describe_inputs: Returns the inputs under the names that the user knows, such as "setting image.tag".

    Returns:
        Reasons in the words of records.explain_difference, with secrets redacted; empty if nothing changed.
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
            f"{path} is missing or damaged", tip="run the command again: doit recreates the record"
        )
    return record


def display_path(project: Project, path: Path) -> str:
    """Return a path relative to the project's folder, with forward slashes."""
    return path.relative_to(project.root).as_posix()
