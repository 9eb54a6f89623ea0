"""Inputs that other people's components wrote: what the function gets, by its annotation."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from fftasks import workflow
from fftasks.errors import NodeError
from fftasks.runner.artifact import read_artifact, write_artifact
from fftasks.runner.executor_input import read_executor_input
from fftasks.runner.foreign_inputs import is_foreign, read_foreign
from fftasks.runner.job import run_job

if TYPE_CHECKING:
    pass


@workflow
def load():
    return 1


X, Y = load().set_name("x"), load().set_name("y")


def take(annotation):
    """Return a node that takes X in an argument of an annotation."""

    def use(data):
        return data

    use.__annotations__ = {} if annotation is None else {"data": annotation}
    return workflow(use)(X).set_name("use")


TEXT, JSON, NUMBER, BINARY = b"a,b\n1,2\n", b'{"k": [1]}\n', b"5\n", b"\xff\xfe\x00"


@pytest.mark.parametrize(
    ("annotation", "content", "expected"),
    [
        (None, TEXT, "a,b\n1,2\n"),
        (None, JSON, {"k": [1]}),
        (None, NUMBER, 5),
        (None, b"", ""),
        (None, b"NaN", "NaN"),
        (None, BINARY, Path),
        (Any, JSON, {"k": [1]}),
        ("object", TEXT, "a,b\n1,2\n"),
        (Path, TEXT, Path),
        (Path, JSON, Path),
        ("Path", TEXT, Path),
        ("os.PathLike", TEXT, Path),
        (os.PathLike, BINARY, Path),
        (Path | None, TEXT, Path),
        (str, NUMBER, "5\n"),
        (str, JSON, '{"k": [1]}\n'),
        (bytes, BINARY, BINARY),
        (bytes, b"", b""),
        (dict, JSON, {"k": [1]}),
        ("dict[str, list[int]]", JSON, {"k": [1]}),
        (Mapping[str, Any], JSON, {"k": [1]}),
        (Sequence[int], b"[1, 2]", [1, 2]),
        (list[int], b"[1, 2]", [1, 2]),
        (int, NUMBER, 5),
        (float, NUMBER, 5.0),
        (bool, b"true", True),
        (int | None, NUMBER, 5),
        (int | str, TEXT, "a,b\n1,2\n"),
        (Annotated[str, "help"], TEXT, "a,b\n1,2\n"),
    ],
)
def test_the_annotation_decides_what_a_file_becomes(annotation, content, expected, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(content)

    found = read_foreign(take(annotation), "data", str(path))

    if expected is Path:
        assert found == path
    else:
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("annotation", [Path, None, Any, "Path | None", str | Path])
def test_a_folder_is_a_path(annotation, tmp_path):
    (tmp_path / "part").write_text("x")

    assert is_foreign(str(tmp_path))
    assert read_foreign(take(annotation), "data", str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("annotation", "content", "problem"),
    [
        (str, BINARY, "not UTF-8 text: invalid start byte at byte 0"),
        (dict, b"[1]", "the file has a JSON value of type list, expected dict"),
        (int, b"true", "the file has a JSON value of type bool, expected int"),
        (int, b"5.5", "the file has a JSON value of type float, expected int"),
        (float, b"NaN", "invalid JSON: NaN is not valid JSON"),
        (list[int], TEXT, "invalid JSON: Expecting value: line 1 column 1 (char 0)"),
        (Mapping, BINARY, "not UTF-8 text: invalid start byte at byte 0"),
        (complex, NUMBER, "fftasks cannot create a complex from a file: take a Path"),
        ("Decimal", NUMBER, "fftasks cannot create a Decimal from a file: take a Path"),
    ],
)
def test_a_file_without_such_a_value_is_an_error_with_the_options(
    annotation, content, problem, tmp_path
):
    path = tmp_path / "data"
    path.write_bytes(content)

    with pytest.raises(NodeError) as caught:
        read_foreign(take(annotation), "data", str(path))

    assert caught.value.attempted == (
        "use: cannot convert the file of input 'data' to the type that the function takes"
    )
    assert problem in caught.value.found
    assert caught.value.found[-1] == (
        f"at {path}: a file of {len(content)} bytes that begins with {content!r}"
    )
    assert "pathlib.Path" in caught.value.tip


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(NodeError) as caught:
        read_foreign(take(str), "data", str(tmp_path))

    assert "it is a folder" in caught.value.found


@workflow
def many(first, *rest: Path, other: str = "", **more: bytes):
    return [first, rest, other, more]


@workflow
class Box:
    def __init__(self, size: int):
        self.size = size

    def put(self, text: str, things: list):
        return [self.size, text, things]


def run_pod(node, folder, files, parameters=None):
    """Run a node as the entry point does; files: input -> content, or a value of ours in a tuple."""
    artifacts = {}
    for name, content in files.items():
        path = folder / name
        if isinstance(content, tuple):
            write_artifact(path, content[0])
        elif content is not None:
            path.write_bytes(content)
        artifacts[name] = {"artifacts": [{"uri": str(path)}]}
    outputs = {
        name: {"artifacts": [{"uri": str(folder / "out" / name)}]} for name in ("result", "state")
    }
    document = {
        "inputs": {"artifacts": artifacts, "parameterValues": parameters or {}},
        "outputs": {"artifacts": outputs},
    }
    report = run_job(node, read_executor_input(document, node))
    return report.error or read_artifact(folder / "out" / "result")


def test_each_way_of_passing_an_argument_has_its_annotation(tmp_path):
    z = load().set_name("z")
    node = many(X, Y, z, other=load().set_name("o"), last=load().set_name("l"))
    files = {"first": JSON, "rest_0": TEXT, "rest_1": TEXT, "other": NUMBER, "last": NUMBER}

    assert run_pod(node, tmp_path, files) == [
        {"k": [1]},
        (tmp_path / "rest_0", tmp_path / "rest_1"),
        "5\n",
        {"last": b"5\n"},
    ]


def test_ours_and_foreign_inputs_may_be_mixed_and_items_be_taken(tmp_path):
    node = many(X["k"][0], other=Y)

    assert run_pod(node, tmp_path, {"first": JSON, "other": ({1},)}) == [1, (), {1}, {}]


def test_an_input_that_is_used_twice_is_one_value(tmp_path):
    node = many([X, X], X)

    first, (rest,), *_ = run_pod(node, tmp_path, {"first_0": TEXT})

    assert (
        first == [rest, rest] == [tmp_path / "first_0"] * 2
    )  # as the argument that takes it whole


def test_a_constructor_and_a_method_take_foreign_inputs_and_an_object_is_ours(tmp_path):
    box = Box(X)
    call = box.put(Y, [X])

    assert run_pod(box._fftasks_node, tmp_path, {"size": NUMBER}).size == 5
    made = Box.func(7)
    files = {"object": (made,), "text": TEXT, "things_0": JSON}
    assert run_pod(call, tmp_path, files) == [7, "a,b\n1,2\n", [{"k": [1]}]]
    error = run_pod(call, tmp_path, files | {"object": JSON})
    assert "the object of the method Box.put() must come from a component of fftasks" in error


def test_what_is_not_ours_is_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    content = pickle.dumps(Evil())

    assert run_pod(many(X, other="y"), tmp_path, {"first": content})[0] == tmp_path / "first"


def test_a_damaged_artifact_of_ours_is_not_taken_for_text(tmp_path):
    error = run_pod(many(X), tmp_path, {"first": b"fftasks1" + b"\1" * 4})

    assert "is not an artifact of fftasks" in error


def test_an_input_that_nobody_wrote_is_missing(tmp_path):
    error = run_pod(many(X), tmp_path, {"first": None})

    assert "many_" in error
    assert "its input 'first' is missing" in error
    assert f"nothing is at {tmp_path / 'first'}" in error


def test_a_run_here_takes_no_foreign_file(tmp_path):
    from fftasks.runner.job import Job

    path = tmp_path / "data"
    path.write_text(json.dumps([1]))
    node = take(None)

    report = run_job(node, Job("", node.name, {"data": str(path)}, {"result": "unused"}))

    assert "is not an artifact of fftasks" in report.error
