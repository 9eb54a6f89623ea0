"""Signatures: what may be known of a file without reading it, and when it must be read."""

import os
from pathlib import Path

import pytest

from fftasks.cache import stat_cache as signature
from fftasks.cache.stat_cache import StatCache
from fftasks.records import digest_bytes, digest_file


@pytest.fixture(autouse=True)
def _late(monkeypatch):
    """Let all files have been written some time ago; utime() cannot set their ctime."""
    now = signature.time.time_ns
    monkeypatch.setattr(signature.time, "time_ns", lambda: now() + 10**10)


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory" / "files.signatures"


def write_old(path, content):
    """Write a file as if long ago: its times are permission to trust its signature."""
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return path


def open_counting(memory):
    reads = []

    def read(path):
        reads.append(Path(path).name)
        return digest_file(path)

    return StatCache(memory, read), reads


def test_a_known_file_is_not_read_again(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")
    StatCache(memory).digest(file)
    signatures, reads = open_counting(memory)

    digest = signatures.digest(file)

    assert digest == digest_bytes(b"x")
    assert reads == []


@pytest.mark.parametrize("content", [b"y", b"longer"])
def test_a_changed_file_is_read_again(tmp_path, memory, content):
    file = write_old(tmp_path / "file", b"x")
    StatCache(memory).digest(file)

    write_old(file, content)  # the same mtime: ctime tells

    assert StatCache(memory).digest(file) == digest_bytes(content)


def test_a_file_that_was_written_a_moment_ago_is_read_each_time(tmp_path, memory, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    monkeypatch.setattr(signature.time, "time_ns", lambda: file.stat().st_mtime_ns + 1)
    signatures, reads = open_counting(memory)

    assert [signatures.digest(file), signatures.digest(file)] == [digest_bytes(b"x")] * 2
    assert reads == ["file", "file"]


def test_what_a_process_wrote_itself_is_known_at_once(tmp_path, memory, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    monkeypatch.setattr(signature.time, "time_ns", lambda: file.stat().st_mtime_ns + 1)

    StatCache(memory).note(file, "known", file.stat(), is_own=True)

    assert StatCache(memory).look_up(file) == "known"


def test_a_file_that_is_not_there_is_an_error(tmp_path, memory):
    with pytest.raises(FileNotFoundError):
        StatCache(memory).digest(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        StatCache(memory).look_up(tmp_path / "nothing")


def test_nothing_is_recalled_of_a_file_that_was_never_noted(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")

    assert StatCache(memory).look_up(file) is None


def test_the_last_note_of_a_file_holds(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")
    signatures = StatCache(memory)
    signatures.note(file, "first", file.stat())

    signatures.note(file, "second", file.stat())

    assert signatures.look_up(file) == "second"
    assert StatCache(memory).look_up(file) == "second"


def test_what_another_process_notes_is_seen(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")
    mine, others = StatCache(memory), StatCache(memory)

    others.note(file, "known", file.stat())

    assert mine.look_up(file) == "known"


def test_what_another_process_notes_behind_a_tidied_file_is_seen(tmp_path, memory):
    files = [write_old(tmp_path / name, b"x") for name in ("a", "b")]
    mine = StatCache(memory)
    mine.note(files[0], "a" * 100, files[0].stat())
    mine = StatCache(memory)
    memory.unlink()

    StatCache(memory).note(files[1], "b", files[1].stat())

    assert mine.look_up(files[1]) == "b"


@pytest.mark.parametrize("name", ["with blank", "tab\there", "line\nbreak", "\udcff", "ü"])
def test_any_name_of_a_file_may_be_noted(tmp_path, memory, name):
    file = write_old(tmp_path / name, b"x")
    plain = write_old(tmp_path / "plain", b"y")
    signatures = StatCache(memory)

    signatures.note(file, "odd", file.stat())
    signatures.note(plain, "plain", plain.stat())

    assert signatures.look_up(file) == "odd"
    again = StatCache(memory)
    assert again.look_up(plain) == "plain"
    assert again.look_up(file) == (None if {"\t", "\n"} & set(name) else "odd")


@pytest.mark.parametrize("rubbish", [b"", b"no tab\n", b"\n\n", b"\xff\xfe\x00", b"a\tb\tc\n"])
def test_a_damaged_file_of_signatures_is_no_matter(tmp_path, memory, rubbish):
    file = write_old(tmp_path / "file", b"x")
    memory.parent.mkdir()
    memory.write_bytes(rubbish)

    assert StatCache(memory).digest(file) == digest_bytes(b"x")


def test_half_a_line_fits_no_file(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")
    StatCache(memory).digest(file)
    memory.write_bytes(memory.read_bytes()[:-5])

    assert StatCache(memory).look_up(file) is None
    assert StatCache(memory).digest(file) == digest_bytes(b"x")


def test_a_file_of_signatures_that_is_mostly_out_of_date_is_written_anew(tmp_path, memory):
    file = write_old(tmp_path / "file", b"x")
    signatures = StatCache(memory)
    for number in range(2000):
        signatures.note(file, f"{'known' * 10}{number}", file.stat())
    before = memory.stat().st_size

    again = StatCache(memory)

    assert memory.stat().st_size < before / 1000
    assert again.look_up(file).endswith("1999")
    assert StatCache(memory).look_up(file) == again.look_up(file)
