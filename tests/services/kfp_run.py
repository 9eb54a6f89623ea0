"""A run of a pipeline on the KFP test server, and the state of each of its tasks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

    from tests.services.kfp_pipeline import Pipeline

_NEVER = "1970-01-01T00:00:00Z"
FINAL = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})


def now() -> str:
    """Return the time as the interface writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number_step(name: str) -> int:
    """Return the number in the id of a step of Argo's: a hash of its full name."""
    number = 2166136261
    for byte in name.encode():
        number = ((number ^ byte) * 16777619) % 2**32
    return number


@dataclass
class Task:
    """What became of one task; the test server's own knowledge, more than the interface shows."""

    name: str
    state: str = ""
    error: str = ""
    log: str = ""
    started: str = ""
    driven: str = ""
    placed: str = ""
    ended: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0
    fingerprint: str = ""
    is_cached: bool = False
    executor_input: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def drive(self) -> None:
        """Let the task's driver begin; the task's pod is made when it moves on."""
        self.state, self.started = "PENDING", now()

    def place(self) -> None:
        """Give the task's pod a machine."""
        self.placed = now()

    def move(self, state: str, error: str = "") -> None:
        """Go into a state of v2beta1RuntimeState."""
        self.state, self.error = state, error
        self.started = self.started or now()
        self.driven = self.driven or now()
        self.ended = now() if state in FINAL else ""
        self.history.append({"update_time": now(), "state": state})

    def describe_pod(self, name: str) -> dict[str, Any]:
        """Return the task's pod as Kubernetes has it."""
        ran = next((one["update_time"] for one in self.history if one["state"] == "RUNNING"), "")
        state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
        if ran:
            state = {"running": {"startedAt": ran}}
        if ran and self.ended:
            state = {"terminated": {"startedAt": ran, "finishedAt": self.ended, "exitCode": 0}}
        placed = {"type": "PodScheduled", "status": "True" if self.placed else "False"}
        return {
            "metadata": {"name": name, "creationTimestamp": self.driven},
            "status": {
                "conditions": [{**placed, "lastTransitionTime": self.placed or self.driven}],
                "containerStatuses": [{"name": "wait"}, {"name": "main", "state": state}],
            },
        }


@dataclass
class Run:
    """One execution of a pipeline. Whoever executes it moves its tasks; see Execute."""

    pipeline: Pipeline = field(repr=False)
    parameters: dict[str, Value] = field(repr=False)
    request: dict[str, Any] = field(repr=False)
    experiment_id: str = ""
    namespace: str = ""
    pipeline_root: str = ""
    state: str = "PENDING"
    error: str = ""
    finished: str = ""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: str = field(default_factory=now)
    tasks: dict[str, Task] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    is_terminated: threading.Event = field(default_factory=threading.Event)
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    def move(self, state: str, error: str = "") -> None:
        """Go into a state and note it in the history."""
        self.state, self.error = state, error
        self.finished = now() if state in FINAL else ""
        self.history.append({"update_time": now(), "state": state})

    def get_task(self, name: str) -> Task:
        """Return the state of a task, made when it is first asked for."""
        return self.tasks.setdefault(name, Task(name))

    def execute(self, execute: Execute) -> None:
        """Take the run from PENDING to a final state."""
        with self._lock:
            if not self.is_terminated.is_set():
                self.move("RUNNING")
        crash = "the executor of the test server crashed"
        try:
            execute(self)
            crash = ""
        finally:
            self._finish(crash)

    def _finish(self, crash: str) -> None:
        failed = [
            f"{task.name}: {task.error}" for task in self.tasks.values() if task.state == "FAILED"
        ]
        error = crash or self.error or "; ".join(failed)
        with self._lock:
            if self.is_terminated.is_set():
                self.move("CANCELED", "run was terminated")
            else:
                self.move("FAILED" if error else "SUCCEEDED", error)

    def terminate(self) -> bool:
        """Ask the executor to stop; return False if the run has finished already."""
        with self._lock:
            if self.state in FINAL:
                return False
            self.is_terminated.set()
            self.move("CANCELING")
        return True

    def to_json(self) -> dict[str, Any]:
        """Return the run as the interface shows it (v2beta1Run)."""
        shown = {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "display_name": self.request["display_name"],
            "storage_state": "AVAILABLE",
            "created_at": self.created,
            "scheduled_at": self.created,
            "finished_at": self.finished or _NEVER,
            "state": self.state,
            "run_details": {"task_details": self._list_details()},
            "state_history": list(self.history),
        }
        for name in (
            "description",
            "pipeline_spec",
            "pipeline_version_reference",
            "runtime_config",
        ):
            if name in self.request:
                shown[name] = self.request[name]
        shown["service_account"] = self.request.get("service_account") or "pipeline-runner"
        if self.state == "FAILED":
            shown["error"] = {"code": 13, "message": self.error}
        return shown

    @property
    def argo_name(self) -> str:
        """Name the run as the engine below KFP does."""
        return f"{self.pipeline.name}-{self.run_id[:5]}"

    def find_pod(self, name: str) -> Task | None:
        """Return the task whose container runs, or ran last, in a pod of that name."""
        for task in self.tasks.values():
            steps = self._list_tries(task) or [self._name_step(task)]
            if name == f"{self.argo_name}-{self._name_template(task)}-{number_step(steps[-1])}":
                return None if task.is_cached else task
        return None

    def _name_step(self, task: Task) -> str:
        return f"{self.argo_name}.root.{task.name}.executor"

    def _list_tries(self, task: Task) -> list[str]:
        """Return the names of the steps below that of a task that is tried again; each has a pod."""
        if not self.pipeline.tasks[task.name].HasField("retry_policy"):
            return []
        return [f"{self._name_step(task)}({number})" for number in range(max(task.attempts, 1))]

    def _name_template(self, task: Task) -> str:
        """Return what the compiler for Argo calls the template of a task's pod."""
        retry = "retry-" if self.pipeline.tasks[task.name].HasField("retry_policy") else ""
        name = f"{retry}system-container-impl"
        config = self.pipeline.get_kubernetes(task.name)
        metadata = config.get("podMetadata")
        if metadata is None:
            return name
        counts = [str(len(metadata.get(kind, {}))) for kind in ("annotations", "labels")]
        return f"metadata-{'-'.join(counts)}-{name}"

    def _list_details(self) -> list[dict[str, Any]]:
        """Return one entry per node of Argo's workflow: also drivers and the pods called "executor".

        As release 2.17 does: the step of a task succeeds although its executor is skipped, which is how a
        cached result looks; a step has the ids of its children, and none of its own.
        """
        details = [self._show(self.argo_name, self.state)]
        details.append(
            self._show("root-driver", self.state if self.state == "PENDING" else "SUCCEEDED")
        )
        for task in list(self.tasks.values()):
            if not task.state:
                continue
            step = self._show(task.name, "SUCCEEDED" if task.is_cached else task.state, task)
            step["child_tasks"] = self._list_ids([self._name_step(task)])
            driver = self._show(
                f"{task.name}-driver", "SUCCEEDED" if task.driven else "RUNNING", task
            )
            details.append(
                {**driver, "start_time": task.started, "end_time": task.driven or _NEVER}
            )
            if task.driven:
                details += [step, *self._list_pods(task)]
        return details

    def _list_pods(self, task: Task) -> list[dict[str, Any]]:
        """Return the step that is a task's pod; or that has its pods, if the task is tried again."""
        history = {"state_history": list(task.history)}
        executor = self._show("executor", task.state, task) | history
        tries = [] if task.is_cached else self._list_tries(task)
        if not tries:
            return [executor]
        shown = [self._show(name.rpartition(".")[2], task.state, task) | history for name in tries]
        return [{**executor, "child_tasks": self._list_ids(tries)}, *shown]

    def _list_ids(self, steps: list[str]) -> list[dict[str, str]]:
        return [{"pod_name": f"{self.argo_name}-{number_step(step)}"} for step in steps]

    def _show(self, name: str, state: str, task: Task | None = None) -> dict[str, Any]:
        is_task = task is not None and name == task.name
        place = f"{task.name}/{name}" if task else name
        shown = {
            "run_id": self.run_id,
            "task_id": task.task_id if is_task else str(uuid.uuid5(uuid.UUID(self.run_id), place)),
            "display_name": name,
            "create_time": task.started if task else self.created,
            "start_time": (task.driven or task.started) if task else self.created,
            "state": state,
            "state_history": [{"update_time": now(), "state": state}],
        }
        # the interface writes no time as the beginning of all times
        shown["end_time"] = (task.ended if task else self.finished) or _NEVER
        if is_task and task.error:
            shown["error"] = {"code": 13, "message": task.error}
        return shown


# Executes a run: moves its tasks through their states, looks at run.is_terminated now and then,
# and may set run.error. Failures of tasks are states, not exceptions.
Execute = Callable[[Run], None]


def succeed(run: Run) -> None:
    """Execute a run without doing anything: every task succeeds."""
    for name in run.pipeline.order_tasks():
        if run.is_terminated.is_set():
            return
        run.get_task(name).move("RUNNING")
        run.get_task(name).move("SUCCEEDED")
