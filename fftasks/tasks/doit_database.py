"""doit's database and up-to-date checks: when doit considers a file, a node or a stage changed.

doit decides when to check; records decide what is up to date. If the database is lost, doit checks everything
again, but nothing is recomputed. doit imports this module in every project where fftasks is installed,
because `Database` is an entry point, so that it must not import the rest of fftasks.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.dependency import FileChangedChecker, JSONCodec, SqliteDB
from doit.exceptions import InvalidDodoFile

from fftasks.cache.stat_cache import format_signature, is_settled
from fftasks.errors import StoreError
from fftasks.records import digest_file, read_record
from fftasks.state_folder import STATE_FOLDER, check_folders, is_regular, make_folder, remove

if TYPE_CHECKING:
    from fftasks.project import Project

REPORTER_ONLY = (
    "once"  # key of the task values that the reporter shows and the database does not store
)
_WRITE_INTERVAL_S = 0.2


class RecordChecker(FileChangedChecker):  # type: ignore[misc]
    """Consider a file changed if its content changed, and a record if its outputs changed.

    A node that ran again with an equal result therefore does not trigger its downstream nodes.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: str) -> bool:
        """Return whether a file differs from its stored state; it is read only if its stat differs."""
        if state.startswith(f"{format_signature(file_stat)} "):
            return False
        return state.rpartition(" ")[2] != self._digest(file_path)

    def get_state(self, dep: str, current_state: str | None) -> str | None:
        """Return "<stat signature> <digest>", or None if this is the current state already.

        The signature is "-" while the file may still change without a new signature. Records are replaced by
        renaming, so their signature always changes.
        """
        stat = os.stat(dep)  # noqa: PTH116 - doit's paths are strings
        signature = format_signature(stat)
        if current_state and current_state.startswith(f"{signature} "):
            return None
        is_record = dep.startswith(f"{STATE_FOLDER}/")
        return f"{signature if is_record or is_settled(stat) else '-'} {self._digest(dep)}"

    def _digest(self, path: str) -> str:
        outputs = None
        if path.startswith(f"{STATE_FOLDER}/nodes/"):
            # The store has read most records of nodes already, and several nodes need the same record.
            from fftasks.project import open_current

            project = open_current()
            outputs = project.store.look_up_last_outputs(f"{project.root}/{path}")
        if outputs is None:
            record = read_record(path) if path.endswith(".json") else None
            if record is None:
                return digest_file(Path(path))
            outputs = record.get("outputs") or {"": record["output"]}
        return "+".join(str(outputs[name]) for name in sorted(outputs))


class Database(SqliteDB):  # type: ignore[misc]
    """SQLite database of doit that is written several times per second, so that a killed run loses little.

    Writes are not synchronous: what a power failure removes is only checked again. All rows are read with
    one query at the first access, because a run asks for every task.
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
        with contextlib.suppress(
            sqlite3.OperationalError
        ):  # another run sets the same mode right now
            # In the default mode, each write creates and removes a journal file, which takes longer than a
            # trivial task.
            self._conn.execute("pragma journal_mode = wal")

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a value of a task. The last value of a task also triggers the periodic write."""
        if dependency == "_values_:" and REPORTER_ONLY in value:
            value = {name: kept for name, kept in value.items() if name != REPORTER_ONLY}
        super().set(task_id, dependency, value)
        if dependency == "deps:" and time.monotonic() - self._written > _WRITE_INTERVAL_S:
            self._write()

    def remove(self, task_id: str) -> None:
        """Delete the data of a task."""
        self._rows.pop(task_id, None)
        super().remove(task_id)

    def remove_all(self) -> None:
        """Delete the data of all tasks."""
        self._rows.clear()
        super().remove_all()

    def dump(self) -> None:
        """Write the remaining changes and close the database."""
        self._write()
        self._conn.close()

    @functools.cached_property
    def _rows(self) -> dict[str, str]:
        cursor = self._conn.cursor()
        cursor.row_factory = None
        # The expression `|| ''` has no declared type, so that sqlite3 does not parse the JSON of each row.
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
            # .fftasks was deleted or its disk is full: doit only has to check these tasks again.
            self._conn.rollback()
        self._dirty = set()
        self._written = time.monotonic()


class StageUpToDateCheck:
    """Check whether a stage is up to date; an item of `uptodate` of a doit task.

    Attributes:
        stage: Name of the stage, such as "image".
        workflow: Name of the workflow; "" for a stage that all workflows share.
        again: Start a new run (stage submit), or resolve the base image again (stage image).
    """

    def __init__(self, stage: str, workflow: str, *, again: bool) -> None:
        self.stage, self.workflow, self.again = stage, workflow, again

    def __repr__(self) -> str:
        return f"the record of {self.stage} {self.workflow}".strip()

    def __call__(self) -> bool:
        from fftasks.pipeline.stages import plan_stage
        from fftasks.project import open_current
        from fftasks.stage import is_up_to_date

        try:
            return is_up_to_date(
                plan_stage(open_current(), self.stage, self.workflow, again=self.again)
            )
        except Exception:  # noqa: BLE001 - see NodeUpToDateCheck
            return False


class NodeUpToDateCheck:
    """Check whether the store has the result of a node for its current fingerprint; an item of `uptodate`.

    Attributes:
        project: Project of the node.
        label: Name of the node.
    """

    # doit inspects the signature of each callable; without this attribute that takes longer than the check.
    __signature__ = inspect.Signature()

    def __init__(self, project: Project, label: str) -> None:
        self.project, self.label = project, label

    def __repr__(self) -> str:
        return f"the result of {self.label} is there"

    def __call__(self) -> bool:
        try:
            inputs = self.project.list_inputs(self.label)
            return self.project.find_node(self.label, inputs) is not None
        except Exception:  # noqa: BLE001
            # The action of the task raises the same error and doit reports it as a failure. An exception here
            # would end doit's main loop, which then waits for its workers forever.
            return False
