"""A layer's bytes are a function of its files, and of nothing else."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from fftasks.errors import StoreError
from fftasks.image.layers import LAYER_TIME, LayerEntry, make_file_entry, write_layer
from fftasks.records import digest_bytes


def pack(*entries, root="ffrun", beside=()) -> bytes:
    out = io.BytesIO()
    write_layer(entries, out, root=root, beside=beside)
    return out.getvalue()


def read(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(
        fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        return archive.getmembers()


def make_file(path, content: bytes, **fields) -> LayerEntry:
    path.write_bytes(content)
    return LayerEntry(path.name, path, len(content), digest_bytes(content), **fields)


def test_order_of_entries_does_not_matter():
    entries = [
        make_file_entry("b/x", b"1"),
        make_file_entry("a", b"2"),
        LayerEntry("link", to="a"),
        LayerEntry("empty"),
    ]

    assert pack(*entries) == pack(*reversed(entries))


def test_times_and_owners_of_files_do_not_matter(tmp_path):
    entry = make_file(tmp_path / "a", b"1")
    before = pack(entry)

    os.utime(tmp_path / "a", ns=(1, 1))
    (tmp_path / "a").chmod(0o600)

    assert pack(entry) == before
    assert {(info.mtime, info.uid, info.gid, info.uname) for info in read(before)} == {
        (LAYER_TIME, 0, 0, "")
    }


def test_memory_and_file_give_the_same(tmp_path):
    assert pack(make_file(tmp_path / "a", b"1")) == pack(make_file_entry("a", b"1"))


def test_all_folders_above_a_file_are_in_it():
    data = pack(make_file_entry("a/b/c", b""), root="opt/fftasks", beside=("ffrun",))

    assert [info.name for info in read(data)] == [
        "ffrun",
        "opt",
        "opt/fftasks",
        "opt/fftasks/a",
        "opt/fftasks/a/b",
        "opt/fftasks/a/b/c",
    ]


def test_layer_of_nothing_has_its_folder():
    assert [info.name for info in read(pack())] == ["ffrun"]


def test_modes(tmp_path):
    data = pack(
        make_file(tmp_path / "run", b"", executable=True),
        make_file_entry("a", b""),
        LayerEntry("link", to="a"),
    )

    assert {info.name: (info.mode, info.type) for info in read(data)} == {
        "ffrun": (0o755, tarfile.DIRTYPE),
        "ffrun/a": (0o644, tarfile.REGTYPE),
        "ffrun/link": (0o777, tarfile.SYMTYPE),
        "ffrun/run": (0o755, tarfile.REGTYPE),
    }


def test_any_name_is_kept():
    names = ["x" * 150, os.fsdecode(b"\xff"), "line\nbreak", "é"]

    data = pack(*(make_file_entry(name, b"") for name in names))

    assert {info.name for info in read(data)} == {"ffrun", *(f"ffrun/{name}" for name in names)}


@pytest.mark.parametrize("content", [b"2", b"", b"12", None])
def test_file_that_is_not_what_its_entry_says_is_an_error(tmp_path, content):
    entry = make_file(tmp_path / "a", b"1")
    (tmp_path / "a").unlink()
    if content is not None:
        (tmp_path / "a").write_bytes(content)

    with pytest.raises(StoreError, match="'a' differs from the record"):
        pack(entry)


def test_file_that_cannot_be_read_keeps_its_own_error(tmp_path):
    (tmp_path / "a").mkdir()

    with pytest.raises(IsADirectoryError):
        pack(LayerEntry("a", tmp_path / "a", 0, digest_bytes(b"")))
