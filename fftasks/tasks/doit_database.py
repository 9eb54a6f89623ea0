"""doit's memory: when a file counts as changed, and where that is kept.

doit decides when to look; records say what is true. Losing this database costs looking, never rebuilding.

Look whether what a task makes is there already, and is what making it now would give.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker, JSONCodec, SqliteDB
from doit.exceptions import InvalidDodoFile

from fftasks.cache.stat_cache import format_signature, is_settled
from fftasks.errors import StoreError
from fftasks.project import Project, open_current
from fftasks.records import digest_file, read_record
from fftasks.state_folder import STATE_FOLDER, check_folders, is_regular, make_folder, remove

REPORTER_ONLY = "once"  # of what a task gives: for the reporter alone, and not to be kept
_WRITE_INTERVAL_S = 0.2


class RecordChecker(FileChangedChecker):  # type: ignore[misc]
    """A file has changed if its content has; a record, if its output has.

    So a node that ran again with an equal result does not wake those downstream.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: str) -> bool:
        """Tell whether a file differs from its state; it is read only if stat() differs."""
        if state.startswith(f"{format_signature(file_stat)} "):
            return False
        return state.rpartition(" ")[2] != self._digest(file_path)

    def get_state(self, dep: str, current_state: str | None) -> str | None:
        """Return "<stat signature> <digest>", or None if that is the state already.

        The signature is "-" while the file may still change without a new one. Records are replaced by renaming,
        so that their signature always changes.
        """
        stat = os.stat(dep)  # noqa: PTH116 - doit's paths are strings
        signature = format_signature(stat)
        if current_state and current_state.startswith(f"{signature} "):
            return None
        is_record = dep.startswith(f"{STATE_FOLDER}/")
        return f"{signature if is_record or is_settled(stat) else '-'} {self._digest(dep)}"

    def look_up_outputs(self, path: str) -> Mapping[str, str] | None:  # noqa: ARG002
        """Return what the record at a path is known to give; None if it must be read."""
        return None

    def _digest(self, path: str) -> str:
        outputs = self.look_up_outputs(path)
        if outputs is None:
            record = read_record(path) if path.endswith(".json") else None
            if record is None:
                return digest_file(Path(path))
            outputs = record.get("outputs") or {"": record["output"]}
        return "+".join(str(outputs[name]) for name in sorted(outputs))


class Database(SqliteDB):  # type: ignore[misc]
    """sqlite3 that is written several times a second, so that a killed run has forgotten little.

    Without synchronous writes: what a power cut takes is looked at again, no more. It is read at once,
    when something is first asked for: a run asks for every task.
    """

    _dirty: set[str]
    _written = 0.0

    def __init__(self, name: str, codec: JSONCodec, *, module_name: str | None = None) -> None:
        try:
            check_folders(Path(name).parent)
        except StoreError as error:
            raise InvalidDodoFile(str(error)) from None
        make_folder(Path(name).parent)
        files = [Path(f"{name}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
        for path in files:
            if not is_regular(path):  # sqlite would follow a link
                remove(path)
        try:
            super().__init__(name, codec, module_name=module_name)
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            for path in files:  # damaged; delete it, because the records are authoritative
                remove(path)
            super().__init__(name, codec, module_name=module_name)
        self._conn.execute("pragma synchronous = off")
        with contextlib.suppress(sqlite3.OperationalError):  # another run is about to do the same
            # else each write makes and removes a journal, which takes longer than a trivial task
            self._conn.execute("pragma journal_mode = wal")

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a value; the last one of a task writes it, if it is time to."""
        if dependency == "_values_:" and REPORTER_ONLY in value:
            value = {name: kept for name, kept in value.items() if name != REPORTER_ONLY}
        super().set(task_id, dependency, value)
        if dependency == "deps:" and time.monotonic() - self._written > _WRITE_INTERVAL_S:
            self._write()

    def remove(self, task_id: str) -> None:
        """Forget a task."""
        self._rows.pop(task_id, None)
        super().remove(task_id)

    def remove_all(self) -> None:
        """Forget all tasks."""
        self._rows.clear()
        super().remove_all()

    def dump(self) -> None:
        """Write what is left, and close."""
        self._write()
        self._conn.close()

    @functools.cached_property
    def _rows(self) -> dict[str, str]:
        cursor = self._conn.cursor()
        cursor.row_factory = None
        # an expression has no declared type, so that nothing is parsed before it is asked for
        try:
            return dict(cursor.execute("select task_id, task_data || '' from doit"))
        except sqlite3.DatabaseError:
            return {}

    def _get_task_data(self, task_id: str) -> dict[str, Any]:
        known = self._rows.get(task_id)
        return json.loads(known) if known else {}

    def _write(self) -> None:
        rows = [(task, json.dumps(self._cache[task])) for task in self._dirty]
        try:
            self._conn.executemany("insert or replace into doit values (?, ?)", rows)
            self._conn.commit()
        except sqlite3.OperationalError:
            # .fftasks was deleted, or its disk is full: doit will look again, which is all that is lost
            self._conn.rollback()
        self._dirty = set()
        self._written = time.monotonic()


class NodeRecordChecker(RecordChecker):
    """Knows what nodes gave by their records' signatures: each is asked for by all that need it."""

    def look_up_outputs(self, path: str) -> Mapping[str, str] | None:
        """Return what the record at a path is known to give; None if it must be read."""
        if not path.startswith(f"{STATE_FOLDER}/nodes/"):
            return None
        project = open_current()
        return project.store.look_up_last_outputs(f"{project.root}/{path}")


class StageUpToDateCheck:
    """Tell whether a stage's record is what making it now would give; an `uptodate` of doit."""

    def __init__(self, stage: str, workflow: str, *, again: bool) -> None:
        self.stage, self.workflow, self.again = stage, workflow, again

    def __repr__(self) -> str:
        return f"the record of {self.stage} {self.workflow}".strip()

    def __call__(self) -> bool:
        from fftasks.pipeline.stages import plan_stage
        from fftasks.stage import is_up_to_date

        try:
            return is_up_to_date(
                plan_stage(open_current(), self.stage, self.workflow, again=self.again)
            )
        except Exception:  # noqa: BLE001 - see NodeLook
            return False


class NodeUpToDateCheck:
    """Tell whether a node's result is there for what its fingerprint is now; an `uptodate` of doit."""

    # doit asks each for its parameters, and finding them out takes longer than looking
    __signature__ = inspect.Signature()

    def __init__(self, project: Project, label: str) -> None:
        self.project, self.label = project, label

    def __repr__(self) -> str:
        return f"the result of {self.label} is there"

    def __call__(self) -> bool:
        try:
            inputs = self.project.list_inputs(self.label)
            return self.project.find_node(self.label, inputs) is not None
        except Exception:  # noqa: BLE001 - the action meets it again, and says it as a failure; with an
            return False  # exception here doit would end, and wait for its workers for ever
