"""The format number of the state folder: state of another number counts as absent, and is rebuilt."""

import json
from pathlib import Path

import pytest

from fftasks.cache import stat_cache, store
from fftasks.cache.history import list_local_runs
from fftasks.cache.stat_cache import StatCache
from fftasks.cache.store import Store, Trace
from fftasks.codehash.source_tree import SourceTree
from fftasks.records import (
    FORMAT_KEY,
    STATE_FORMAT,
    digest_bytes,
    read_record,
    read_state_file,
    write_record,
    write_state_file,
)
from tests.sample import Sample

FINGERPRINT = "sha256:" + "f" * 64
OTHER_NUMBERS = [
    STATE_FORMAT - 1,
    STATE_FORMAT + 1,
    str(STATE_FORMAT),
    float(STATE_FORMAT),
    True,
    None,
    [1],
]
MISSING = "missing"


def set_format(path, number):
    """Give a JSON file of the state folder another format number."""
    content = json.loads(path.read_text())
    assert content[FORMAT_KEY] == STATE_FORMAT, path
    content[FORMAT_KEY] = number
    if number == MISSING:
        del content[FORMAT_KEY]
    mode = path.stat().st_mode
    path.unlink()
    path.write_text(json.dumps(content))
    path.chmod(mode)


@pytest.mark.parametrize("number", [*OTHER_NUMBERS, MISSING])
def test_a_state_file_of_another_format_is_absent_and_is_replaced(tmp_path, number):
    record, state = tmp_path / "image.json", tmp_path / "pieces.json"
    write_record(record, {"output": "x"})
    write_state_file(state, {"pieces": {}})
    for path in (record, state):
        set_format(path, number)

    assert read_record(record) is None
    assert read_state_file(state) is None
    assert write_record(record, {"output": "y"}) is True
    assert write_state_file(state, {"pieces": {}}) is True
    assert read_record(record) == {"output": "y"}
    assert read_state_file(state) == {"pieces": {}}


def test_content_is_read_without_the_format(tmp_path):
    write_record(tmp_path / "a.json", {"output": "x"})

    assert read_record(tmp_path / "a.json") == {"output": "x"}


@pytest.mark.parametrize("number", [*OTHER_NUMBERS, MISSING])
def test_a_trace_of_another_format_is_absent_and_is_replaced(tmp_path, number):
    folder = Store(tmp_path / ".fftasks")
    artifact = Path(folder.new_path("node", "result"))
    artifact.write_bytes(b"result")
    digest = digest_bytes(b"result")
    folder.adopt_artifact(artifact, digest)
    folder.write_trace(FINGERPRINT, Trace({"result": digest}))
    (path,) = (tmp_path / ".fftasks" / "traces").iterdir()
    set_format(path, number)

    assert folder.read_trace(FINGERPRINT) is None
    assert store._read_trace_outputs(path) is None
    folder.write_trace(FINGERPRINT, Trace({"result": digest}))
    assert folder.read_trace(FINGERPRINT) == Trace({"result": digest})


def test_a_noted_fact_of_another_format_is_forgotten(tmp_path, monkeypatch):
    file, path = tmp_path / "file", tmp_path / "cache.signatures"
    file.write_bytes(b"x")
    StatCache(path).note(file, "fact", file.stat(), is_own=True)
    assert StatCache(path).look_up(file) == "fact"

    monkeypatch.setattr(stat_cache, "STATE_FORMAT", STATE_FORMAT + 1)

    assert StatCache(path).look_up(file) is None
    StatCache(path).note(file, "new", file.stat(), is_own=True)
    assert StatCache(path).look_up(file) == "new"


@pytest.mark.parametrize("number", [*OTHER_NUMBERS, MISSING])
def test_a_run_of_another_format_is_not_listed_and_not_deleted(tmp_path, number):
    path = tmp_path / "runs" / "r.jsonl"
    path.parent.mkdir()
    header = {FORMAT_KEY: STATE_FORMAT, "run": "r", "begin": 1.0, "pid": 1}
    path.write_text(json.dumps(header) + "\n")
    assert list_local_runs(tmp_path) == ["r"]

    header[FORMAT_KEY] = number
    if number == MISSING:
        del header[FORMAT_KEY]
    path.write_text(json.dumps(header) + "\n")

    assert list_local_runs(tmp_path) == []
    assert path.exists()


def test_the_analysis_of_a_file_in_another_format_is_made_again(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    first = SourceTree(tmp_path, [tmp_path], tmp_path / "cache").load(file)
    paths = list((tmp_path / "cache").glob("*/*.json"))
    assert paths
    for path in paths:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "units": [], FORMAT_KEY: STATE_FORMAT + 1}))

    again = SourceTree(tmp_path, [tmp_path], tmp_path / "cache").load(file)

    assert again.units == first.units
    assert again.units


def list_state(root):
    """Return all JSON files with a format in a state folder."""
    return sorted((root / ".fftasks").rglob("*.json"))


@pytest.mark.parametrize("number", [STATE_FORMAT + 1, MISSING])
def test_a_whole_state_folder_of_another_format_is_rebuilt(tmp_path, number):
    chain = Sample.copy("chain", tmp_path)
    names = chain.ran()
    own = {
        path: path.read_bytes()
        for path in chain.root.rglob("*")
        if path.is_file() and ".fftasks" not in path.parts
    }
    artifacts = set((chain.root / ".fftasks" / "artifacts").iterdir())
    files = list_state(chain.root)
    assert {path.parent.name for path in files} >= {"nodes", "traces", "graph", "codes", "graphs"}
    for path in files:
        set_format(path, number)

    assert chain.ran() == names
    assert chain.ran() == []
    assert artifacts == set((chain.root / ".fftasks" / "artifacts").iterdir())
    assert own == {path: path.read_bytes() for path in own}


def test_wrong_content_of_another_format_does_not_reach_a_result(tmp_path):
    chain = Sample.copy("chain", tmp_path)
    chain.doit()
    folder = chain.root / ".fftasks"
    results = {path.name: read_record(path)["output"] for path in (folder / "nodes").iterdir()}
    digests = sorted(results.values())
    for path in (*(folder / "nodes").iterdir(), *(folder / "traces").iterdir()):
        content = json.loads(path.read_text())
        wrong = next(one for one in digests if one != content["outputs"]["result"])
        content |= {"outputs": {"result": wrong}, FORMAT_KEY: STATE_FORMAT + 1}
        content |= {"output": wrong} if "output" in content else {}
        path.unlink()
        path.write_text(json.dumps(content))

    chain.doit()

    assert results == {
        path.name: read_record(path)["output"] for path in (folder / "nodes").iterdir()
    }
