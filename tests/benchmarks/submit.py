"""A code edit until Kubeflow Pipelines has taken the run, beside a script that does everything each time.

The processors' time is that of what the user starts: an engine works in its own process, for both.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fftasks.cache.history import find_local_run, read_local_run
from tests.benchmarks.measure import Cost, doit, run
from tests.benchmarks.services import Services, apart, start_services
from tests.benchmarks.table import Row, compare
from tests.services.kfp_server import KFPServer

TITLE = "code edit of the digits until the run is accepted; the least of several"

_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "digits" / "digits.py"
_SCRIPT = Path(__file__).with_name("submit_by_hand.py")
_EDITED = "np.mean(model.predict(images) == labels)"
_REQUIREMENTS = "scikit-learn\nmatplotlib\n"
_DOCKERFILE = """\
FROM {base}
WORKDIR /ffrun
COPY requirements.txt .
RUN pip install -q -r requirements.txt
COPY . .
"""
_STAGES = ("context", "image", "push", "tasks", "pins", "pipeline", "submit")
_TIMES = 5
_GOAL = 1 / 5


def measure(folder: Path) -> Iterator[Row]:
    """Yield the time of both builders, and what each stage takes of it."""
    with start_services(folder) as services:
        yield from apart(functools.partial(_measure, folder, services))


def _measure(folder: Path, services: Services) -> Iterator[Row]:
    with KFPServer() as server:
        by_hand = _make_plain(folder / "by_hand", services)
        projects = {
            name: _make_project(folder / f"with-{name}", services, server, name)
            for name in ("docker", "oci")
        }
        repository = f"{services.registry.server}/benchmarks/by-hand"
        settings = f"DOCKER_CONFIG={services.environment['DOCKER_CONFIG']}"
        script = [sys.executable, _SCRIPT.name, repository, server.url]
        takes: list[Callable[[], Cost]] = [
            lambda: run(["env", settings, *script], by_hand),
            *(lambda p=project: doit(p, "submit", "--no-watch") for project in projects.values()),  # type: ignore[misc]
        ]
        rounds = list(_take_turns([by_hand, *projects.values()], takes))
        assert len(server.api.runs) == len(takes) * len(rounds)
    reference, *ours = (_choose_least(costs) for costs in zip(*rounds[1:], strict=True))
    for name, cost in zip(projects, ours, strict=True):
        yield from compare(name, cost, "build, push, compile, submit by hand", reference, _GOAL)
        yield from _list_shares(projects[name], name)


def _take_turns(folders: list[Path], takes: list[Callable[[], Cost]]) -> Iterator[list[Cost]]:
    """Yield the costs of a round of edits; the first round makes what the others find."""
    for value in itertools.islice(itertools.count(1), _TIMES + 1):
        for folder in folders:
            text = _EXAMPLE.read_text()
            assert _EDITED in text
            (folder / "digits.py").write_text(text.replace(_EDITED, f"{_EDITED} + {value} * 0"))
        yield [take() for take in takes]


def _choose_least(costs: tuple[Cost, ...]) -> Cost:
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def _list_shares(project: Path, name: str) -> Iterator[Row]:
    """Yield what each stage took of the last run."""
    state = project / ".fftasks"
    last = read_local_run(state, find_local_run(state))
    whole = (last.end or 0) - last.begin
    known = {event.task.partition(":")[0]: event for event in last.events.values()}
    for stage in _STAGES:
        event = known.get(stage)
        took = (event.end or 0) - (event.begin or 0) if event else 0.0
        yield Row(f"  {name}: {stage}", took, "the last edit", whole)


def _make_plain(folder: Path, services: Services) -> Path:
    folder.mkdir()
    shutil.copy(_EXAMPLE, folder)
    shutil.copy(_SCRIPT, folder)  # Python looks for modules where a script is
    (folder / "requirements.txt").write_text(_REQUIREMENTS)
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(base=services.base))
    (folder / ".dockerignore").write_text("*.log\ndigits.yaml\nDockerfile\nsubmit_by_hand.py\n")
    return folder


def _make_project(folder: Path, services: Services, server: KFPServer, builder: str) -> Path:
    folder.mkdir()
    shutil.copy(_EXAMPLE, folder)
    (folder / "requirements.txt").write_text(_REQUIREMENTS)
    (folder / "dodo.py").write_text("from fftasks.tasks import *\n")
    (folder / "config").mkdir()
    registry = services.registry
    (folder / "config" / "default.yaml").write_text(f"""\
workflows: [digits.py]
context: {{ignore: [config/, benchmark.log]}}
image: {{base: "{services.base}", builder: {builder}}}
registry:
  server: {registry.server}
  repository: benchmarks/digits-{builder}
  username: {registry.username}
  password: {registry.password}
kfp: {{host: "{server.url}"}}
""")
    return folder
