"""The history of local runs."""

import json
import os
import shutil
import signal
import time

import pytest

from fftasks.cache.history import (
    RunJournal,
    find_local_run,
    list_local_runs,
    read_local_run,
    read_run_graph,
)
from fftasks.errors import StoreError
from fftasks.project import open_project
from fftasks.records import STATE_FORMAT, write_state_file
from fftasks.report.run_report import describe_run
from tests.sample import Sample


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def read_last(sample):
    folder = sample.root / ".fftasks"
    return read_local_run(folder, find_local_run(folder))


def make_journal(folder, begin):
    return RunJournal(folder, lambda: ({"begin": begin}, "graph", lambda: {"a": {}}))


def test_a_run_is_told_with_reasons_times_and_results(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")
    chain.doit()

    run = read_last(chain)
    total = run.events["run:total"]
    assert run.state == "ran"
    assert set(run.events) == {"run:total", "run:report"}
    assert set(run.same) == {"run:values", "run:ends"}
    assert (total.state, total.reason) == ("ran", "constant factor: 2 -> 3")
    assert run.begin <= total.begin <= total.end <= run.end
    assert total.seconds >= 0
    assert total.preview
    graph = read_run_graph(chain.root / ".fftasks", run)
    assert graph["total"]["upstream"] == ["values"]


def test_a_run_with_nothing_to_do_leaves_nothing(chain):
    chain.doit()
    before = list_local_runs(chain.root / ".fftasks")
    chain.doit()
    (chain.root / ".fftasks" / "doit.sqlite3").unlink()
    chain.doit()  # looks at everything again

    assert list_local_runs(chain.root / ".fftasks") == before


def test_a_failure_is_told_with_its_error_and_what_waits_for_it(chain):
    chain.edit("wf.py", "return 10 * x", "raise ValueError('no')")

    chain.doit(code=1)

    run = read_last(chain)
    assert run.state == "failed"
    assert "ValueError: no" in run.events["run:report"].error


def test_stages_are_told_too(chain):
    chain.doit("context")

    context = read_last(chain).events["context"]
    assert (context.state, context.reason) == ("ran", "never ran")
    assert context.end >= context.begin


def test_a_killed_run_keeps_what_it_has_told(tmp_path):
    text = "import time\nfrom fftasks import Workflow, workflow\n\n\n@workflow\ndef slow():\n"
    text += "    time.sleep(60)\n\n\n"
    sample = Sample.make(tmp_path, text + 'Workflow(slow().set_name("s"), name="w")\n')
    process = sample.start()
    while not list_local_runs(tmp_path / ".fftasks"):
        time.sleep(0.02)
    running = read_last(sample)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    killed = read_last(sample)
    assert (running.state, running.events["run:s"].state) == ("running", "running")
    assert (killed.state, killed.events["run:s"].state) == ("canceled", "canceled")


def test_only_the_last_runs_are_kept(tmp_path):
    for number in range(40):
        journal = make_journal(tmp_path, 1e9 + number)
        journal.end_task("run:a", "ran")
        journal.end([])

    assert len(list_local_runs(tmp_path)) == 30


def test_a_history_that_cannot_be_written_fails_no_run(tmp_path):
    (tmp_path / "runs").write_text("a file")
    journal = make_journal(tmp_path, 1e9)

    journal.begin_task("run:a")
    journal.end_task("run:a", "ran")
    journal.end([])

    assert (tmp_path / "runs").read_text() == "a file"


def test_half_a_line_is_passed_over(tmp_path):
    journal = make_journal(tmp_path, 1e9)
    journal.end_task("run:a", "ran", preview="1")
    path = tmp_path / "runs" / f"{find_local_run(tmp_path)}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"task": "run:b", "at": 1, "begins": True})[:-5])

    assert set(read_local_run(tmp_path, path.stem).events) == {"run:a"}


def test_a_run_is_found_by_the_beginning_of_its_name(tmp_path):
    for begin in (1e9, 1e9 + 86400):
        make_journal(tmp_path, begin).end_task("run:a", "ran")
    first, last = list_local_runs(tmp_path)

    assert find_local_run(tmp_path) == last
    assert find_local_run(tmp_path, first[:8]) == first
    with pytest.raises(StoreError, match="several runs"):
        find_local_run(tmp_path, "2001")
    with pytest.raises(StoreError, match="no run 'x'"):
        find_local_run(tmp_path, "x")


def test_a_run_is_told_with_the_values_of_its_parameters(tmp_path):
    text = "from fftasks import Parameter, Workflow, workflow\n\n\n@workflow\ndef f(x):\n    return x\n\n\n"
    sample = Sample.make(tmp_path, text + 'Workflow(f(Parameter("rate", default=0.1)), name="w")\n')

    sample.doit("run", "rate=0.5")

    assert read_last(sample).header["parameters"] == {"rate": "0.5"}


def name_odd(odd):
    return repr(odd)[:20]


ODD = [
    None,
    True,
    "zz",
    "",
    -1,
    5,
    1.5,
    10**23,
    10**400,
    float("nan"),
    float("inf"),
    [],
    [1],
    {},
    {"a": [{}]},
]
FIRST = {
    "format": STATE_FORMAT,
    "run": "r",
    "begin": 1.0,
    "pid": 1,
    "graph": "g",
    "tasks": ["run"],
    "parameters": {"a": 1},
}
LINES = [
    {"task": "run:a", "at": 2.0, "begins": True},
    {"task": "run:a", "at": 3.0, "state": "ran", "reason": "x", "seconds": 1.0, "preview": "1",
     "output": "sha256:" + "0" * 64, "error": "", "begin": 2.0},
    {"at": 4.0, "ended": True, "same": ["run:b"]},
]  # fmt: skip
CHANGES = [(n, key) for n, line in enumerate([FIRST, *LINES]) for key in line]


@pytest.mark.parametrize(("number", "key"), CHANGES)
@pytest.mark.parametrize("odd", ODD, ids=name_odd)
def test_a_value_of_a_wrong_type_breaks_no_page(project, number, key, odd):
    lines = [dict(line) for line in (FIRST, *LINES)]
    lines[number][key] = odd
    write_lines(project.folder, lines)

    if "r" in list_local_runs(project.folder):
        json.dumps(describe_run(project))
    else:
        with pytest.raises(StoreError):
            describe_run(project)


@pytest.mark.parametrize(
    "odd",
    [*(odd for odd in ODD if repr(odd) not in ("nan", "inf")), "../../victim", "run"],
    ids=name_odd,
)
@pytest.mark.parametrize(
    "key",
    ["function", "place", "line", "slug", "workflow", "upstream", "arguments", "extra", "is_written",
     "is_function_written", "is_workflow_written", "chain", ""],
)  # fmt: skip
def test_a_node_of_a_wrong_form_in_a_stored_graph_breaks_no_page(project, key, odd):
    node = {"function": "f", "place": "", "line": "", "slug": "a", "workflow": "w", "upstream": [],
            "arguments": {}, "chain": ""}  # fmt: skip
    write_lines(project.folder, [FIRST, *LINES])
    path = project.folder / "runs" / "graphs" / "g.json"
    write_state_file(path, {"nodes": {"a": {**node, key: odd} if key else odd}})

    json.dumps(describe_run(project))


def test_a_log_outside_of_the_state_folder_is_not_shown(project):
    (project.root / "private.txt").write_text("private words")
    node = {"function": "f", "slug": "../../private"}
    write_lines(project.folder, [{**FIRST, "begin": time.time()}, *LINES[:1]])
    write_state_file(project.folder / "runs" / "graphs" / "g.json", {"nodes": {"a": node}})

    assert "private words" not in json.dumps(describe_run(project))


@pytest.mark.parametrize("name", ["../../outside", "..", "", "a/b", 5])
def test_a_graph_outside_of_its_folder_is_not_read(project, name):
    write_lines(project.folder, [{**FIRST, "graph": name}, *LINES])
    write_state_file(project.root / "outside.json", {"nodes": {"a": {"function": "planted"}}})

    assert read_run_graph(project.folder, read_local_run(project.folder, "r")) == {}


def test_a_sparse_file_of_many_gigabytes_is_no_run(project):
    write_lines(project.folder, [FIRST, *LINES])
    os.truncate(project.folder / "runs" / "r.jsonl", 6 << 30)

    assert list_local_runs(project.folder) == []


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "project"
    root.mkdir()
    text = "from fftasks import Workflow, workflow\n@workflow\ndef f():\n    return 1\n"
    (root / "wf.py").write_text(f"{text}Workflow(f().set_name('other'), name='w')\n")
    (root / "config").mkdir()
    (root / "config" / "default.yaml").write_text("workflows: [wf.py]\n")
    open_project.cache_clear()
    return open_project(root)


def write_lines(folder, lines):
    shutil.rmtree(folder / "runs", ignore_errors=True)
    (folder / "runs" / "graphs").mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "runs" / f"{FIRST['run']}.jsonl").write_text(text)
