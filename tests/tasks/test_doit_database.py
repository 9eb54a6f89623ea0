"""doit's memory: what counts as a change of a file, and what is left of a run that was killed."""

import json
import os
import sqlite3
import time

import pytest
from doit.dependency import JSONCodec

from fftasks.cache import stat_cache
from fftasks.records import write_record
from fftasks.tasks.doit_database import Database, RecordChecker


@pytest.fixture
def checker():
    return RecordChecker()


def make_file(tmp_path, content="x", name="file"):
    path = tmp_path / name
    path.write_text(content)
    return path


def make_record(tmp_path, output="sha256:1", **more):
    path = tmp_path / "node.json"
    write_record(path, {"stage": "node", "inputs": {}, "output": output, **more})
    return path


def has_changed(checker, path, state):
    return checker.check_modified(str(path), path.stat(), state)


def test_a_file_that_was_touched_has_not_changed(tmp_path, checker):
    path = make_file(tmp_path)
    state = checker.get_state(str(path), None)

    os.utime(path, ns=(0, 0))

    assert not has_changed(checker, path, state)


def test_an_edit_that_keeps_the_time_is_a_change(tmp_path, checker):
    path = make_file(tmp_path)
    before = path.stat()
    state = checker.get_state(str(path), None)

    path.write_text("y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert has_changed(checker, path, state)


def test_a_file_that_was_written_a_moment_ago_is_compared_by_its_content(
    tmp_path, checker, monkeypatch
):
    path = make_file(tmp_path)
    found = path.stat()
    monkeypatch.setattr(stat_cache.time, "time_ns", lambda: found.st_ctime_ns + 1)
    state = checker.get_state(str(path), None)
    same_signature = os.stat_result(found)

    assert not checker.check_modified(str(path), same_signature, state)
    path.write_text("y")
    assert checker.check_modified(str(path), same_signature, state)


def test_the_state_of_a_file_that_is_as_it_was_is_not_made_anew(tmp_path, checker, monkeypatch):
    path = make_file(tmp_path)
    now = time.time_ns()
    monkeypatch.setattr(stat_cache.time, "time_ns", lambda: now + 10**10)
    state = checker.get_state(str(path), None)

    assert checker.get_state(str(path), state) is None
    os.utime(path, ns=(0, 0))
    assert checker.get_state(str(path), state)[1] == state[1]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ({"inputs": {"a": 1}}, {"inputs": {"a": 2}}, False),
        ({"output": "sha256:1"}, {"output": "sha256:2"}, True),
        ({"outputs": {"state": "1"}}, {"outputs": {"state": "2"}}, True),
        ({"outputs": {"state": "1"}}, {"outputs": {"state": "1"}, "inputs": {"a": 1}}, False),
    ],
)
def test_a_record_has_changed_if_its_outputs_have(tmp_path, checker, old, new, changed):
    path = make_record(tmp_path, **old)
    state = checker.get_state(str(path), None)

    make_record(tmp_path, **new)

    assert has_changed(checker, path, state) is changed


def test_json_that_is_no_record_is_compared_by_its_bytes(tmp_path, checker):
    path = make_file(tmp_path, '{"a": 1}', "data.json")
    state = checker.get_state(str(path), None)

    path.write_text('{"a":  1}')

    assert has_changed(checker, path, state)


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".fftasks" / "doit.sqlite3"


def open_database(path):
    return Database(str(path), JSONCodec())


def remember(database, task="run:a", value="x"):
    database.set(task, "result:", value)
    database.set(task, "deps:", [])


def test_what_is_stored_comes_back(path):
    database = open_database(path)
    remember(database)
    database.dump()

    again = open_database(path)

    assert again.get("run:a", "result:") == "x"
    assert again.get("run:b", "result:") is None
    assert again.in_("run:a")


def test_a_finished_task_is_there_though_the_run_never_ends(path):
    remember(open_database(path))

    assert open_database(path).get("run:a", "result:") == "x"


def test_a_task_that_is_not_finished_is_not_there(path):
    open_database(path).set("run:a", "result:", "x")

    assert open_database(path).get("run:a", "result:") is None


def test_the_last_value_of_a_task_holds(path):
    database = open_database(path)
    remember(database, value="old")
    remember(database, value="new")
    database.dump()

    assert open_database(path).get("run:a", "result:") == "new"


def test_two_runs_at_once_lose_nothing_of_each_other(path):
    one, other = open_database(path), open_database(path)
    remember(one, "run:a")
    remember(other, "run:b")
    one.dump()
    other.dump()

    again = open_database(path)

    assert [again.get(task, "result:") for task in ("run:a", "run:b")] == ["x", "x"]


@pytest.mark.parametrize("is_reopened", [True, False])
def test_a_task_that_is_removed_is_forgotten(path, is_reopened):
    database = open_database(path)
    remember(database, "run:a")
    remember(database, "run:b")
    if is_reopened:
        database.dump()
        database = open_database(path)

    database.remove("run:a")

    assert database.get("run:a", "result:") is None
    assert database.get("run:b", "result:") == "x"
    database.dump()
    assert open_database(path).get("run:a", "result:") is None


def test_all_tasks_can_be_forgotten(path):
    database = open_database(path)
    remember(database, "run:a")
    database.dump()
    database = open_database(path)

    database.remove_all()

    assert database.get("run:a", "result:") is None
    database.dump()
    assert open_database(path).get("run:a", "result:") is None


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_database_is_begun_anew(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    database = open_database(path)
    remember(database)
    database.dump()

    assert open_database(path).get("run:a", "result:") == "x"


def test_a_database_that_another_run_has_locked_is_not_taken_for_a_damaged_one(path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise sqlite3.OperationalError("database is locked")

    open_database(path).dump()
    before = path.read_bytes()
    monkeypatch.setattr(sqlite3, "connect", refuse)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_database(path)
    assert path.read_bytes() == before


def test_damage_that_shows_later_is_as_if_nothing_was_known(path):
    open_database(path).dump()
    connection = sqlite3.connect(path)
    connection.execute("drop table doit")
    connection.commit()
    connection.close()
    database = open_database(path)
    database._conn.execute("drop table doit")

    assert database.get("run:a", "result:") is None


def test_a_state_folder_that_goes_away_costs_looking_only(path):
    database = open_database(path)
    database._conn.execute("drop table doit")

    remember(database)

    assert not database._dirty
    database._conn.close()


def test_values_are_kept_as_json(path):
    database = open_database(path)
    remember(database, value={"ran": True})
    database.dump()

    rows = dict(sqlite3.connect(path).execute("select task_id, task_data from doit"))

    assert json.loads(rows["run:a"])["result:"] == {"ran": True}
