"""Run the tasks of a workflow on this machine as the cluster would, to test how nodes are grouped.

Each task is a process tree of its own, with the command of its container, limited to the processors and the
memory of its pod. Its files are in .fftasks/groups/<workflow>/<task>/. Nothing is cached.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.errors import NodeError
from fftasks.pipeline.fuse import choose_grouping
from fftasks.pipeline.kubernetes import count_parallel_nodes, make_pod_settings
from fftasks.pipeline.task_specs import make_tasks
from fftasks.project import Project
from fftasks.records import read_record
from fftasks.runner.pod import REPLAY_VARIABLE
from fftasks.runner.start import RUNNER_MODULE, make_command
from fftasks.state_folder import make_folder, open_new, read_text, remove

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


@dataclass(frozen=True)
class _SimulatedRun:
    """A run of all tasks of a workflow.

    Attributes:
        project: The current project.
        workflow: Name of the workflow.
        folder: Folder for the files of the tasks.
        tasks: Tasks by name.
        settings: Id of a node -> its settings.
    """

    project: Project
    workflow: str
    folder: Path
    tasks: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, NodeSettings]

    def run(self, name: str) -> float:
        """Run a task and return its duration in seconds; raise NodeError with its log if it fails."""
        task, begin = self.tasks[name], time.monotonic()
        own = self.settings[task["nodes"][0]]
        settings = make_pod_settings(own, len(task["nodes"]))
        make_folder(self.folder / name)
        text = json.dumps(self._make_input(name))
        args = [text if word == "{{$}}" else word for word in task["args"]]
        path = self.folder / name / "log.txt"
        with open(open_new(path), "w") as log:  # noqa: PTH123 - a descriptor
            completed = subprocess.run(
                [*make_command(RUNNER_MODULE), *args],
                cwd=self.project.root,
                env={**os.environ, **settings.env, **task["env"], REPLAY_VARIABLE: "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_make_limiter(own),
                check=False,
            )
        if completed.returncode:
            lines = read_text(path).splitlines()
            found = [*lines[-20:], f"whole log: {os.path.relpath(path)}"]
            raise NodeError(
                f"groups: {task['name']} failed with exit code {completed.returncode}", found=found
            )
        return time.monotonic() - begin

    def _make_input(self, name: str) -> dict[str, Any]:
        """Return the executor input, the JSON argument with which KFP's launcher starts a task."""
        task = self.tasks[name]
        values = self.project.list_values(self.workflow)
        given = {key: values[parameter] for key, parameter in task["run_parameters"].items()}
        sources = {
            key: self.folder / source["task"] / source["output"]
            for key, source in task["artifacts"].items()
        }
        outputs = task["component"]["outputDefinitions"]["artifacts"]
        return {
            "inputs": {
                "artifacts": {key: _locate(path) for key, path in sources.items()},
                "parameterValues": {**task["parameters"], **given},
            },
            "outputs": {"artifacts": {out: _locate(self.folder / name / out) for out in outputs}},
        }


def simulate_run(project: Project, workflow: str) -> None:
    """Run the tasks of a workflow, as many in parallel as there are processors, and print a line for each.

    Args:
        project: The current project.
        workflow: Name of the workflow.

    Raises:
        NodeError: A task failed. Tasks that are running are waited for, and no other task is started.
    """
    graph = project.workflows[workflow]
    old = read_record(project.record_path("tasks", workflow))
    grouping = choose_grouping(project, workflow, old)
    tasks = make_tasks(graph, workflow, grouping.groups if grouping else None)
    folder = project.folder / "groups" / graph["workflows"][workflow]["slug"]
    remove(folder)
    run = _SimulatedRun(project, workflow, folder, tasks, project.list_settings(workflow))
    most = max(count_parallel_nodes(settings) for settings in run.settings.values())
    waiting = {name: set(task["upstream"]) for name, task in tasks.items()}
    running: dict[Future[float], str] = {}
    with ThreadPoolExecutor(max((os.cpu_count() or 1) // most, 1)) as pool:
        while waiting or running:
            for name in [name for name, needed in waiting.items() if not needed]:
                del waiting[name]
                running[pool.submit(run.run, name)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                count = len(tasks[name]["nodes"])
                print(
                    f".  {tasks[name]['name']}: {count} node{'s' * (count != 1)} in {future.result():.1f} s",
                    flush=True,
                )
                for needed in waiting.values():
                    needed.discard(name)
    counted = f"{len(tasks)} task{'s' * (len(tasks) != 1)}"
    print(f"{workflow}: {counted}, outputs are in {os.path.relpath(folder)}")


def _make_limiter(settings: NodeSettings) -> Callable[[], None]:
    """Return a function that limits the current process to the processors and the memory of a pod."""
    cpu = count_parallel_nodes(settings)
    memory_bytes = _parse_memory(settings.memory_limit) if settings.memory_limit else 0

    def limit() -> None:
        if hasattr(os, "sched_setaffinity"):
            processors = sorted(os.sched_getaffinity(0))
            start = os.getpid() % len(processors)  # Tasks that run in parallel use different ones.
            os.sched_setaffinity(0, (processors[start:] + processors[:start])[:cpu])
        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))

    return limit


def _parse_memory(text: str) -> int:
    """Return a number of bytes, given a Kubernetes quantity such as "2Gi"."""
    number = text.rstrip("kKMGTPEi")
    unit = text[len(number) :]
    base = 1024 if unit.endswith("i") else 1000
    return int(number) * int(base ** _UNITS[unit.rstrip("i")])


def _locate(path: Path) -> dict[str, Any]:
    """Return an artifact of the executor input."""
    return {"artifacts": [{"name": path.name, "uri": str(path)}]}
