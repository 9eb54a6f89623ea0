"""doit's memory: when a file counts as changed, and where that is kept.

doit decides when to look; records say what is true. Losing this database costs looking, never rebuilding.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker, JSONCodec, SqliteDB

from fftasks.record import digest_file, read_record


class RecordChecker(FileChangedChecker):  # type: ignore[misc]
    """A file has changed if its content has; a record, if its output has.

    So a node that ran again with an equal result does not wake those downstream.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: list[Any]) -> bool:
        """Tell whether a file differs from its state; it is read only if stat() differs."""
        return bool(_sign(file_stat) != state[0] and _digest(file_path) != state[1])

    def get_state(self, dep: str, current_state: list[Any] | None) -> list[Any] | None:
        """Return [stat signature, digest], or None if that is the state already."""
        signature = _sign(os.stat(dep))  # noqa: PTH116 - doit's paths are strings
        if current_state and current_state[0] == signature:
            return None
        return [signature, _digest(dep)]


class Database(SqliteDB):  # type: ignore[misc]
    """sqlite3 that is written after each task, so that a killed run has forgotten nothing.

    Without synchronous writes: what a power cut takes is looked at again, no more.
    """

    _dirty: set[str]

    def __init__(self, name: str, codec: JSONCodec, *, module_name: str | None = None) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(name, codec, module_name=module_name)
            self._conn.execute("pragma synchronous = off")
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            Path(name).unlink(missing_ok=True)  # damaged: what is true stands in the records
            super().__init__(name, codec, module_name=module_name)

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a value; the last one of a task writes it."""
        super().set(task_id, dependency, value)
        if dependency == "deps:":
            self._write()

    def dump(self) -> None:
        """Write what is left, and close."""
        self._write()
        self._conn.close()

    def _write(self) -> None:
        rows = [(task, json.dumps(self._cache[task])) for task in self._dirty]
        try:
            self._conn.executemany("insert or replace into doit values (?, ?)", rows)
            self._conn.commit()
        except sqlite3.OperationalError:
            # .fftasks was deleted, or its disk is full: doit will look again, which is all that is lost
            self._conn.rollback()
        self._dirty = set()


def _sign(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest(path: str) -> str:
    record = read_record(Path(path)) if path.endswith(".json") else None
    if record is None:
        return digest_file(Path(path))
    return str(record.get("outputs") or record["output"])
