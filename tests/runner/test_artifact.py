"""The file format of results."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fftasks.errors import StoreError
from fftasks.records import digest_file
from fftasks.runner.artifact import digest_artifact, read_artifact, write_artifact


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", b"", (1, [2, {3: {4}}]), 10**50, float("inf"), bytearray(b"abc"), range(3), int],
)
def test_values_come_back(tmp_path, value):
    write_artifact(tmp_path / "a", value)

    assert read_artifact(tmp_path / "a") == value


def test_the_digest_is_that_of_the_file(tmp_path):
    digest = write_artifact(tmp_path / "a", [np.arange(100), "x"])

    assert digest == digest_file(tmp_path / "a")


def test_equal_values_give_equal_bytes(tmp_path):
    def make():
        return {"x": np.arange(1000), "y": ["a", 1.5]}

    assert write_artifact(tmp_path / "a", make()) == write_artifact(tmp_path / "b", make())


def test_arrays_are_mapped_and_may_be_changed_without_harm(tmp_path):
    digest = write_artifact(tmp_path / "a", np.arange(1000))

    array = read_artifact(tmp_path / "a")
    array[0] = 99

    assert array[0] == 99
    assert array.ctypes.data % 64 == 0
    assert digest_file(tmp_path / "a") == digest


def test_what_pickle_cannot_find_by_name_is_stored_by_value(tmp_path):
    factor = 3
    write_artifact(tmp_path / "a", lambda x: x * factor)

    assert read_artifact(tmp_path / "a")(2) == 6


def test_what_cannot_be_stored_raises(tmp_path):
    with pytest.raises(TypeError):
        write_artifact(tmp_path / "a", (i for i in range(3)))


@pytest.mark.parametrize("content", [b"", b"x", b"notfftasks" * 10, b"fftasks1" + b"\xff" * 50])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(StoreError, match="is not an artifact"):
        read_artifact(tmp_path / "a")


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    write_artifact(tmp_path / "a", np.arange(1000))
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-100])

    with pytest.raises(StoreError, match="is not an artifact"):
        read_artifact(tmp_path / "a")


def test_objects_of_any_pickle_protocol_come_back(tmp_path):
    class Old:
        def __reduce__(self):
            return complex, (1, 2)

    write_artifact(tmp_path / "a", Old())

    assert read_artifact(tmp_path / "a") == pickle.loads(pickle.dumps(1 + 2j))


def test_an_object_of_a_decorated_class_gives_the_same_bytes_in_each_process_and_folder(tmp_path):
    text = """
import sys
from pathlib import Path
from fftasks import workflow
from fftasks.runner.artifact import read_artifact, write_artifact

@workflow
class Model:
    def __init__(self):
        self.seen = [1]

if __name__ != "__main__":
    path = Path("object")
    print(write_artifact(path, Model.func()), read_artifact(path).seen)
"""
    said = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model_file.py").write_text(text)
        command = [sys.executable, "-c", "import model_file"]
        said.append(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)

    assert said[0] == said[1]
    assert said[0].endswith(b" [1]\n")


@pytest.mark.parametrize("size", [1, 1 << 24, (1 << 24) + 1, 40_000_000])
def test_the_digest_is_that_of_the_file_for_one_chunk_and_for_many(tmp_path, size):
    path = tmp_path / "a"
    value = np.random.default_rng(0).integers(0, 256, size, np.uint8)

    digest = write_artifact(path, value)

    content = path.read_bytes()
    parts = [content[i : i + (1 << 24)] for i in range(0, len(content), 1 << 24)]
    whole = content if len(parts) == 1 else b"".join(hashlib.sha256(p).digest() for p in parts)
    assert digest == "sha256:" + hashlib.sha256(whole).hexdigest()
    assert digest_artifact(path) == digest
    assert (read_artifact(path) == value).all()


def test_a_change_anywhere_in_a_big_file_changes_its_digest(tmp_path):
    path = tmp_path / "a"
    digest = write_artifact(path, np.zeros(5_000_000))
    for place in (0, 1 << 24, path.stat().st_size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\1")
        assert digest_artifact(path) != digest
        digest = digest_artifact(path)
