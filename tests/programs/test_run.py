"""`doit run`: what a user sees, from an empty folder to the results."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fftasks
from fftasks.errors import StoreError, WorkflowError
from tests.sample import Sample

ALL = ["ends", "report", "total", "values"]


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def test_all_nodes_run_and_the_results_are_shown(chain):
    output = chain.doit()

    assert "report['scaled'] = 120" in output
    assert "ends = 3" in output
    assert re.search(r"^4 ran; \d+\.\d s$", output, re.MULTILINE)


def test_a_second_run_does_nothing_and_shows_the_results_again(chain):
    chain.doit("run")

    output = chain.doit("run")

    assert "4 up to date" in output
    assert "report['scaled'] = 120" in output
    assert ".  run:" not in output


def test_a_no_op_imports_neither_the_users_code_nor_kfp_nor_docker(chain):
    chain.doit("run")
    chain.edit("dodo.py", "import *", "import *\nimport atexit, sys\natexit.register("
               "lambda: print('loaded', [m for m in ('wf', 'kfp', 'docker', 'numpy', 'requests', 'rich',"
               " 'fftasks.secrets.scanner')"
               " if m in sys.modules]))")  # fmt: skip

    for command in ("run", "list"):
        assert "loaded []" in chain.doit(command)


@pytest.mark.parametrize("arguments", [("run", "-n", "4"), ("run", "-n", "0"), ("run:report",)])
def test_doits_own_options_work(chain, arguments):
    assert "report" in chain.ran(*arguments)


def test_who_has_no_secrets_runs_and_looks_all_the_same(chain):
    chain.write(
        "config/default.yaml",
        """
workflows: [wf.py]
image: {build_env: {PIP_INDEX_URL: "https://me:${NOPE}@host/simple"}}
registry: {server: "localhost:1", username: me, password: "${NOPE}"}
kfp: {token: "${NOPE}"}
object_store: {secret_key: "${NOPE}"}
""",
    )

    chain.doit("run")
    for command in ("list", "run", "report", "graph"):
        chain.doit(command)
    assert "push: 3 to run" in chain.doit("plan", "push")
    assert "registry.password needs the environment variable NOPE" in chain.doit(
        "push", code=1, FFTASKS_IMAGE__BUILD_ENV="{}"
    )
    assert "kfp.token needs the environment variable NOPE" in chain.doit("runs", code=3)


def test_one_node_can_be_run_with_what_it_needs(chain):
    assert chain.ran("run:total") == ["total", "values"]


def test_after_an_edit_only_the_affected_nodes_run(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")

    assert chain.ran() == ["report", "total"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("factor=2", "factor=3", "total  0.00 s  (constant factor: 2 -> 3)"),
        ("return 10 * x", "return 11 * x", "report  0.00 s  (wf.py: function scale() changed)"),
        ("load(4)", "load(5)", "total  0.00 s  (result of values changed)"),
        ("scale(value)", "value", "report  0.00 s  (wf.py: function report() changed)"),
    ],
)
def test_the_reason_is_shown(chain, old, new, reason):
    chain.doit()
    chain.edit("wf.py", old, new)

    output = re.sub(r"\d\.\d\d s", "0.00 s", chain.doit())

    assert f".  run:{reason}" in output


def test_an_equal_result_stops_the_wave(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=2.0")
    first = chain.ran()
    chain.edit("wf.py", "factor=2.0", "factor=2")

    assert first == ["report", "total"]
    assert chain.ran() == []


def test_nothing_runs_when_doits_database_is_gone(chain):
    chain.doit()
    (chain.root / ".fftasks" / "doit.sqlite3").unlink()

    assert chain.ran() == []


def test_a_damaged_database_is_no_matter(chain):
    chain.doit()
    (chain.root / ".fftasks" / "doit.sqlite3").write_bytes(b"not a database, but long enough" * 100)

    assert chain.ran() == []


def test_everything_runs_when_the_state_folder_is_gone(chain):
    chain.doit()
    subprocess.run(["rm", "-r", str(chain.root / ".fftasks")], check=True)

    assert chain.ran() == ALL


def test_a_copy_of_the_project_runs_nothing(chain, tmp_path_factory):
    chain.doit()
    there = tmp_path_factory.mktemp("elsewhere") / "project"
    subprocess.run(["cp", "-r", str(chain.root), str(there)], check=True)

    assert Sample(there).ran() == []


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_artifact_is_made_again(chain, damage):
    chain.doit()
    artifact = find_artifact(chain, "total")
    content = artifact.read_bytes()
    artifact.chmod(0o644)
    artifact.write_bytes(content[:-1] + b"x" if damage is None else damage)

    assert chain.ran() == ["total"]
    assert "120" in chain.doit()


def test_damage_that_hides_behind_old_times_is_found(chain):
    chain.doit()
    artifact = find_artifact(chain, "total")
    before = artifact.stat()
    artifact.chmod(0o644)
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"x")
    os.utime(artifact, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert chain.ran() == ["total"]


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"output": 3}', '{"output": "x", "inputs": {}}']
)
def test_a_damaged_record_is_made_again(chain, content):
    chain.doit()
    (chain.root / ".fftasks" / "nodes" / "total.json").write_text(content)

    assert chain.ran() == []
    assert "report['scaled'] = 120" in chain.doit()


@pytest.mark.parametrize("content", ["", "{}", '{"output": "sha256:0", "inputs": {}}'])
def test_a_damaged_graph_record_is_made_again(chain, content):
    chain.doit()
    next((chain.root / ".fftasks" / "graph").glob("*.json")).write_text(content)

    assert chain.ran() == []


def test_what_a_node_prints_goes_to_its_log(chain):
    output = chain.doit()

    assert "loading" not in output
    assert (chain.root / ".fftasks" / "logs" / "values.txt").read_text() == "loading 4\n"


def test_a_result_is_printed_and_nothing_else(chain):
    chain.doit()

    assert chain.doit("result", "report") == "{'value': 12, 'scaled': 120}\n"


def test_a_stale_result_is_called_so(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")

    assert "report is out of date" in chain.doit("result", "report")


def test_the_result_of_an_unknown_node_is_an_error_with_the_nearest_name(chain):
    chain.doit()

    assert "did you mean 'report'" in chain.doit("result", "repor", code=3)


def test_a_node_that_never_ran_has_no_result(chain):
    assert "'report' has no result yet" in chain.doit("result", "report", code=1)


def test_a_notebook_loads_results(chain):
    chain.doit()

    assert fftasks.load("report", chain.root) == {"value": 12, "scaled": 120}
    with pytest.raises(WorkflowError, match="there is no node 'x'"):
        fftasks.load("x", chain.root)


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"no \.fftasks"):
        fftasks.load("x", tmp_path)


def test_results_of_the_users_own_classes_come_back(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from dataclasses import dataclass
from fftasks import workflow, LocalWorkflow

@dataclass
class Point:
    x: int

@workflow
def make():
    return Point(3)

@workflow
def move(point):
    return Point(point.x + 1)

LocalWorkflow(move(make()).set_name("moved"), workflow_name="w").run()
print("never seen")
""",
    )

    sample.doit()

    assert sample.doit("result", "moved") == "Point(x=4)\n"


def test_a_graph_under_the_main_guard_is_found(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import workflow, KFPWorkflow

@workflow
def one():
    return 1

def main():
    flow = KFPWorkflow(one().set_name("one"), workflow_name="w")
    handle = flow.run()
    print(handle.url)

if __name__ == "__main__":
    main()
""",
    )

    assert sample.ran() == ["one"]


def test_class_nodes_run_in_order(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import workflow, Workflow

@workflow
class Counter:
    def __init__(self, start):
        self.n, self.seen = start, []

    def add(self, k):
        self.n += k
        self.seen.append(k)
        return self.seen

counter = Counter(10).set_name("counter")
first = counter.add(1).set_name("first")
second = counter.add(2).set_name("second")
Workflow(first, second, name="w")
""",
    )

    output = sample.doit()

    assert "first = [1]\n" in output
    assert "second = [1, 2]\n" in output
    sample.edit("wf.py", "counter.add(2)", "counter.add(3)")
    assert sample.ran() == ["second"]


def test_nodes_of_one_name_in_two_files_have_labels_with_their_workflow(tmp_path):
    text = """
from fftasks import workflow, Workflow

@workflow
def one():
    return VALUE

Workflow(one().set_name("same"), name="NAME")
"""
    sample = Sample.make(tmp_path)
    sample.write("a.py", text.replace("VALUE", "1").replace("NAME", "a"))
    sample.write("b.py", text.replace("VALUE", "2").replace("NAME", "b"))
    sample.write("config/default.yaml", "workflows: [a.py, b.py]\n")

    assert sample.ran() == ["a/same", "b/same"]
    assert sample.doit("result", "b/same") == "2\n"


def test_names_may_be_anything(tmp_path):
    names = ["circles, Nearest Neighbors-model", "../../escape", "ü/ß", "a=b", "*", "x" * 300]
    sample = Sample.make(
        tmp_path / "project",
        f"""
from fftasks import workflow, Workflow

@workflow
def one(x):
    return x

Workflow(*[one(name).set_name(name) for name in {names!r}], name="any name / at all")
""",
    )

    output = sample.doit()

    assert f"{len(names)} ran" in output
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    assert sample.doit("result", names[0]) == f"{names[0]!r}\n"


def find_artifact(sample, name):
    from fftasks.cache.store import Store
    from fftasks.records import read_record

    store = Store(sample.root / ".fftasks")
    record = read_record(store.node_path(name))
    assert record is not None
    return store.artifact_path(record["output"])


FAILING = """
import os, signal, sys
from fftasks import workflow, Workflow

@workflow
def fine():
    return 1

@workflow
def bad(x):
    print("before the end")
    BODY

@workflow
def after(x):
    return x

Workflow(after(bad(fine().set_name("fine")).set_name("bad")).set_name("after"), name="w")
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("sys.exit(3)", "bad ended its process with exit code 3"),
        ("sys.exit(0)", "bad ended its process with exit code 0 without a result"),
        ("os._exit(0)", "bad ended its process with exit code 0 without a result"),
        ('sys.exit("no luck")', "bad ended its process with exit code 1: no luck"),
        ("os._exit(4)", "ended its process with exit code 4"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL (out of memory?)"),
        ("return (i for i in range(3))", "returned a generator that cannot be stored"),
        ("return x[0]", "TypeError: 'int' object is not subscriptable"),
    ],
)
@pytest.mark.parametrize("isolation", ["fork", "fresh"])
def test_a_failing_node_is_shown_once_and_loses_nothing(tmp_path, body, said, isolation):
    sample = Sample.make(tmp_path, FAILING.replace("BODY", body))

    output = sample.doit(code=1, FFTASKS_LOCAL__ISOLATION=isolation)

    assert output.count(said) == 1
    assert "before the end" in output
    assert ".fftasks/logs/bad.txt" in output
    assert "1 ran, 1 failed" in output
    assert "fftasks/runner" not in output
    sample.edit("wf.py", body, "return 2")
    assert sample.ran() == ["after", "bad"]


def test_the_traceback_begins_in_the_users_function(tmp_path):
    sample = Sample.make(tmp_path, FAILING.replace("BODY", "return 1 / 0"))

    output = sample.doit(code=1)

    frames = re.findall(r'File "(.*?)", line', output)
    assert [Path(frame).name for frame in frames] == ["wf.py"]


def test_a_result_that_could_not_be_made_anew_is_not_shown(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import workflow, Workflow

@workflow
def first():
    return 1

@workflow
def second(x):
    return x

Workflow(second(first()).set_name("second"), name="w")
""",
    )
    assert "second = 1" in sample.doit()
    sample.edit("wf.py", "return 1", "return 1 / 0")

    output = sample.doit("run", "--continue", code=1)

    assert "second = " not in output
    assert "1 failed, 1 skipped" in output


def test_the_others_finish_with_continue(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import workflow, Workflow

@workflow
def bad():
    raise ValueError("no")

@workflow
def fine(x):
    return x

Workflow(bad().set_name("bad"), *[fine(i).set_name(f"fine{i}") for i in range(5)], name="w")
""",
    )

    stopped = sample.doit("run", "-n", "1", code=1)
    assert re.search(r"1 failed, \d skipped; ", stopped)
    assert "hint: `doit run --continue` also runs" in stopped

    # doit itself would count the group "run", which cannot be complete, as an error, and return 2
    assert sample.ran("run", "--continue", code=1) == [f"fine{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "wf.py builds no workflow"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        (
            "import nothing_of_this_name.part",
            "hint: if nothing_of_this_name is a package: pip install",
        ),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(2)", "SystemExit"),
        (
            "from fftasks import *\n@workflow\ndef f(x): return x\nf(1, 2)",
            "wf.py:4: invalid call of f(): too many positional arguments",
        ),
        (
            "from fftasks import *\n@workflow\ndef f(x): return x\n\
a = f(1).set_name('a'); b = f(a).set_name('a')\nWorkflow(b, name='w')",
            "two nodes are called 'a'",
        ),
        (
            "from fftasks import *\n@workflow\nclass C:\n  def go(self, x): return x\n\
c = C(); a = c.go(1); b = c.go(a); a.parents.append(b)\nWorkflow(b, name='w')",
            "form a cycle",
        ),
    ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path, text, said):
    sample = Sample.make(tmp_path, text)

    output = sample.doit(code=3)

    assert said in output
    assert "fftasks/runner" not in output


def test_an_error_in_the_users_file_keeps_the_results(chain):
    chain.doit()
    text = (chain.root / "wf.py").read_text()
    chain.write("wf.py", text + "\nraise ValueError('oops')\n" * 0 + "def broken(:\n")
    chain.doit(code=3)
    chain.write("wf.py", text)

    assert chain.ran() == []


SLOW = """
import time
from fftasks import workflow, Workflow

@workflow
def quick(x):
    return x

@workflow
def slow(x):
    time.sleep(60)
    return x

Workflow(slow(quick(1).set_name("quick")).set_name("slow"), name="w")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_has_finished_stays_finished(tmp_path, number):
    sample = Sample.make(tmp_path, SLOW)
    process = sample.start()
    wait_for(tmp_path / ".fftasks" / "logs" / "slow.txt")
    process.send_signal(number)
    output = process.communicate()[0]

    assert process.returncode != 0
    assert "Traceback" not in output
    sample.edit("wf.py", "time.sleep(60)", "pass")
    assert sample.ran() == ["slow"]


def test_nothing_goes_on_when_the_run_is_killed(tmp_path):
    sample = Sample.make(
        tmp_path, SLOW.replace("time.sleep(60)", "time.sleep(3); open('late', 'w')")
    )
    process = sample.start()
    wait_for(tmp_path / ".fftasks" / "logs" / "slow.txt")
    process.kill()
    process.communicate()

    time.sleep(4)

    assert not (tmp_path / "late").exists()


def test_two_runs_at_once_do_a_node_once(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
import time
from fftasks import workflow, Workflow

@workflow(reads=[])
def step(x):
    with open("calls", "a") as file:
        file.write("x")
    time.sleep(0.3)
    return x + 1

node = step(0)
for i in range(5):
    node = step(node)
Workflow(node, name="w")
""",
    )

    processes = [sample.start() for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (tmp_path / "calls").read_text() == "x" * 6


def test_a_file_that_is_edited_while_nodes_run_is_not_filed_wrongly(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
import time
from fftasks import workflow, Workflow

@workflow
def first():
    time.sleep(1.5)
    return 1

@workflow
def second(x):
    import helper
    return helper.VALUE + x

Workflow(second(first().set_name("first")).set_name("second"), name="w")
""",
    )
    sample.write("helper.py", "VALUE = 1\n")
    process = sample.start()
    wait_for(tmp_path / ".fftasks" / "logs" / "first.txt")
    sample.write("helper.py", "VALUE = 1000\n")
    process.communicate()

    sample.doit()

    assert sample.doit("result", "second") == "1001\n"


def test_the_graph_is_made_anew_when_data_it_read_or_its_environment_changes(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
import json, os
from fftasks import workflow, Workflow

@workflow(reads=[])
def show(x):
    return x

with open("parameters.json") as file:
    parameters = json.load(file)
Workflow(show(parameters["a"]).set_name("a"), show(os.environ.get("ALPHA")).set_name("b"),
         show(sorted(os.listdir("data"))).set_name("c"), name="w")
""",
    )
    sample.write("parameters.json", '{"a": 1}')
    sample.write("data/x", "")
    sample.doit()

    sample.write("parameters.json", '{"a": 2}')
    assert sample.ran() == ["a"]
    assert sample.ran(ALPHA="3") == ["b"]
    sample.write("data/y", "")
    assert sample.ran(ALPHA="3") == ["c"]
    assert sample.ran(ALPHA="3") == []


def test_random_numbers_differ_from_node_to_node_unless_seeded(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
import random
import numpy as np
from fftasks import workflow, Workflow

@workflow
def draw(i):
    return random.random(), np.random.rand()

Workflow(*[draw(i).set_name(f"n{i}") for i in range(3)], name="w")
""",
    )
    sample.doit("run", "-n", "1")

    draws = [fftasks.load(f"n{i}", tmp_path) for i in range(3)]

    assert len({x for draw in draws for x in draw}) == 6
    sample.edit("wf.py", "@workflow", "np.random.seed(7)\n@workflow")
    sample.doit("run", "-n", "1")
    assert len({fftasks.load(f"n{i}", tmp_path)[1] for i in range(3)}) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root to be mounted")
def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import workflow, Workflow

@workflow
def small():
    return 1

@workflow
def big(x):
    return bytes(50_000_000)

Workflow(big(small().set_name("small")).set_name("big"), name="w")
""",
    )
    (tmp_path / ".fftasks").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(tmp_path / ".fftasks")]
    subprocess.run(mount, check=True)
    try:
        output = sample.doit(code=1)

        assert "No space left on device" in output
        assert "free space on the disk" in output
        sample.edit("wf.py", "50_000_000", "5_000")
        assert sample.ran() == ["big"]
    finally:
        subprocess.run(["umount", str(tmp_path / ".fftasks")], check=True)


def wait_for(path, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)
    time.sleep(0.1)


def test_the_module_runs_doit_without_a_dodo_file(chain):
    (chain.root / "dodo.py").unlink()

    output = subprocess.run(
        [sys.executable, "-m", "fftasks.tasks", "run"],
        cwd=chain.root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert "4 ran" in output


def test_a_file_that_goes_wrong_after_its_workflow_works_with_a_warning(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from fftasks import LocalWorkflow, workflow

@workflow
def one():
    return 1

result = LocalWorkflow(one().set_name("one"), workflow_name="w").run()
assert len(result) == 3
""",
    )

    output = sample.doit()

    assert "warning: wf.py stopped after its workflow" in output
    assert "one = 1" in output


def test_a_password_in_the_settings_is_warned_of_once(chain):
    chain.write("config/default.yaml", "workflows: [wf.py]\nregistry: {password: hunter2}\n")

    output = chain.doit()

    assert output.count("warning: ") == 1
    assert "hunter2" not in output


READING = """
from pathlib import Path
from fftasks import Workflow, workflow

@workflow
def read_all():
    return Path("data/a.txt").read_text()

@workflow(reads=["data/b*.txt"])
def read_some():
    return Path("data/b.txt").read_text()

@workflow(reads=[])
def read_nothing():
    return 1

@workflow(version="1")
def versioned():
    return Path("data/a.txt").read_text()

@workflow(reads=[])
def write():
    Path("out.txt").write_text("made")
    return 1

Workflow(read_all().set_name("all"), read_some().set_name("some"), read_nothing().set_name("nothing"),
         versioned().set_name("versioned"), write().set_name("writer"), name="w")
"""


@pytest.fixture
def reading(tmp_path):
    sample = Sample.make(tmp_path, READING)
    sample.write("data/a.txt", "a")
    sample.write("data/b.txt", "b")
    sample.write(".dockerignore", "*.md\n")
    assert len(sample.ran()) == 5
    return sample


def test_files_that_nodes_make_are_no_data(reading):
    assert reading.ran() == []


@pytest.mark.parametrize(
    ("path", "nodes", "reason"),
    [
        ("data/a.txt", ["all"], "(data file data/a.txt changed)"),
        ("data/b.txt", ["all", "some"], "(data/b.txt changed)"),
        ("data/b2.txt", ["all", "some"], "(data/b2.txt is new)"),
        ("data/c.txt", ["all"], "(data file data/c.txt is new)"),
        ("notes.md", [], ""),
        ("config/prod.yaml", [], ""),
        ("requirements.txt", ["all", "nothing", "some", "writer"], "(requirements changed)"),
    ],
)
def test_data_files_count_for_those_that_may_read_them(reading, path, nodes, reason):
    reading.write(path, "changed")
    output = reading.doit("plan", "run")
    assert reason[1:-1] in output

    assert reading.ran() == nodes


def test_a_comment_in_the_requirements_runs_nothing(reading):
    reading.write("requirements.txt", "# nothing yet\n")

    assert reading.ran() == []


def test_a_version_beats_code_and_data(reading):
    reading.edit(
        "wf.py",
        'def versioned():\n    return Path("data/a.txt")',
        'def versioned():\n    return Path("data/b.txt")',
    )
    assert reading.ran() == []

    reading.edit("wf.py", 'version="1"', 'version="2"')
    assert reading.ran() == ["versioned"]


def test_a_file_that_is_made_and_read_counts(tmp_path):
    sample = Sample.make(
        tmp_path,
        """
from pathlib import Path
from fftasks import Workflow, workflow

@workflow
def write():
    Path("shared.txt").write_text("made")

@workflow
def read(_):
    return Path("shared.txt").read_text()

Workflow(read(write().set_name("write")).set_name("read"), name="w")
""",
    )
    sample.doit()
    sample.doit()
    sample.write("shared.txt", "edited by hand")

    assert "read" in sample.ran()


def test_a_state_folder_that_is_deleted_during_a_run_is_a_clear_error(tmp_path):
    sample = Sample.make(tmp_path, SLOW.replace("time.sleep(60)", "time.sleep(1.5)"))
    process = sample.start()
    wait_for(tmp_path / ".fftasks" / "logs" / "slow.txt")
    shutil.rmtree(tmp_path / ".fftasks")
    output = process.communicate()[0]

    assert process.returncode == 1
    assert "the folder was deleted while the node ran: run again" in output
    assert sample.ran() == ["quick", "slow"]


def test_a_folder_in_place_of_a_record_is_replaced(chain):
    chain.doit()
    record = chain.root / ".fftasks" / "nodes" / "total.json"
    record.unlink()
    record.mkdir()

    assert chain.ran() == []
    assert record.is_file()


def test_a_run_goes_on_when_nobody_reads_what_it_prints(chain):
    process = chain.start()
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(60) == 0
    assert chain.ran() == []
