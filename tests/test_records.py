"""Records: canonical JSON, writing by rename, and what differs between two."""

import hashlib
import json
import math
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftasks.records import (
    digest_bytes,
    digest_file,
    digest_json,
    explain_difference,
    format_json,
    format_record,
    read_record,
    write_atomically,
    write_if_changed,
    write_record,
)

RECORD = {"stage": "image", "version": 1, "inputs": {"b": 2, "a": [1, 2]}, "output": "sha256:1"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def test_digest_names_its_kind():
    assert digest_bytes(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_file_has_the_digest_of_its_bytes(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / "file"
    path.write_bytes(data)

    assert digest_file(path) == digest_bytes(data)


def test_order_of_keys_keeps_the_digest():
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2], [2, 1]), (1, "1"), (None, []), ({"a": 1}, {"a": 2}), (1, True)]
)
def test_different_values_have_different_digests(one, other):
    assert digest_json(one) != digest_json(other)


def test_json_has_sorted_keys_and_no_blanks():
    assert format_json({"b": [1, 2], "a": None}) == '{"a":null,"b":[1,2]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json([value])


def test_record_has_a_line_for_each_item_of_its_items():
    assert format_record(RECORD) == (
        "{\n"
        ' "inputs": {\n'
        '  "a": [1,2],\n'
        '  "b": 2\n'
        " },\n"
        ' "output": "sha256:1",\n'
        ' "stage": "image",\n'
        ' "version": 1\n'
        "}\n"
    )


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_formatted_record_is_read_as_it_was(record):
    assert json.loads(format_record(record)) == record


def test_written_record_is_read_as_it_was(tmp_path):
    path = tmp_path / "deep" / "er" / "image.json"

    assert write_record(path, RECORD) is True
    assert read_record(path) == RECORD


def test_equal_record_is_not_written_again(tmp_path):
    path = tmp_path / "image.json"
    write_record(path, RECORD)
    before = path.stat()

    written = write_record(path, dict(reversed(RECORD.items())))

    assert written is False
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_record_takes_the_place(tmp_path):
    path = tmp_path / "image.json"
    write_record(path, RECORD)

    assert write_record(path, RECORD | {"output": "sha256:2"}) is True
    assert read_record(path)["output"] == "sha256:2"


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"[]", b"3", b"null", b"{}", b'{"inputs": {}}', b"\xff\xfe"]
)
def test_what_is_no_record_counts_as_none(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)

    assert read_record(path) is None


def test_record_that_is_not_there_is_none(tmp_path):
    (tmp_path / "file").write_text("")

    assert read_record(tmp_path / "nothing.json") is None
    assert read_record(tmp_path / "file" / "record.json") is None


def test_put_text_gives_the_inode_that_the_file_has(tmp_path):
    path = tmp_path / "folder" / "file"

    inode = write_atomically(path, "x")

    assert inode == path.stat().st_ino


def test_put_text_replaces_also_what_is_equal(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    before = path.stat().st_ino

    write_atomically(path, "x")

    assert path.stat().st_ino != before


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        write_if_changed(path, "new")

        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_atomically(tmp_path / "target", "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_a_file_is_replaced(tmp_path):
    target = tmp_path / "target"
    (target / "inner").mkdir(parents=True)

    write_atomically(target, "x")

    assert target.read_text() == "x"


def test_text_is_written_as_utf_8(tmp_path):
    path = tmp_path / "file"

    write_if_changed(path, "ü")

    assert path.read_bytes() == "ü".encode()


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        (None, {"a": 1}, ["never ran"]),
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({}, {"a": 1}, ["a is new"]),
        ({"a": 1}, {}, ["a is gone"]),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": "x"}, {"a": ["y"]}, ['a: x -> ["y"]']),
        ({"b": 1, "a": 1}, {"c": 1}, ["a is gone", "b is gone", "c is new"]),
        (
            {"code": "sha256:" + "1" * 64},
            {"code": "sha256:" + "2" * 64},
            ["code: sha256:111111111111 -> sha256:222222222222"],
        ),
        ({"a": "x" * 100}, {"a": ""}, ["a: " + "x" * 60 + " -> "]),
    ],
)
def test_a_difference_is_told_in_sentences(old, new, sentences):
    assert list(explain_difference(old, new)) == sentences
