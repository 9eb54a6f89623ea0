"""`doit submit`: from an edit to a run, on a real engine, a real registry, and a server that speaks KFP."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import fftasks
from fftasks.records import read_record
from fftasks.runner.artifact import read_artifact
from tests.sample import Sample
from tests.services.kfp_server import Fault

REPOSITORY = Path(__file__).parents[2]

WORKFLOW = """
from decimal import Decimal
from fftasks import Workflow, workflow


@workflow
def describe(*values, **named):
    return [repr(value) for value in values] + [f"{k}={v!r}" for k, v in named.items()]


@workflow
def make(text, count, ratio, flag, rows, table):
    assert (type(count), type(ratio), type(flag)) == (int, float, bool)
    return {"text": text, "numbers": [count, ratio], "rows": rows, "table": table}


@workflow
def join(parts, first, *rest):
    return [parts, first, list(rest)]


made = make("x", 3, 2.0, True, [1, 2.0, "a"], {"k": [1]}).set_name("make it")
shown = describe(None, (1, 2), {3}, b"x", Decimal("1.5"), 1, 1.0, int, big=2**60, none=None)
joined = join({"a": made["text"], "b": [shown[0], made["numbers"]]}, made, shown[1:3]).set_name("join")
Workflow(joined, shown.set_name("constants"), name="all kinds")
"""


@pytest.fixture
def sample(tmp_path, registry, kfp_cluster, base_image, monkeypatch):
    project = Sample.make(tmp_path, WORKFLOW)
    connect(project, registry, kfp_cluster, base_image, monkeypatch)
    return project


def connect(project, registry, server, base_image, monkeypatch):
    project.write(
        "config/default.yaml",
        f"""
workflows: [wf.py]
image:
  base: {base_image}
registry:
  server: {registry.server}
  repository: tests/{project.root.name.lower().strip("_")}
  username: {registry.credentials["username"]}
  password: ${{REGISTRY_PASSWORD}}
kfp:
  host: {server.url}
""",
    )
    monkeypatch.setenv("REGISTRY_PASSWORD", registry.credentials["password"])


def find_run_id(output):
    return re.search(r"run ([\w-]+): http", output)[1]


def find_result(cluster, run, task):
    """Return the value that a task left in the cluster's object store."""
    outputs = run.tasks[task].executor_input["outputs"]["artifacts"]
    return read_artifact(cluster.store.get_path(outputs["result"]["artifacts"][0]["uri"]))


def test_a_run_on_the_cluster_gives_what_the_run_here_gives(sample, kfp_cluster, cluster):
    sample.doit("run")
    output = sample.doit("submit")

    run = kfp_cluster.wait(find_run_id(output))

    assert run.state == "SUCCEEDED", run.error
    for name, task in (("join", "join"), ("constants", "constants")):
        assert find_result(cluster, run, task) == fftasks.load(name, sample.root)


def test_an_unchanged_submit_says_which_run_there_is(sample, kfp_cluster):
    first = sample.doit("submit")
    kfp_cluster.wait(find_run_id(first))

    again = sample.doit("submit")

    assert find_run_id(again) == find_run_id(first)
    assert "up to date" in again
    assert len(kfp_cluster.runs) == 1


def test_two_submits_at_once_make_one_run(sample, kfp_cluster):
    sample.doit("pipeline")  # so that both come to the run at about the same time

    both = [sample.start("submit"), sample.start("submit")]
    outputs = [process.communicate()[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs
    assert len({find_run_id(output) for output in outputs}) == 1
    assert len(kfp_cluster.runs) == 1


def test_again_makes_another_run(sample, kfp_cluster):
    first = sample.doit("submit")

    assert find_run_id(sample.doit("submit", "--again")) != find_run_id(first)
    assert len(kfp_cluster.runs) == 2


def test_a_failed_run_is_started_again(sample, kfp_cluster):
    sample.edit("wf.py", "return [parts", "raise SystemExit(3)\n    return [parts")
    first = find_run_id(sample.doit("submit"))
    assert kfp_cluster.wait(first).state == "FAILED"

    assert find_run_id(sample.doit("submit")) != first


def test_a_no_op_imports_neither_kfp_nor_docker_nor_the_users_code(sample):
    sample.doit("submit")
    sample.edit("dodo.py", "import *", "import *\nimport atexit, sys\natexit.register("
                "lambda: print('loaded', [m for m in ('wf', 'kfp', 'docker', 'requests')"
                " if m in sys.modules]))")  # fmt: skip
    sample.write(".dockerignore", "dodo.py\n")
    sample.doit("submit")

    assert "loaded []" in sample.doit("submit")


def test_after_an_edit_of_code_tasks_are_not_made_again(sample):
    sample.doit("submit")
    sample.edit("wf.py", "return [parts", "return [1, parts")

    output = sample.doit("submit")

    made = re.findall(r"^\.  (\w+)", output, re.MULTILINE)
    # the component files are written beside the pipeline
    made.remove("components")
    assert made == ["context", "image", "push", "pins", "pipeline", "submit"]


def test_a_component_file_can_be_loaded_and_used_by_others(sample):
    sample.doit("components")
    script = f"""
import kfp
from kfp import components, dsl
make = components.load_component_from_file({str(sample.root / ".fftasks/components")!r} + "/SLUG/NODE")

@dsl.pipeline(name="other")
def other():
    make(text="y")

kfp.compiler.Compiler().compile(other, "other.yaml")
"""
    folder = next(p for p in (sample.root / ".fftasks" / "components").iterdir() if p.is_dir())
    file = next(folder.glob("make-it-*.yaml"))
    script = script.replace("SLUG", folder.name).replace("NODE", file.name)

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=sample.root, check=True)

    assert "y" in (sample.root / "other.yaml").read_text()


def test_secrets_are_in_no_record_and_no_log(sample, registry):
    sample.doit("submit")

    for path in (sample.root / ".fftasks").rglob("*"):
        if path.is_file():
            assert registry.credentials["password"].encode() not in path.read_bytes(), path


def test_the_pipeline_runs_one_image_by_digest_and_names_the_node_twice(sample):
    sample.doit("pipeline")

    text = next((sample.root / ".fftasks" / "pipeline").glob("*.yaml")).read_text()
    executors = yaml.safe_load(text)["deploymentSpec"]["executors"].values()
    for container in (executor["container"] for executor in executors):
        assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        assert env["FFFUNCTION"] in container["args"]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("KFP__HOST", "http://localhost:1", "Connection refused"),
        ("IMAGE__BASE", "localhost:1/no/such:image", "image.base"),
        ("REGISTRY__PASSWORD", "wrong", "registry.password"),
        ("REGISTRY__SERVER", "localhost:1", "registry"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(sample, setting, value, said):
    output = sample.doit("submit", code=1, **{f"FFTASKS_{setting}": value})

    assert output.count("!! ") == 1
    assert said in output
    assert "Traceback" not in output
    assert "wrong" not in output or setting != "REGISTRY__PASSWORD" or "= wrong" not in output


def test_an_engine_that_is_not_there_is_one_clear_error(sample):
    output = sample.doit("image", code=1, DOCKER_HOST="unix:///nowhere.sock")

    assert output.count("!! ") == 1
    assert "Traceback" not in output


def test_a_registry_that_is_away_is_an_error_and_the_next_push_finishes(sample, registry):
    sample.doit("image")
    registry.stop()
    sample.doit("push", code=1)
    assert not (sample.root / ".fftasks" / "push.json").exists()
    registry.start()

    assert "@sha256:" in sample.doit("push")


def test_an_image_that_was_pruned_is_built_again(sample, engine):
    sample.doit("image")
    record = yaml.safe_load((sample.root / ".fftasks" / "image.json").read_text())
    engine.images.remove(record["output"], force=True)

    assert "@sha256:" in sample.doit("push")


def test_the_base_is_looked_up_once_and_again_when_asked(sample, engine, base_image):
    moving = f"fftasks-test/moving:{sample.root.name}".lower()
    engine.images.get(base_image).tag(moving)
    environ = {"FFTASKS_IMAGE__BASE": moving}
    sample.doit("image", **environ)
    first = read_record(sample.root / ".fftasks" / "base.json")
    container = engine.containers.create(base_image, "x")
    container.commit(*moving.split(":"), changes="ENV X=1")
    container.remove()

    sample.edit("wf.py", "return [parts", "return [2, parts")
    sample.doit("image", **environ)
    assert read_record(sample.root / ".fftasks" / "image.json")["base"] == first["output"]
    sample.doit("image", "--update-base", **environ)

    record = read_record(sample.root / ".fftasks" / "image.json")
    assert record["base"] == engine.images.get(moving).id != first["output"]
    engine.images.remove(moving, force=True)


def test_an_image_that_was_removed_from_the_registry_is_pushed_again(sample, registry, kfp_cluster):
    kfp_cluster.wait(find_run_id(sample.doit("submit")))
    record = read_record(sample.root / ".fftasks" / "push.json")
    repository = record["inputs"]["repository"].partition("/")[2]
    registry.delete(repository, record["output"])
    assert "removed from the registry" not in sample.doit(
        "plan", "submit"
    )  # its run has its results

    environ = {"FFTASKS_KFP__RUN_NAME": "another"}
    output = sample.doit("plan", "submit", **environ)
    assert "image was removed from the registry" in output
    assert "setting kfp.run_name:" in output
    assert "-> another" in output
    output = sample.doit("plan", "push", FFTASKS_REGISTRY__SERVER="localhost:1")
    assert f"setting registry.server: {registry.server} -> localhost:1\n" in output
    sample.doit("submit", **environ)

    assert registry.get_digest(repository, "latest") == record["output"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=401, path="/runs", method="POST"), "kfp.token"),
        (Fault(status=403, path="/runs", method="POST"), "namespace"),
        (Fault(status=500, path="/runs", method="POST", times=9), "500"),
        (Fault(body=b"<html>Log in</html>", path="/runs", method="POST"), "submit"),
    ],
)
def test_a_server_that_refuses_is_one_clear_error_and_leaves_no_run(
    sample, kfp_cluster, fault, said
):
    sample.doit("pipeline")
    kfp_cluster.faults.append(fault)

    output = sample.doit("submit", code=1)

    assert output.count("!! ") == 1
    assert said in output
    assert not list((sample.root / ".fftasks").glob("submit/*.json"))
    kfp_cluster.faults.clear()
    sample.doit("submit")
    assert len(kfp_cluster.runs) == 1


def test_an_unknown_function_in_the_container_lists_the_names(sample, engine):
    sample.doit("image")
    record = yaml.safe_load((sample.root / ".fftasks" / "image.json").read_text())

    output = run_container(record["output"], "nope")

    assert "there is no node 'nope'" in output
    assert "'join'" in output


def run_container(image, function):
    command = ["docker", "run", "--rm", "--network=none", "-e", f"FFFUNCTION={function}", image]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode
    return completed.stderr


SCRIPT = """
from fftasks import KFPWorkflow, workflow

@workflow
def sum(a, b):
    return a + b

def build():
    flow = KFPWorkflow(sum(sum(1, 2).set_name("one"), 3).set_name("two"), workflow_name="sums")
    flow.set_baseimage("BASE")
    flow.set_registry_credentials({"server": "SERVER", "username": "USER", "password": "PASSWORD"})
    flow.set_kfp_host("HOST")
    return flow

WHERE
"""


@pytest.mark.parametrize(
    ("where", "works"),
    [
        ("handle = build().run(); print(handle.run_id, handle.url)", True),
        (
            "if __name__ == '__main__':\n    handle = build().run(); print(handle.run_id, handle.url)",
            True,
        ),
        ("import sys\nif 'x' in sys.argv:\n    build().run()", False),
    ],
)
def test_a_script_submits_itself(
    tmp_path, registry, kfp_cluster, cluster, base_image, where, works
):
    text = (
        SCRIPT.replace("WHERE", where).replace("BASE", base_image).replace("HOST", kfp_cluster.url)
    )
    text = text.replace("SERVER", registry.server).replace("USER", registry.credentials["username"])
    (tmp_path / "script.py").write_text(text.replace("PASSWORD", registry.credentials["password"]))

    completed = subprocess.run(
        [sys.executable, "script.py", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    if not works:
        assert "a container that imports the file does not find workflow 'sums'" in completed.stderr
        return
    assert completed.returncode == 0, completed.stderr
    run_id, url = completed.stdout.splitlines()[-1].split()
    run = kfp_cluster.wait(run_id)
    assert run.state == "SUCCEEDED", run.error
    assert run_id in url
    assert find_result(cluster, run, "two") == 6


def test_a_graph_built_inside_a_function_is_refused(tmp_path):
    text = SCRIPT.replace("WHERE", "").replace("BASE", "python")
    (tmp_path / "script.py").write_text(text)
    call = "import script; script.build().run()"

    completed = subprocess.run(
        [sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert "WorkflowError" in completed.stderr
    assert "inside a function" in completed.stderr


def test_the_compiled_pipeline_runs_in_kfps_own_local_runner(sample):
    sample.doit("run")
    sample.doit("pipeline")
    text = next((sample.root / ".fftasks" / "pipeline").glob("*.yaml"))
    script = f"""
import os, warnings
warnings.simplefilter("ignore")
from kfp import components, local
runner = local.DockerRunner(network_mode="none")
local.init(runner, pipeline_root={str(sample.root / "out")!r}, raise_on_error=True)
task = components.load_component_from_file({str(text)!r})()
"""
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}

    completed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=sample.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 0, completed.stdout + completed.stderr
    (joined,) = (sample.root / "out").rglob("join/result")
    assert read_artifact(joined) == fftasks.load("join", sample.root)


def test_a_run_is_followed_to_its_end_looked_at_and_replayed(sample, kfp_cluster, cluster):
    sample.edit(
        "wf.py",
        "return [parts",
        "print('about to fail')\n    raise ValueError('no')\n    return [parts",
    )

    output = sample.doit("submit", "--watch", code=1)

    run_id = find_run_id(output)
    assert "✗ join  failed" in output
    assert "ValueError: no" in output
    assert "about to fail" in output
    status = sample.doit("status")
    assert re.search(r"● +constants +ran", status)
    assert re.search(r"✗ +join +failed", status)
    assert "about to fail" in sample.doit("logs", "join", run_id[:8])
    assert f"{run_id[:8]}*" in sample.doit("runs")
    assert "has already ended" in sample.doit("cancel")
    mount = {"FFTASKS_OBJECT_STORE__MOUNT": f"{cluster.folder}/bucket/minio"}
    sample.edit("wf.py", "ValueError('no')", "ValueError('not here')")
    assert "ValueError: not here" in sample.doit("replay", "join", code=1, **mount)
    replayed = sample.doit("replay", "join", "--docker", code=1, **mount)
    assert "about to fail" in replayed
    assert "ValueError: no\n" in replayed
    assert sample.doit("replay", "constants", "--docker", **mount).startswith("['None', '(1, 2)'")
    debugged = subprocess.run(
        [sys.executable, "-m", "doit", "replay", "join", "--docker", "--pdb"],
        cwd=sample.root,
        env={**os.environ, **mount},
        input="p 'seen', first['text']\nq\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "('seen', 'x')" in debugged.stdout, debugged.stderr
    assert debugged.returncode == 1
    sample.edit("wf.py", "ValueError('not here')", "ValueError('no')")

    # an edit that only the next run has; a run that goes on is followed, and none is started beside it
    sample.edit("wf.py", "    raise ValueError('no')\n", "")
    succeeded = sample.doit("submit", "--watch")
    again = sample.doit("submit", FFTASKS_KFP__WATCH="true")

    assert find_run_id(again) == find_run_id(succeeded) != run_id
    assert "run 'all kinds' has succeeded" in again
    assert len(kfp_cluster.runs) == 2
    assert "run 'all kinds'" not in sample.doit("submit", "--no-watch", FFTASKS_KFP__WATCH="true")
    assert "all kinds: uploaded, http" in sample.doit("upload")
    assert '"is_new": false' in sample.doit("upload", "all kinds", "--json")
    assert "all kinds: scheduled" in sample.doit("schedule", "0 0 6 * * *", "all kinds")
    assert "recurring run removed" in sample.doit("schedule", "--off")
