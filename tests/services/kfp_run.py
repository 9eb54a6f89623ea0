"""A run of a pipeline on the KFP test server, the state of each of its tasks, and its rows as KFP shows them.

What is kept here is more than KFP shows: `Task.error` and `Run.error` say why something failed, and no answer
of the server has them, because KFP 2.17.0 seen on a real installation has no error text in any of 43 runs
(backend/src/common/util/workflow.go drops Argo's message).
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tests.services.argo import FINAL, Argo, Node, Step, list_nodes, name_pod, number_node
from tests.services.workflow_size import Size

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

    from tests.services.kfp_pipeline import Pipeline

_EPOCH = "1970-01-01T00:00:00Z"  # a run that has not ended
_ZERO = "0001-01-01T00:00:00Z"  # a node that has not ended: Go's zero time (seen on 2.17.0)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' generateName
_IDS = itertools.count(1)  # of executions in the metadata store
# seen on a real 2.17.0 in every run that a user submitted: the API server has a plugin, and no MLflow
_PLUGINS = {
    "mlflow": {
        "entries": {"experiment_name": {"value": "KFP-Default"}},
        "state": "PLUGIN_FAILED",
        "state_message": (
            "MLflow terminal sync skipped: missing parent root_run_id in plugins_output.mlflow"
        ),
    }
}


def now() -> str:
    """Return the time as the interface writes it: in whole seconds (seen on a real 2.17.0)."""
    return write_time(time.time())


def write_time(seconds: float, none: str = _ZERO) -> str:
    """Return a time in whole seconds; `none` for 0."""
    if not seconds:
        return none
    moment = datetime.fromtimestamp(int(seconds), timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def make_suffix() -> str:
    """Return the five characters that Kubernetes appends to a generated name."""
    return "".join(random.choices(_ALPHABET, k=5))


@dataclass
class Task:
    """What became of one task; the test server's own knowledge, more than the interface shows.

    Attributes:
        state: "" before it begins, PENDING while its driver runs; then the state of its pod.
        error: Why it failed. No answer of the server has it.
        driver: The driver's pod.
        rounds: The pods of its tries. Several lists, if Argo tries the step around the pods again.
        execution_id: In the metadata store; 0 if the driver failed, or has not ended.
        execution_state: The state that the store has: RUNNING, COMPLETE, FAILED or CACHED.
        inputs: The ids of the artifacts that it gets, by name of the input.
        published: Outputs with their artifacts, as the store has them: each try's logs, and the results.
    """

    name: str
    state: str = ""
    error: str = ""
    driver: Step = field(default_factory=Step)
    rounds: list[list[Step]] = field(default_factory=lambda: [[]])
    ended: float = 0.0
    fingerprint: str = ""
    is_cached: bool = False
    cached_execution_id: int = 0
    execution_id: int = 0
    execution_state: str = "RUNNING"
    updated: float = 0.0
    pod_in_store: tuple[str, str] = ("", "")
    executor_input: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    published: list[tuple[str, Any]] = field(default_factory=list)
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def pods(self) -> list[Step]:
        """Return the pods of all tries, in order."""
        return [pod for tries in self.rounds for pod in tries]

    @property
    def attempts(self) -> int:
        """Return the number of pods so far."""
        return len(self.pods)

    @property
    def log(self) -> str:
        """Return the log of the last pod."""
        return self.pods[-1].log if self.pods else ""

    @log.setter
    def log(self, text: str) -> None:
        self._need_pod().log = text

    @property
    def history(self) -> list[tuple[float, str]]:
        """Return the states of the last pod."""
        return self.pods[-1].history if self.pods else []

    def drive(self) -> None:
        """Let the task's driver begin; the task's pod is made when it moves on."""
        self.state = "PENDING"
        self.driver.move("PENDING")

    def end_driver(self) -> None:
        """Let the driver succeed: it has made the execution in the metadata store."""
        if not self.driver.history:
            self.drive()
        if self.driver.state not in FINAL:
            self.driver.move("RUNNING")
            self.driver.move("SUCCEEDED")
            self.execution_id = next(_IDS)
            self.updated = time.time()

    def fail_driver(self, error: str, log: str = "") -> None:
        """Let the driver fail: there is no execution, and no pod."""
        if not self.driver.history:
            self.drive()
        self.driver.move("RUNNING")
        self.driver.move("FAILED")
        self.driver.log, self.driver.exit_code = log, 1
        self.state, self.error, self.ended = "FAILED", error, time.time()

    def place(self) -> None:
        """Give the task's pod a machine."""
        self._need_pod().placed = time.time()

    def move(self, state: str, error: str = "") -> None:
        """Go into a state: PENDING, RUNNING, SUCCEEDED, FAILED, or SKIPPED for a cached task.

        A task that has failed and goes on is one that is tried again: it has a further pod.
        """
        self.end_driver()
        if state == "SKIPPED":
            self.is_cached = True
            self.execution_state = "CACHED"
        else:
            pod = self._need_pod()
            if pod.state in FINAL and pod.history and state not in FINAL:
                self.rounds[-1].append(Step())
                pod = self.rounds[-1][-1]
            if pod.state != state or not pod.history:
                pod.move(state)
            pod.exit_code = 1 if state == "FAILED" else 0
        self.state, self.error = state, error
        self.ended = time.time() if state in FINAL else 0.0
        self.updated = time.time()
        if state in ("SUCCEEDED", "FAILED") and self.execution_state == "RUNNING":
            self.execution_state = {"SUCCEEDED": "COMPLETE"}.get(state, state)

    def _need_pod(self) -> Step:
        if not self.rounds[-1]:
            self.rounds[-1].append(Step())
        return self.rounds[-1][-1]


@dataclass
class Run:
    """One execution of a pipeline. Whoever executes it moves its tasks; see Execute.

    Attributes:
        argo: How the installation runs workflows.
        recurring: `recurring_run_id` and `scheduled_at` of a run that a recurring run started.
        workflow: The name of Argo's workflow; "" for one that is generated.
        pods_are_gone: The pods were deleted, as Kubernetes and Argo do after a while.
    """

    pipeline: Pipeline = field(repr=False)
    parameters: dict[str, Value] = field(repr=False)
    request: dict[str, Any] = field(repr=False)
    experiment_id: str = ""
    namespace: str = ""
    pipeline_root: str = ""
    state: str = "PENDING"
    error: str = ""
    argo: Argo = field(default_factory=Argo)
    recurring: dict[str, str] = field(default_factory=dict)
    workflow: str = ""
    began: float = 0.0
    ended: float = 0.0
    storage_state: str = "AVAILABLE"
    pods_are_gone: bool = False
    driver: Step = field(default_factory=Step)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    made: float = field(default_factory=time.time)
    tasks: dict[str, Task] = field(default_factory=dict)
    history: list[tuple[float, str]] = field(default_factory=list)
    is_terminated: threading.Event = field(default_factory=threading.Event)
    root_execution_id: int = field(default_factory=lambda: next(_IDS))
    spec_bytes: int = 0
    _observed: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        # KFP's compiler: generateName "<pipeline>-"; Kubernetes cuts it and appends five characters
        self.workflow = self.workflow or f"{self.pipeline.name}-"[:58] + make_suffix()

    @property
    def argo_name(self) -> str:
        """Return the name of Argo's workflow."""
        return self.workflow

    @property
    def created(self) -> str:
        """Return when it was made."""
        return write_time(self.made)

    @property
    def finished(self) -> str:
        """Return when it ended, "" if it has not."""
        return write_time(self.ended, "")

    @property
    def is_waiting(self) -> bool:
        """Say whether a pod of the run cannot start, so that the run will not end by itself."""
        return any(pod.waits for task in list(self.tasks.values()) for pod in task.pods)

    def move(self, state: str, error: str = "") -> None:
        """Go into a state and note it in the history."""
        self.state, self.error = state, error
        self.ended = time.time() if state in FINAL else 0.0
        self.history.append((time.time(), state))

    def get_task(self, name: str) -> Task:
        """Return the state of a task, made when it is first asked for."""
        return self.tasks.setdefault(name, Task(name))

    def execute(self, execute: Execute) -> None:
        """Take the run from PENDING to a final state."""
        with self._lock:
            self.began = time.time()
            self.driver = Step()
            self.driver.move("PENDING")
            if not self.is_terminated.is_set():
                # a workflow without phase, which KFP saw of some of the recorded runs before it was running
                self.history.append((time.time(), ""))
                self.move("RUNNING")
        crash = "the executor of the test server crashed"
        try:
            self.driver.move("RUNNING")
            self.driver.move("SUCCEEDED")
            execute(self)
            crash = ""
        finally:
            self._finish(crash)

    def fail_root(self, error: str, log: str) -> None:
        """Let the root driver fail: no task begins."""
        if self.driver.state == "SUCCEEDED":
            self.driver.history.pop()
        self.driver.move("FAILED")
        self.driver.log, self.driver.exit_code = log, 1
        self.error = error

    def _finish(self, crash: str) -> None:
        """Go into the last state.

        A run that was terminated has FAILED: KFP 2.17.0 seen on a real installation never showed CANCELED,
        and the history has CANCELING (Argo's shutdown strategy makes the workflow "Failed").
        """
        with self._lock:
            if self.is_terminated.is_set():
                for task in list(self.tasks.values()):
                    self._stop(task)
                self.move("FAILED", self.error or "run was terminated")
                return
            failed = [
                f"{task.name}: {task.error}"
                for task in list(self.tasks.values())
                if task.state == "FAILED"
            ]
            error = crash or self.error or "; ".join(failed)
            self.move("FAILED" if error else "SUCCEEDED", error)

    def _stop(self, task: Task) -> None:
        """Let a task that has not ended fail, as Argo's controller does: "Stopped with strategy"."""
        if task.state in FINAL or not task.state:
            return
        if task.driver.state not in FINAL:
            task.fail_driver("run was terminated")
        else:
            state = task.execution_state
            task.move("FAILED", "run was terminated")
            task.execution_state = state  # its launcher was killed and could not say anything

    def terminate(self) -> bool:
        """Ask the executor to stop; return False if the run has finished already."""
        with self._lock:
            if self.state in FINAL:
                return False
            self.is_terminated.set()
            self.move("CANCELING")
        return True

    # what the interface shows

    def to_json(self) -> dict[str, Any]:
        """Return the run as the interface shows it (v2beta1Run)."""
        rows = self._list_rows()
        shown: dict[str, Any] = {
            "experiment_id": self.experiment_id,
            "run_id": self.run_id,
            "display_name": self.request["display_name"],
            "storage_state": self.storage_state,
        }
        for name in ("description", "pipeline_spec", "pipeline_version_reference"):
            if name in self.request:
                shown[name] = self.request[name]
        if self.request.get("runtime_config"):
            shown["runtime_config"] = self.request["runtime_config"]
        if not self.recurring:
            shown["service_account"] = self.request.get("service_account") or "pipeline-runner"
        shown |= {
            "created_at": self.created,
            "scheduled_at": self.recurring.get("scheduled_at", self.created),
            "finished_at": write_time(self.ended, _EPOCH),
            "state": self.state,
        }
        if rows:
            shown["run_details"] = {"task_details": rows}
        if self.recurring:
            shown["recurring_run_id"] = self.recurring["recurring_run_id"]
        shown["state_history"] = _write_history(self.history)
        if not self.recurring and self.state in FINAL:
            shown["plugins_output"] = _PLUGINS
        return shown

    def _list_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `task_details`, in no order.

        One row per node of Argo's, and one per execution that was put into the cache. Above a size Argo
        compresses the states of the nodes; KFP cannot read them then and keeps the rows that it has.
        """
        with self._lock:
            nodes = list_nodes(self)
            if not Size(self).is_compressed(nodes):
                self._rows = [self._show(node) for node in nodes.values()]
            elif not self._rows:
                self._rows = [self._show(node) for node in self._list_first_nodes(nodes)]
            rows = [*self._rows, *self._list_cache_rows()]
        return sorted(rows, key=lambda row: str(row["task_id"]))

    def observe(self) -> None:
        """Let KFP see the states of a large run now, and fail a run whose workflow object is too large.

        Rows keep what was seen last before the object was compressed, so somebody has to look in time.
        """
        ended = sum(task.state in FINAL for task in list(self.tasks.values()))
        is_small = self.argo.max_bytes >= 1 << 20 and len(self.pipeline.tasks) < 20
        if is_small or (ended - self._observed < 8 and self.tasks and ended):
            return
        self._observed = ended
        self._list_rows()
        if Size(self).is_too_large(list_nodes(self)):
            # the controller's update is refused, and the workflow ends in error
            self.error = "Request entity too large: limit is 3145728"
            self.is_terminated.set()

    def _list_first_nodes(self, nodes: dict[str, Node]) -> list[Node]:
        """Return the nodes as they were before the root had any tasks: what KFP saw last of a large run."""
        first = [
            node for node in nodes.values() if node.template in ("entrypoint", "system-dag-driver")
        ]
        for node in first:
            state = "RUNNING" if node.pod is None else "PENDING"
            node.state, node.ended, node.history = state, 0.0, [(node.started, state)]
            node.children = [child for child in node.children if not child.endswith(".root")]
        return first

    def _show(self, node: Node) -> dict[str, Any]:
        """Return the row of a node: it has the ids of its children, and none of its own."""
        row: dict[str, Any] = {
            "run_id": self.run_id,
            "task_id": str(uuid.uuid5(uuid.UUID(self.run_id), node.name)),
            "display_name": node.display,
            "create_time": self.created,
            "start_time": write_time(node.started),
            "end_time": write_time(node.ended),
        }
        if node.state:
            row["state"] = node.state
        row["state_history"] = _write_history(node.history)
        if node.children:
            row["child_tasks"] = [
                {"pod_name": f"{self.argo_name}-{number_node(child)}"} for child in node.children
            ]
        return row

    def _list_cache_rows(self) -> list[dict[str, Any]]:
        """Return the rows that the launcher makes when it fills the cache (launcher_v2.go, 2.17.0).

        They have neither name nor state, and one exists per executed task that succeeded with caching on.
        """
        return [
            {
                "run_id": self.run_id,
                "task_id": task.task_id,
                "create_time": write_time(task.pods[-1].started),
                "start_time": write_time(task.pods[-1].started),
                "end_time": write_time(task.ended),
                "execution_id": str(task.execution_id),
            }
            for task in list(self.tasks.values())
            if task.state == "SUCCEEDED" and task.pods and self._is_in_cache(task)
        ]

    def _is_in_cache(self, task: Task) -> bool:
        return bool(self.pipeline.tasks[task.name].caching_options.enable_cache)

    # pods

    def find_pod(self, name: str) -> Node | None:
        """Return the node that has a pod of that name: a task's, its driver's, or the root driver's."""
        for node in list_nodes(self).values():
            if node.pod is not None and name_pod(self.argo_name, node) == name:
                return node
        return None

    def find_pod_names(self, task: str) -> list[str]:
        """Return the names of a task's pods, its driver's first."""
        record = self.get_task(task)
        wanted = [record.driver, *record.pods]
        names = {
            id(node.pod): name_pod(self.argo_name, node)
            for node in list_nodes(self).values()
            if node.pod is not None
        }
        return [names[id(pod)] for pod in wanted if id(pod) in names]

    def has_retry_policy(self, task: str) -> bool:
        """Say whether the pipeline has a retry policy for a task."""
        return bool(self.pipeline.tasks[task].HasField("retry_policy"))

    def is_importer(self, task: str) -> bool:
        """Say whether a task imports an artifact: it has a pod of its own kind and no driver."""
        label = self.pipeline.get_component(task).executor_label
        return bool(self.pipeline.executors[label].WhichOneof("spec") == "importer")

    def name_template(self, task: str) -> str:
        """Return what the compiler for Argo calls the template of a task's pod (container.go, 2.17.0)."""
        name = f"{'retry-' if self.has_retry_policy(task) else ''}system-container-impl"
        metadata = self.pipeline.get_kubernetes(task).get("podMetadata")
        if metadata is None:
            return name
        counts = [str(len(metadata.get(kind, {}))) for kind in ("annotations", "labels")]
        return f"metadata-{'-'.join(counts)}-{name}"


def _write_history(history: list[tuple[float, str]]) -> list[dict[str, str]]:
    """Return a history as the interface has it; an entry without state is one that KFP does not know."""
    return [
        {"update_time": write_time(when)} | ({"state": state} if state else {})
        for when, state in history
    ]


# Executes a run: moves its tasks through their states, looks at run.is_terminated now and then,
# and may call run.fail_root. Failures of tasks are states, not exceptions.
Execute = Callable[[Run], None]


def succeed(run: Run) -> None:
    """Execute a run without doing anything: every task succeeds."""
    for name in run.pipeline.order_tasks():
        if run.is_terminated.is_set():
            return
        run.get_task(name).move("RUNNING")
        run.get_task(name).move("SUCCEEDED")
