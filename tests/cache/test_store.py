"""The store: artifacts that are what their name says, traces, records of nodes, and locks."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fftasks.cache import stat_cache
from fftasks.cache.store import Store, Trace
from fftasks.records import digest_bytes, read_record

FINGERPRINT = "sha256:" + "f" * 64
OTHER = "sha256:" + "e" * 64
SLUG = "node"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / ".fftasks")


def add_artifact(store, content=b"result"):
    digest = digest_bytes(content)
    path = Path(store.new_path(SLUG, "result"))
    path.write_bytes(content)
    store.adopt_artifact(path, digest)
    return digest


def make_record(digest):
    return {"stage": "node", "inputs": {}, "output": digest, "outputs": {"result": digest}}


def test_an_adopted_artifact_is_there_read_only_under_its_digest(store):
    digest = add_artifact(store)

    assert store.has_artifact(digest)
    assert store.artifact_path(digest).read_bytes() == b"result"
    assert store.artifact_path(digest).name == digest.removeprefix("sha256:")
    assert store.artifact_path(digest).stat().st_mode & 0o777 == 0o444


def test_adopting_leaves_no_temporary_file(store):
    digest = add_artifact(store)
    add_artifact(store)

    names = [path.name for path in (store.folder / "artifacts").iterdir()]
    assert names == [digest.removeprefix("sha256:")]


def test_an_artifact_that_never_was_is_not_there(store):
    assert not store.has_artifact(digest_bytes(b"nothing"))


def test_another_store_on_the_folder_knows_the_artifact(store):
    digest = add_artifact(store)

    assert Store(store.folder).has_artifact(digest)


@pytest.mark.parametrize("content", [b"", b"Result", b"result and more"])
def test_a_damaged_artifact_is_not_there_and_is_removed(store, content):
    digest = add_artifact(store)
    path = store.artifact_path(digest)
    path.chmod(0o644)
    path.write_bytes(content)

    assert not store.has_artifact(digest)
    assert not path.exists()


def test_new_paths_differ_by_node_and_output(store):
    paths = {store.new_path(slug, output) for slug in "ab" for output in ("result", "state")}

    assert len(paths) == 4


def test_each_node_has_a_record_and_a_log_of_its_own(store):
    assert store.node_path("a") == store.folder / "nodes" / "a.json"
    assert store.log_path("a") == store.folder / "logs" / "a.txt"


def test_outputs_of_a_written_node_are_recalled_without_its_record(store):
    store.write_node(SLUG, FINGERPRINT, make_record("sha256:1"))

    assert read_record(store.node_path(SLUG)) == make_record("sha256:1")
    assert store.look_up_outputs(SLUG, FINGERPRINT) == {"result": "sha256:1"}
    assert Store(store.folder).look_up_outputs(SLUG, FINGERPRINT) == {"result": "sha256:1"}


def test_several_outputs_are_recalled_by_their_names(store):
    outputs = {"result": "sha256:1", "state": "sha256:2"}

    store.write_node(SLUG, FINGERPRINT, {"output": "sha256:1", "outputs": outputs})

    assert store.look_up_outputs(SLUG, FINGERPRINT) == outputs


@pytest.mark.parametrize("spoil", ["another fingerprint", "another record"])
def test_outputs_are_not_recalled_for_what_has_changed(store, spoil):
    store.write_node(SLUG, FINGERPRINT, make_record("sha256:1"))
    fingerprint = FINGERPRINT
    if spoil == "another fingerprint":
        fingerprint = "sha256:" + "e" * 64
    else:
        store.node_path(SLUG).write_text("{}")

    assert store.look_up_outputs(SLUG, fingerprint) is None


def test_what_a_record_gives_is_recalled_until_it_is_another(store):
    store.write_node(SLUG, FINGERPRINT, make_record("sha256:1"))
    path = store.node_path_text(SLUG)
    before = store.look_up_last_outputs(path)

    store.node_path(SLUG).write_text(json.dumps(make_record("sha256:2")))

    assert before == {"result": "sha256:1"}
    assert store.look_up_last_outputs(path) is None


def test_nothing_is_recalled_of_a_record_that_is_gone(store):
    store.write_node(SLUG, FINGERPRINT, make_record("sha256:1"))
    store.node_path(SLUG).unlink()

    assert store.look_up_outputs(SLUG, FINGERPRINT) == {}


def test_a_record_that_another_run_replaced_is_not_taken_for_ones_own(store, monkeypatch):
    monkeypatch.setattr(
        "fftasks.cache.store.write_atomically", lambda path, text: put_and_replace(path, text)
    )

    store.write_node(SLUG, FINGERPRINT, make_record("sha256:1"))

    assert store.look_up_outputs(SLUG, FINGERPRINT) is None


def put_and_replace(path, text):
    """Write a record and let somebody else write another one at once; return the first inode."""
    path = Path(path)
    path.parent.mkdir(parents=True)
    mine, other = path.with_name("mine"), path.with_name("other")
    mine.write_text(text)
    other.write_text("{}")
    inode = mine.stat().st_ino
    other.rename(path)
    return inode


def test_noted_outputs_are_recalled(store, monkeypatch):
    now = time.time_ns()
    monkeypatch.setattr(stat_cache.time, "time_ns", lambda: now + 10**10)
    path = store.node_path(SLUG)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    os.utime(path, ns=(10**18, 10**18))

    store.note_outputs(SLUG, FINGERPRINT, {"result": "sha256:1"}, path.stat())

    assert store.look_up_outputs(SLUG, FINGERPRINT) == {"result": "sha256:1"}


def test_a_trace_comes_back_as_it_was(store):
    trace = Trace({"result": add_artifact(store)}, {"": "1", "['ü']": "x"}, 1.25)

    store.write_trace(FINGERPRINT, trace)

    assert store.read_trace(FINGERPRINT) == trace


def test_a_trace_whose_artifact_is_gone_is_none(store):
    digest = add_artifact(store)
    store.write_trace(FINGERPRINT, Trace({"result": digest}))
    store.artifact_path(digest).unlink()

    assert store.read_trace(FINGERPRINT) is None


@pytest.mark.parametrize("content", ["", "rubbish", "[1]", "{}", '{"output": {}}'])
def test_a_damaged_trace_is_none(store, content):
    store.write_trace(FINGERPRINT, Trace({}))
    next((store.folder / "traces").iterdir()).write_text(content)

    assert store.read_trace(FINGERPRINT) is None


def test_a_fingerprint_without_a_trace_gives_none(store):
    assert store.read_trace(FINGERPRINT) is None


def test_a_trace_that_is_used_is_the_youngest(store):
    store.write_trace(FINGERPRINT, Trace({}))
    path = next((store.folder / "traces").iterdir())
    os.utime(path, ns=(0, 0))

    store.touch_trace(FINGERPRINT)

    assert path.stat().st_mtime_ns > 0


def test_pieces_of_code_come_back(store):
    store.write_code(FINGERPRINT, {"wf.py: f()": "sha256:2"})

    assert store.read_code(FINGERPRINT) == {"wf.py: f()": "sha256:2"}


def test_known_pieces_of_code_are_not_written_again(store):
    store.write_code(FINGERPRINT, {"a": "1"})

    store.write_code(FINGERPRINT, {"a": "2"})

    assert store.read_code(FINGERPRINT) == {"a": "1"}


@pytest.mark.parametrize("content", ["", "[]", "rubbish"])
def test_damaged_pieces_of_code_are_none(store, content):
    store.write_code(FINGERPRINT, {"a": "1"})
    next((store.folder / "codes").iterdir()).write_text(content)

    assert store.read_code(FINGERPRINT) is None
    assert store.read_code(OTHER) is None


def test_files_that_are_written_and_never_read_are_made(store):
    store.folder.mkdir()

    store.note_files(read=["in.txt", "both.txt"], written=["out.txt", "both.txt"])

    assert store.list_only_written() == {"out.txt"}


def test_a_file_that_is_read_later_is_made_no_more(store):
    store.folder.mkdir()
    store.note_files(read=[], written=["out.txt"])

    store.note_files(read=["out.txt"], written=[])

    assert store.list_only_written() == set()


def test_what_was_seen_before_is_not_noted_again(store):
    store.folder.mkdir()
    store.note_files(read=["in.txt"], written=["out.txt"])
    before = (store.folder / "files.seen").read_bytes()

    store.note_files(read=["in.txt"], written=["out.txt"])

    assert (store.folder / "files.seen").read_bytes() == before


@pytest.mark.parametrize("name", ["with blank", "\udcff", "ü"])
def test_a_file_of_any_name_may_be_made(store, name):
    store.folder.mkdir()

    store.note_files(read=[], written=[name])

    assert store.list_only_written() == {name}


def test_a_name_that_would_break_the_lines_is_left_out(store):
    store.folder.mkdir()

    store.note_files(read=[], written=["a\nr b"])

    assert store.list_only_written() == set()


def test_a_store_without_a_folder_made_nothing(store):
    assert store.list_only_written() == set()


def is_locked_for_others(store, slug):
    """Tell whether another process would have to wait for a lock."""
    script = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", script, str(store.log_path(slug))]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0


def test_a_lock_keeps_others_out_until_it_ends_however(store):
    def fail() -> None:
        with store.lock(SLUG):
            assert is_locked_for_others(store, SLUG)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not is_locked_for_others(store, SLUG)


def test_what_a_killed_process_left_is_removed_before_the_next_result(store):
    folder = store.folder / "artifacts"
    folder.mkdir(parents=True)
    dead = folder / f".{SLUG}.result.{find_unused_pid()}"
    alive = folder / f".{SLUG}.state.{os.getpid()}"
    whole = folder / ("0" * 64)
    for path in (dead, alive, whole):
        path.touch()

    store.new_path(SLUG, "result")

    assert sorted(folder.iterdir()) == sorted([alive, whole])


def find_unused_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_lock_leaves_what_a_node_printed_before(store):
    with store.lock(SLUG):
        store.log_path(SLUG).write_text("printed\n")

    with store.lock(SLUG):
        assert store.log_path(SLUG).read_text() == "printed\n"


def test_only_files_that_the_node_wrote_are_listed_as_its_pages(store, tmp_path):
    digest = digest_bytes(b"result")
    new = Path(store.new_pages(SLUG))
    new.mkdir(parents=True)
    for name in ("metrics.json", "page.md", "classification.html", "other.md"):
        (new / name).write_text("{}")
    store.adopt_pages(SLUG, digest)
    folder = store.list_pages(SLUG, digest)[0].parent
    (folder / "page.md").unlink()
    (folder / "page.md").symlink_to(tmp_path / "secret")
    (folder / "classification.html").unlink()
    os.mkfifo(folder / "classification.html")
    (folder / "page.html").write_text("added later")
    (tmp_path / "secret").write_text("{}")

    assert store.list_pages(SLUG, digest) == [folder / "metrics.json"]
    assert store.list_pages("other", digest) == []
    assert store.list_pages(SLUG, digest_bytes(b"other")) == []


UNSAFE = ["../../victim/private", "..", "", ".hidden", "a/b", "/etc/passwd", "a\x00b", "a\n"]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_is_no_slug_becomes_no_path(store, name):
    for make in (store.log_path, store.node_path, store.new_log, store.new_pages):
        with pytest.raises(FileNotFoundError):
            make(name)
    assert store.list_pages(name, FINGERPRINT) == []


@pytest.mark.parametrize("digest", [*UNSAFE, "sha256:../../x", "sha256:" + "f" * 63, "F" * 64])
def test_what_is_no_digest_becomes_no_path(store, digest):
    with pytest.raises(FileNotFoundError):
        store.artifact_path(digest)
    assert not store.has_artifact(digest)
    assert store.read_trace(digest) is None
    assert store.read_code(digest) is None
    assert store.list_pages("slug", digest) == []
