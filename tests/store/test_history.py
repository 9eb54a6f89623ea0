"""The history of local runs."""

import json
import os
import signal
import time

import pytest

from fftasks.errors import StoreError
from fftasks.store.history import Journal, find_run, list_runs, read_graph, read_run
from tests.sample import Sample


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def read_last(sample):
    folder = sample.root / ".fftasks"
    return read_run(folder, find_run(folder))


def make_journal(folder, begin):
    return Journal(folder, lambda: ({"begin": begin}, "graph", lambda: {"a": {}}))


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
    graph = read_graph(chain.root / ".fftasks", run)
    assert graph["total"]["upstream"] == ["values"]


def test_a_run_with_nothing_to_do_leaves_nothing(chain):
    chain.doit()
    before = list_runs(chain.root / ".fftasks")
    chain.doit()
    (chain.root / ".fftasks" / "doit.sqlite3").unlink()
    chain.doit()  # looks at everything again

    assert list_runs(chain.root / ".fftasks") == before


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
    while not list_runs(tmp_path / ".fftasks"):
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

    assert len(list_runs(tmp_path)) == 30


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
    path = tmp_path / "runs" / f"{find_run(tmp_path)}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"task": "run:b", "at": 1, "begins": True})[:-5])

    assert set(read_run(tmp_path, path.stem).events) == {"run:a"}


def test_a_run_is_found_by_the_beginning_of_its_name(tmp_path):
    for begin in (1e9, 1e9 + 86400):
        make_journal(tmp_path, begin).end_task("run:a", "ran")
    first, last = list_runs(tmp_path)

    assert find_run(tmp_path) == last
    assert find_run(tmp_path, first[:8]) == first
    with pytest.raises(StoreError, match="several runs"):
        find_run(tmp_path, "2001")
    with pytest.raises(StoreError, match="no run 'x'"):
        find_run(tmp_path, "x")


def test_a_run_is_told_with_the_values_of_its_parameters(tmp_path):
    text = "from fftasks import Parameter, Workflow, workflow\n\n\n@workflow\ndef f(x):\n    return x\n\n\n"
    sample = Sample.make(tmp_path, text + 'Workflow(f(Parameter("rate", default=0.1)), name="w")\n')

    sample.doit("run", "rate=0.5")

    assert read_last(sample).header["parameters"] == {"rate": "0.5"}
