"""From a container's start to the call of the user's function, beside Python alone and kfp's own way."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from fftasks.records import read_record
from tests.benchmarks.image import make_settings
from tests.benchmarks.measure import Cost, alternate, doit
from tests.benchmarks.services import Services, apart, start_services
from tests.benchmarks.table import Row

TITLE = "a container's start until the user's function is called"

_CODE = """\
import time
from fftasks import Workflow, workflow

@workflow
def step():
    print("called", time.time(), flush=True)

Workflow(step().set_name("step"), name="w")
"""
_KFP = """\
from kfp import compiler, dsl

@dsl.component(base_image="BASE")
def step():
    import time
    print("called", time.time(), flush=True)

@dsl.pipeline
def whole():
    step()

compiler.Compiler().compile(whole, "pipeline.yaml")
"""
_FILE = {"outputFile": "/tmp/kfp/output_metadata.json"}
_RESULT = {"name": "result", "uri": "minio://b/r/result"}
_INPUT = {"inputs": {}, "outputs": {"artifacts": {"result": {"artifacts": [_RESULT]}}, **_FILE}}
_CALLED = "import time; print('called', time.time())"


def measure(folder: Path) -> Iterator[Row]:
    """Yield what the runtime adds to importing the user's module, and how long kfp's own component takes."""
    with start_services(folder) as services:
        yield from apart(functools.partial(_measure, folder, services))


def _measure(folder: Path, services: Services) -> Iterator[Row]:
    project = folder / "project"
    (project / "config").mkdir(parents=True)
    (project / "wf.py").write_text(_CODE)
    (project / "dodo.py").write_text("from fftasks.tasks import *\n")
    (project / "config" / "default.yaml").write_text(make_settings(services, "docker", "start"))
    doit(project, "pipeline")
    record = read_record(project / ".fftasks" / "image.json")
    assert record is not None
    image = record["output"]
    ours = _read_command(next((project / ".fftasks" / "pipeline").glob("*.yaml")))
    environment = ["-e", "FFFUNCTION=step"]
    python, module, figure = alternate(
        9,
        lambda: _start(image, ["python3", "-c", _CALLED]),
        lambda: _start(image, ["python3", "-c", f"import wf; {_CALLED}"]),
        lambda: _start(image, ours, environment),
    )
    yield Row("python alone", python.wall, "", python.wall)
    yield Row("importing the user's module", module.wall, "python alone", python.wall)
    yield Row("the user's function is called", figure.wall, "python alone", python.wall)
    added = max(figure.wall - module.wall, 0.001)
    yield Row("what fftasks adds to the import", added, "0.1 s", 0.1, 1)
    theirs = _compile_kfp(folder, services)
    (kfp,) = alternate(3, lambda: _start(services.base, theirs))
    yield Row("a lightweight component of kfp", kfp.wall, "fftasks", figure.wall)


def _read_command(pipeline: Path) -> list[str]:
    document = next(yaml.safe_load_all(pipeline.read_text()))
    (executor,) = document["deploymentSpec"]["executors"].values()
    container = executor["container"]
    words = [*container["command"], *container.get("args", [])]
    # kfp's executor takes only outputs that the function has
    given = _INPUT if "fftasks.runner" in words else {"inputs": {}, "outputs": _FILE}
    return [word.replace("{{$}}", json.dumps(given)) for word in words]


def _compile_kfp(folder: Path, services: Services) -> list[str]:
    (folder / "theirs.py").write_text(_KFP.replace("BASE", services.base))  # kfp reads its source
    subprocess.run([sys.executable, "-W", "ignore", "theirs.py"], cwd=folder, check=True)
    return _read_command(folder / "pipeline.yaml")


def _start(image: str, command: Sequence[str], options: Sequence[str] = ()) -> Cost:
    """Return how long it takes from the start of a container until "called" is printed in it."""
    first, *rest = command
    begin = time.time()
    completed = subprocess.run(
        [
            "docker",
            "run",
            "--rm",
            "--tmpfs",
            "/minio",
            *options,
            "--entrypoint",
            first,
            image,
            *rest,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split() for line in completed.stdout.splitlines() if line.startswith("called ")]
    if not lines:
        raise SystemExit(f"{command} in {image}:\n{completed.stdout}{completed.stderr}"[-3000:])
    return Cost(float(lines[0][1]) - begin)
