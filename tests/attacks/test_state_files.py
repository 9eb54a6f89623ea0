"""State files that were exchanged, replaced or damaged: results are right, nothing hangs or is harmed."""

import itertools
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from fftasks.cache.history import LocalRun, read_run_graph
from fftasks.config import Settings
from fftasks.config.tree import ObjectStoreSettings
from fftasks.errors import StoreError
from fftasks.kfp.object_store import ArtifactURI, ObjectStore
from fftasks.pipeline.download import extract_result
from fftasks.pipeline.workflow_stages import read_pipeline
from fftasks.project import Project
from fftasks.records import write_state_file
from fftasks.runner.artifact import (
    ArtifactLocation,
    Pack,
    StoredValue,
    read_artifact,
    write_artifact,
    write_pack,
)
from fftasks.state_folder import check_parents
from tests.attacks.forks import Commands
from tests.sample import Sample

ONE = """
from fftasks import Markdown, Metrics, Workflow, workflow

@workflow
def letter(x):
    print("made", x)
    return x.upper()

@workflow
def join(a, b):
    return a + b

@workflow
def table(x):
    return [Metrics({"size": len(x)}), Markdown("# " + x)]

a = letter("a").set_name("a")
b = letter("b").set_name("b")
joined = join(a, b).set_name("joined")
Workflow(joined, table(joined).set_name("table"), table(a).set_name("other"), name="one")
"""
TWO = """
from fftasks import Workflow, workflow

@workflow
def number(x):
    return x + 1

@workflow
def power(x):
    return x ** 3

Workflow(power(number(1).set_name("n")).set_name("p"), name="two")
"""
RESULTS = {"a": "'A'", "b": "'B'", "joined": "'AB'", "n": "2", "p": "8"}
# each of them reads state; most must also work while nothing has been run
SHOWING = (
    ("list", "--all", "--status"),
    ("plan",),
    ("plan", "submit"),
    ("graph",),
    ("result", "joined"),
    ("report", "-o", "page.html"),
    ("run",),
)


@pytest.fixture(scope="module")
def commands():
    with Commands() as commands:
        yield commands


@pytest.fixture(scope="module")
def made(tmp_path_factory, commands):
    """Give a project of two files that has run, and whose workflows have been planned and reported."""
    root = tmp_path_factory.mktemp("made") / "project"
    sample = Sample.make(root, ONE)
    sample.write("two.py", TWO)
    sample.write("data.csv", "1,2\n")
    sample.write("config/default.yaml", "workflows: [wf.py, two.py]\nreport: {previews: true}\n")
    for words in (["run"], ["context"], ["tasks"], ["report", "-o", "page.html"], ["plan"]):
        done = commands.run(root, *words)
        assert done.code == 0, done.output
    sample.edit("two.py", "x + 1", "x + 1 + 0")
    assert commands.run(root, "run").code == 0
    return root


@pytest.fixture
def project(made):
    """Give the project as it was: at the same place, since signatures have absolute paths."""
    kept = made.with_name("kept")
    if not kept.exists():
        shutil.copytree(made, kept, symlinks=True)
    state = made / ".fftasks"
    _remove(state)
    shutil.copytree(kept / ".fftasks", state, symlinks=True)
    return made


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def list_state(state):
    """Return all files and folders of a state folder, relative to it, but of the copy only the top."""
    found = []
    for folder, folders, files in os.walk(state):
        folders[:] = [name for name in folders if (folder, name) != (str(state), "context")]
        found += [os.path.relpath(Path(folder, n), state) for n in (*folders, *files)]
    return sorted([*found, "context"])


def check_results(commands, root):
    done = commands.run(root, "run")
    assert done.code == 0, done.output
    assert "Traceback" not in done.output
    for name, expected in RESULTS.items():
        shown = commands.run(root, "result", name)
        assert (shown.code, shown.output.strip()) == (0, expected), (name, shown.output)


def exchange(one, other):
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def test_every_kind_of_state_is_there_to_be_attacked(made):
    parts = {path.partition("/")[0] for path in list_state(made / ".fftasks")}

    assert {
        "artifacts", "traces", "nodes", "codes", "logs", "graph", "closures", "shown", "runs", "tasks",
        "context", "context.json", "context.signatures", "context.stamp", "doit.sqlite3",
        "artifacts.signatures", "nodes.signatures",
    } <= parts  # fmt: skip


def test_results_are_right_whichever_two_files_of_a_folder_were_exchanged(project, commands):
    state = project / ".fftasks"
    by_folder = {}
    for path in list_state(state):
        if (state / path).is_file():
            by_folder.setdefault((state / path).parent, []).append(state / path)
    pairs = [pair for files in by_folder.values() for pair in itertools.combinations(files[:3], 2)]
    kept = project.with_name("kept") / ".fftasks"

    for one, other in pairs:
        exchange(one, other)
        done = commands.run(project, "run")
        assert (done.code, "Traceback" in done.output) == (0, False), (one, other, done.output)
        for name in ("joined",) if "two" not in one.name else ("n",):
            shown = commands.run(project, "result", name).output
            assert shown.strip() == RESULTS[name], (one, other)
        shutil.rmtree(state)
        shutil.copytree(kept, state, symlinks=True)


@pytest.mark.parametrize(
    "forgotten", [(), ("nodes",), ("nodes", "doit.sqlite3"), ("codes", "closures")]
)
@pytest.mark.parametrize("folder", ["traces", "artifacts", "nodes", "graph", "closures", "shown"])
def test_results_are_right_when_all_files_of_a_folder_took_the_next_ones_place(
    project, commands, folder, forgotten
):
    state = project / ".fftasks"
    for name in forgotten:
        if name != folder:
            _remove(state / name)
    folders = {path.parent for path in (state / folder).rglob("*") if path.is_file()}
    for inner in folders:
        names = sorted(path.name for path in inner.iterdir() if path.is_file())
        contents = [(inner / name).read_bytes() for name in names]
        for name, content in zip(names, [*contents[1:], contents[0]], strict=True):
            (inner / name).chmod(0o644)
            (inner / name).write_bytes(content)

    check_results(commands, project)


def test_a_file_that_was_renamed_over_another_one_is_as_good_as_none(project, commands):
    state = project / ".fftasks"
    for folder in ("traces", "nodes", "graph", "artifacts", "codes"):
        first, *others = sorted(path for path in (state / folder).iterdir() if path.is_file())
        for other in others:
            shutil.copy2(first, state / "copy")
            (state / "copy").replace(other)

    check_results(commands, project)


def test_a_trace_without_its_fingerprint_is_not_used(project, commands):
    state = project / ".fftasks"
    traces = sorted((state / "traces").iterdir())
    shutil.rmtree(state / "nodes")
    contents = [json.loads(path.read_text()) for path in traces]
    for path, content in zip(traces, [*contents[1:], contents[0]], strict=True):
        assert content.pop("fingerprint")
        path.write_text(json.dumps(content))

    check_results(commands, project)


def test_pages_that_belong_to_another_result_are_not_shown(project, commands):
    state = project / ".fftasks"
    one, other = (next((state / "shown" / name).iterdir()) for name in ("table", "other"))
    assert commands.run(project, "report", "-o", "page.html").code == 0
    assert '"text":"# AB"' in (project / "page.html").read_text()

    exchange(one / "page.md", other / "page.md")

    assert commands.run(project, "report", "-o", "page.html").code == 0
    assert '"text":"#' not in (project / "page.html").read_text()


def plant_link_to_file(path, victims):
    victim = victims / f"file-{len(list(victims.iterdir()))}"
    victim.write_text("victim")
    path.symlink_to(victim)


def plant_link_to_folder(path, victims):
    victim = victims / f"folder-{len(list(victims.iterdir()))}"
    (victim / "00ff").mkdir(parents=True)
    (victim / "a.json").write_text("victim")
    path.symlink_to(victim)


def plant_dangling_link(path, victims):
    path.symlink_to(victims / "nothing" / "here")


def plant_link_to_itself(path, _victims):
    path.symlink_to(path)


def plant_fifo(path, _victims):
    os.mkfifo(path)


def plant_folder(path, _victims):
    path.mkdir()
    (path / "inner").write_text("x")


def plant_garbage(path, _victims):
    path.write_bytes(b"\xff\xfe\x00{[" * 50)


def plant_nesting(path, _victims):
    path.write_text("[" * 100_000)


def plant_another_shape(path, _victims):
    path.write_text('{"output": 1, "inputs": [], "outputs": 3, "fingerprint": 2}\n')


def plant_nothing(path, _victims):
    path.write_bytes(b"")


def plant_socket(path, _victims):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


PLANTS = [value for name, value in list(globals().items()) if name.startswith("plant_")]


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def check_commands(commands, root, victims, may_refuse=False):
    before = snapshot(victims)
    for program, words in [("doit", words) for words in SHOWING] + [("fftasks", ("gc",))]:
        done = commands.run(root, *words, program=program)
        assert done.code is not None, f"{words} hangs"
        assert "Traceback" not in done.output, (words, done.output)
        if may_refuse and done.code:
            assert "is a symbolic link" in done.output, (words, done.output)
            assert "make .fftasks itself the link" in done.output
        elif words == ("run",):
            assert done.code == 0, done.output
        assert snapshot(victims) == before, words


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_nothing_hangs_or_is_followed_where_every_file_is_something_else(
    project, commands, plant, tmp_path
):
    state = project / ".fftasks"
    for path in list_state(state):
        if (state / path).is_file() and not (state / path).is_symlink():
            (state / path).unlink()
            plant(state / path, tmp_path)

    check_commands(commands, project, tmp_path)
    check_results(commands, project)


@pytest.mark.parametrize(
    "plant",
    [plant_link_to_folder, plant_dangling_link, plant_fifo, plant_folder],
    ids=lambda plant: plant.__name__,
)
def test_nothing_hangs_or_is_followed_where_one_folder_or_file_is_something_else(
    project, commands, plant, tmp_path
):
    state = project / ".fftasks"
    kept = project.with_name("kept") / ".fftasks"
    seen = set()
    for path in list_state(state):
        kind = path.partition("/")[0] if (state / path).is_file() else path
        if kind in seen:
            continue
        seen.add(kind)
        _remove(state / path)
        plant(state / path, tmp_path)
        may_refuse = plant is plant_link_to_folder
        before = snapshot(tmp_path)
        for words in (("report", "-o", "page.html"), ("run",)):
            done = commands.run(project, *words)
            assert done.code is not None, (path, words)
            assert "Traceback" not in done.output, (path, words, done.output)
            assert snapshot(tmp_path) == before, (path, words)
            if words == ("run",) and not (may_refuse and done.code):
                assert done.code == 0, (path, done.output)
                shown = commands.run(project, "result", "joined").output
                assert shown.strip() == "'AB'", (path, shown)
            elif words == ("run",):
                assert "is a symbolic link" in done.output, (path, done.output)
        shutil.rmtree(state)
        shutil.copytree(kept, state, symlinks=True)


def test_the_state_folder_itself_may_be_a_link_to_a_larger_disk(project, commands, tmp_path):
    state = project / ".fftasks"
    shutil.move(state, tmp_path / "large")
    state.symlink_to(tmp_path / "large")
    try:
        check_results(commands, project)
        assert state.is_symlink()
    finally:
        state.unlink()


@pytest.mark.parametrize("plant", [plant_fifo, plant_garbage, plant_dangling_link])
def test_something_else_in_place_of_the_state_folder_is_an_error_that_says_so(
    project, commands, plant, tmp_path
):
    state = project / ".fftasks"
    shutil.rmtree(state)
    plant(state, tmp_path)
    try:
        done = commands.run(project, "run")
        assert done.code not in (0, None)
        assert "Traceback" not in done.output
        assert ".fftasks" in done.output
    finally:
        _remove(state)


def test_a_second_name_of_a_log_keeps_its_content(project, commands, tmp_path):
    state = project / ".fftasks"
    twin = project.parent / "twin"
    os.link(state / "logs" / "a.txt", twin)
    before = twin.read_text()
    shutil.rmtree(state / "traces")
    shutil.rmtree(state / "nodes")

    check_results(commands, project)

    assert (twin.read_text(), before) == (before, "made a\n")


@pytest.mark.parametrize("name", ["report.html", "graph.svg"])
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_what_a_command_writes_by_default_replaces_whatever_is_in_its_place(
    project, commands, plant, name, tmp_path
):
    path = project / ".fftasks" / name
    _remove(path)
    plant(path, tmp_path)
    before = snapshot(tmp_path)

    done = commands.run(project, name.partition(".")[0], timeout_s=20)

    assert done.code == 0, done.output
    assert snapshot(tmp_path) == before
    assert path.is_file()
    assert not path.is_symlink()
    assert path.read_bytes().startswith((b"<?xml", b"<svg", b"<!DOCTYPE html>"))


@pytest.mark.parametrize("command", ["report", "graph"])
def test_a_file_that_the_user_names_is_followed_and_a_pipe_without_a_reader_is_an_error(
    project, commands, command, tmp_path
):
    (tmp_path / "link.svg").symlink_to(tmp_path / "target.svg")
    os.mkfifo(tmp_path / "pipe")

    assert commands.run(project, command, "-o", str(tmp_path / "link.svg")).code == 0
    assert (tmp_path / "target.svg").stat().st_size
    assert (tmp_path / "link.svg").is_symlink()

    for place, cause in (("pipe", "no process reads"), ("", "directory")):
        done = commands.run(project, command, "-o", str(tmp_path / place), timeout_s=20)
        assert done.code == 1, done.output
        assert cause in done.output.lower()
        assert "hint: write to another file with `-o FILE`" in done.output


@pytest.mark.parametrize("graph", ["../../graph/wf", "/etc/passwd", "a/../b", "", ".."])
def test_the_graph_of_a_run_is_looked_for_in_its_folder_only(tmp_path, graph):
    state = tmp_path / ".fftasks"
    target = Path(os.path.normpath(state / "runs/graphs" / f"{graph}.json"))
    if target.is_relative_to(tmp_path):
        write_state_file(target, {"nodes": {"secret": {}}})
    run = LocalRun("r", 0.0, {"graph": graph})

    assert read_run_graph(state, run) == {}


def test_files_of_runs_on_the_cluster_are_not_written_through_links(tmp_path):
    state, victims = tmp_path / ".fftasks", tmp_path / "victims"
    victims.mkdir()
    pack = state / "cluster" / "run" / "task" / "pack"
    pack.parent.mkdir(parents=True)
    write_artifact(pack.with_name("value"), 5)
    value = StoredValue(ArtifactLocation(str(pack.with_name("value"))), "sha256:0")
    write_pack(pack, Pack("group", "key", {("a", "result"): value}))
    for name in ("pack-a", "pack-a.part"):
        plant_link_to_file(pack.with_name(name), victims)
    before = snapshot(victims)

    target = extract_result(pack, "a")

    assert read_artifact(target) == 5
    assert not target.is_symlink()
    assert snapshot(victims) == before


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_an_artifact_replaces_whatever_is_where_it_is_downloaded_to(tmp_path, plant):
    (tmp_path / "mount/bucket").mkdir(parents=True)
    (tmp_path / "mount/bucket/result").write_text("content")
    target = tmp_path / ".fftasks/cluster/run/task/result"
    target.parent.mkdir(parents=True)
    (tmp_path / "victims").mkdir()
    plant(target, tmp_path / "victims")
    plant(target.with_name(".result.part"), tmp_path / "victims")
    before = snapshot(tmp_path / "victims")

    store = ObjectStore(ObjectStoreSettings(mount=str(tmp_path / "mount")))
    store.fetch(ArtifactURI.parse("minio://bucket/result"), target)

    assert (target.read_text(), target.is_symlink()) == ("content", False)
    assert snapshot(tmp_path / "victims") == before


@pytest.mark.parametrize("depth", [1, 2])
def test_a_folder_of_a_run_that_is_a_link_is_refused(tmp_path, depth):
    target = tmp_path / ".fftasks/cluster/run/task/result"
    (tmp_path / "elsewhere/task").mkdir(parents=True)
    (tmp_path / "elsewhere/task/result").write_text("private")
    link = target.parents[depth - 1]
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere" / ("task" if depth == 1 else ""))

    with pytest.raises(StoreError, match="symbolic link"):
        check_parents(target)


def test_the_state_folder_may_be_a_link_for_downloads_too(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / ".fftasks").symlink_to(tmp_path / "large")

    check_parents(tmp_path / ".fftasks/cluster/run/task/result")


@pytest.mark.parametrize(
    "plant",
    [plant_fifo, plant_dangling_link, plant_link_to_file, plant_folder],
    ids=lambda plant: plant.__name__,
)
def test_a_compiled_pipeline_is_read_from_a_regular_file_only(project, plant, tmp_path):
    path = project / ".fftasks/pipeline/one.yaml"
    path.parent.mkdir(exist_ok=True)
    plant(path, tmp_path)

    with pytest.raises(StoreError, match="is gone"):
        read_pipeline(Project(project, Settings()), "one")


@pytest.mark.parametrize("place", ["state", "deep/down/state"])
@pytest.mark.parametrize("reads", ["", '@workflow(reads=["**/*.json", "*/*", "*/*/*/*"])'])
def test_a_state_folder_that_is_a_link_into_the_project_is_no_data_of_it(
    tmp_path, commands, place, reads
):
    root = tmp_path / "project"
    sample = Sample.make(root, TWO if not reads else TWO.replace("@workflow", reads))
    sample.write("data/table.csv", "1,2\n")
    (root / place).mkdir(parents=True)
    (root / ".fftasks").symlink_to(place)
    assert commands.run(root, "run").code == 0
    assert commands.run(root, "context").code == 0

    again, context = commands.run(root, "run"), commands.run(root, "context")

    assert "2 up to date" in again.output, again.output
    assert (context.code, ". context" in context.output) == (0, False), context.output
    copied = [
        path.relative_to(root / place / "context").as_posix()
        for path in (root / place / "context").rglob("*")
    ]
    assert "data/table.csv" in copied
    assert not [path for path in copied if path.startswith(place)], copied

    (root / "data/table.csv").write_text("3\n")
    assert "2 up to date" not in commands.run(root, "run").output
