"""A stage of a project as something to look at and to make, from its record."""

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
    """One stage of one project, or of one workflow in it.

    path: its record; needs: the records that it reads
    list_reasons: why it must be made, given its record (or None); empty if it is up to date
    make: does it, and returns the record
    describe: what the record holds, for people
    """

    path: Path
    needs: tuple[Path, ...]
    list_reasons: Callable[[Record | None], list[str]]
    make: Callable[[], Record]
    describe: Callable[[Record], str]


def execute_stage(step: Stage) -> None:
    """Make what the step makes, and record it."""
    write_record(step.path, step.make())


def is_up_to_date(step: Stage) -> bool:
    """Tell whether a step is up to date; one whose needs are not there is not."""
    return not list_stage_reasons(step)


def list_stage_reasons(step: Stage) -> list[str]:
    """Return why a step must be made, one sentence each; empty if it is up to date."""
    gone = [f"{path.name} is gone" for path in step.needs if not read_record(path)]
    return gone or step.list_reasons(read_record(step.path))


def list_input_changes(
    old: Record | None, version: int, inputs: Inputs, spell: Callable[[Inputs], Inputs] = dict
) -> list[str]:
    """Return why a record with these inputs would be another one; see record.explain().

    spell: gives the inputs as the user knows them, such as "setting image.tag"
    """
    if old is not None and old.get("version") != version:
        return ["the algorithm of this stage changed"]
    if old is not None and old["inputs"] == inputs:
        return []
    return list(explain_difference(old and spell(old["inputs"]), spell(inputs), _hide))


def _hide(value: Any) -> Any:
    from fftasks.secrets.value_scanner import redact_value

    return redact_value(value)


def require_record(path: Path) -> Record:
    """Return the record of a stage that has been made; raise StoreError if it is gone."""
    record = read_record(path)
    if record is None:
        raise StoreError(f"{path} is gone or damaged", tip="it is made again: run once more")
    return record


def display_path(project: Project, path: Path) -> str:
    """Return a path as it is shown: from the project's folder."""
    return path.relative_to(project.root).as_posix()
