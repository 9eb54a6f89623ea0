"""doit's memory: when a file counts as changed, and where that is kept.

doit decides when to look; records say what is true. Losing this database costs looking, never rebuilding.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker, JSONCodec, SqliteDB
from doit.exceptions import InvalidDodoFile

from fftasks.errors import StoreError
from fftasks.record import digest_file, read_record
from fftasks.runtime.regular import check_folders, is_regular, make_folder, remove

ONCE = "once"  # of what a task gives: for the reporter alone, and not to be kept
_PAUSE_S = 0.2


class RecordChecker(FileChangedChecker):  # type: ignore[misc]
    """A file has changed if its content has; a record, if its output has.

    So a node that ran again with an equal result does not wake those downstream.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: str) -> bool:
        """Tell whether a file differs from its state; it is read only if stat() differs."""
        if state.startswith(_sign(file_stat)):
            return False
        return state.rpartition(" ")[2] != self._digest(file_path)

    def get_state(self, dep: str, current_state: str | None) -> str | None:
        """Return "<stat signature> <digest>", or None if that is the state already."""
        signature = _sign(os.stat(dep))  # noqa: PTH116 - doit's paths are strings
        if current_state and current_state.startswith(signature):
            return None
        return f"{signature}{self._digest(dep)}"

    def recall_outputs(self, path: str) -> Mapping[str, str] | None:  # noqa: ARG002
        """Return what the record at a path is known to give; None if it must be read."""
        return None

    def _digest(self, path: str) -> str:
        outputs = self.recall_outputs(path)
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
        if dependency == "_values_:" and ONCE in value:
            value = {name: kept for name, kept in value.items() if name != ONCE}
        super().set(task_id, dependency, value)
        if dependency == "deps:" and time.monotonic() - self._written > _PAUSE_S:
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


def _sign(stat: os.stat_result) -> str:
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} "
