"""The actions of the tasks, and doit's runner with nodes sent to warm workers by the scheduling process.

doit's own parallel runner sends each task through a queue to one of its processes. A node would go from there
to the warm worker, and its report back the same way, which costs twice as much as a trivial node itself. Here
one process checks, sends and records nodes, and waits for whatever ends next. Other tasks still run in
processes of doit.
"""

from __future__ import annotations

import functools
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from doit.control import ExecNode, TaskDispatcher
from doit.exceptions import BaseFail, TaskError, TaskFailed, UnmetDependency
from doit.runner import JobTask, JobTaskPickle, MRunner, Runner
from doit.task import DelayedLoaded

from fftasks.cache.fingerprint import find_retry_wait, remove_partial_results
from fftasks.errors import FFTasksError, NodeError, StoreError
from fftasks.project import Project, open_current
from fftasks.records import lock_record
from fftasks.report.reasons import explain_node
from fftasks.state_folder import STATE_FOLDER
from fftasks.tasks.doit_database import REPORTER_ONLY

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from doit.control import ExecNode
    from doit.task import Task

    from fftasks.cache.store import DiskFlusher
    from fftasks.graph.interpreters import Worker
    from fftasks.runner.job import Job, Report


class NodeAttempt:
    """One execution of a node, from its lock to its record, in steps that do not block.

    Attributes:
        label: Name of the node.
        job: Job of the current try; set by prepare() and changed by plan_retry().
        found: Values that doit stores for a node whose result exists already.
    """

    job: Job
    found: dict[str, Any] = {"ran": False}  # noqa: RUF012 - never changed

    def __init__(self, project: Project, label: str, *, wait: bool = True) -> None:
        """Take the lock of a node.

        Args:
            project: Project of the node.
            label: Name of the node.
            wait: Wait until no other run holds the lock.

        Raises:
            BlockingIOError: Another run holds the lock, and wait is False.
        """
        self.label = label
        self._project = project
        self._node = project.nodes[label].content
        self._inputs: dict[str, str] = {}
        self._errors: list[str] = []
        self._reason = ""
        self._is_running = False
        self._begin = time.time()
        self._lock = project.store.take_lock(self._node["slug"], wait=wait)

    def __enter__(self) -> NodeAttempt:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def prepare(self) -> Job | None:
        """Return the job to run, or None if the result exists: another run may have just computed it."""
        self._inputs = self._project.list_inputs(self.label)
        if self._project.find_node(self.label, self._inputs) is not None:
            return None
        self._reason = explain_node(self._project, self.label, self._inputs)[0]
        self._is_running = True
        self.job = self._project.prepare_node(self.label, self._inputs)
        return self.job

    def plan_retry(self, report: Report) -> float | None:
        """Return the wait in seconds before the next try, or None if there is no further try."""
        if not report.error:
            return None
        self._errors.append(report.error)
        self.job = self.job._replace(is_retry=True)
        return find_retry_wait(self._project.find_node_settings(self._node), len(self._errors))

    def finish(self, report: Report) -> dict[str, Any]:
        """Record the outcome and return the values that doit stores; raise NodeError if the node failed."""
        trace = self._project.finish_node(self.label, self._inputs, report, self._errors)
        self._is_running = False
        tries = f"; try {trace.tries}" if trace.tries > 1 else ""
        return {
            "ran": True,
            "reason": f"{self._reason}{tries}",
            "seconds": trace.seconds,
            REPORTER_ONLY: {
                "begin": self._begin,
                "preview": trace.previews[""],
                "output": trace.outputs["result"],
            },
        }

    def close(self) -> None:
        """Release the lock. Partial results of a job that did not end are removed."""
        if self._is_running:
            remove_partial_results(self._node, self._project.store)
        os.close(self._lock)


def report_task_errors(act: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the action of a task to return TaskFailed instead of raising FFTasksError: exit code 1."""

    @functools.wraps(act)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_reporting_errors(act, *args, **kwargs)

    return call


def call_reporting_errors(act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function; return its result, or TaskFailed for an error of fftasks or of the file system."""
    try:
        return act(*args, **kwargs)
    except FFTasksError as error:
        return TaskFailed(str(error))
    except OSError as error:  # the disk is full, or a file in the state folder is not accessible
        attempted = f"{STATE_FOLDER} cannot be read or written"
        tip = f"free space on the disk, or remove {error.filename or STATE_FOLDER}: it is created again"
        return TaskFailed(str(StoreError(attempted, found=[str(error)], tip=tip)))


@report_task_errors
def run_node(label: str) -> dict[str, Any]:
    """Run a node unless its result exists; return whether it ran, the reason, and seconds."""
    project = open_current()
    with NodeAttempt(project, label) as attempt:
        job = attempt.prepare()
        if job is None:
            return attempt.found
        run = project.find_interpreter(label)
        report = run(job)
        while (wait_s := attempt.plan_retry(report)) is not None:
            time.sleep(wait_s)
            report = run(attempt.job)
        return attempt.finish(report)


@report_task_errors
def run_stage(stage: str, workflow: str, again: bool, task: Task) -> dict[str, Any]:  # noqa: FBT001 - doit passes it
    """Run a stage unless it is up to date; return whether it ran, the reason, and its begin.

    Args:
        stage: Name of the stage.
        workflow: Name of the workflow; "" for a stage that all workflows share.
        again: See plan_stage().
        task: Task of doit. cli/run.py stores the goal of the run in the tasks of the image and the push.
    """
    from fftasks.pipeline.stages import check_preconditions, explain_push_errors, plan_stage
    from fftasks.stage import execute_stage, list_stage_reasons

    begin, project = time.time(), open_current()
    step = plan_stage(project, stage, workflow, again=again)
    with lock_record(step.path):  # two concurrent submits start one run
        reasons = list_stage_reasons(step)
        if not reasons:
            return {"ran": False}
        goal = task.meta["fftasks"].get("goal", "")
        if stage == "image":
            check_preconditions(project, goal)
        with explain_push_errors(stage, goal):
            execute_stage(step)
    return {"ran": True, "reason": reasons[0], REPORTER_ONLY: {"begin": begin}}


class TaskProcess:
    """A process of doit for tasks that are not nodes. It lives until the end, for teardown actions.

    Attributes:
        node: Task that the process runs; None if it is idle.
        connection: Pipe to the process.
    """

    def __init__(self, runner: ParallelRunner) -> None:
        from multiprocessing import Pipe, Process

        self.node: ExecNode | None = None
        self.connection, theirs = Pipe()
        line = _PipeQueues(theirs)
        self._process = Process(
            target=runner.execute_task_subprocess, args=(line, line, type(runner.reporter))
        )
        self._process.start()
        theirs.close()

    def end(self) -> list[dict[str, Any]]:
        """Let the process run the teardown actions; return the messages that it sends."""
        self.connection.send(None)
        messages = []
        try:
            while True:
                messages.append(self.connection.recv())
        except EOFError:
            self._process.join()
        return messages

    def terminate(self) -> None:
        """End the process immediately."""
        self._process.terminate()


class _PipeQueues:
    """One end of a pipe with the interface of the two queues of a doit process."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def get(self) -> Any:
        """Return the next job."""
        return self._connection.recv()

    def put(self, message: dict[str, Any]) -> None:
        """Send a result, or a call of a reporter method."""
        self._connection.send(message)


_POLL_INTERVAL_S = 0.5
_LOCK_RETRY_S = 0.05
_SHORT_NODE_S = 0.05  # results of nodes that took less may be lost if the run is killed


class _FailureCountingRunner(Runner):  # type: ignore[misc]
    final_result: int

    def _handle_task_error(self, node: ExecNode, base_fail: BaseFail) -> None:
        before = int(self.final_result)
        super()._handle_task_error(node, base_fail)
        if isinstance(base_fail, UnmetDependency):  # the failed upstream task was counted already
            self.final_result = before


class SequentialRunner(_FailureCountingRunner):
    """doit's runner for `-n 0`: all tasks run sequentially in this process."""


class ParallelRunner(_FailureCountingRunner, MRunner):  # type: ignore[misc]
    """doit's runner for several tasks at the same time; see the module docstring."""

    def run_tasks(self, task_dispatcher: TaskDispatcher) -> None:
        """Run all tasks that are not up to date.

        Args:
            task_dispatcher: Yields tasks in the order of their dependencies.
        """
        self._run_tasks_init(task_dispatcher)
        self._project = open_current()
        self._completed: deque[ExecNode] = deque()  # not reported to the dispatcher yet
        # (time, callback) of nodes that wait for the lock of another run or for a retry
        self._scheduled: list[tuple[float, Callable[[], None]]] = []
        self._running: dict[int, tuple[ExecNode, NodeAttempt, Worker]] = {}
        self._ended: deque[tuple[ExecNode, NodeAttempt, Report]] = deque()  # not recorded yet
        self._processes: list[TaskProcess] = []
        self._flusher: DiskFlusher | None = None
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        try:
            self._start_tasks()
            while self._running or self._scheduled or self._count_others():
                self._wait()
                # Start tasks first, so that no CPU is idle while results of short nodes are recorded.
                self._start_tasks()
                while self._ended:
                    self._record(*self._ended.popleft())
                self._start_tasks()
        except BaseException:
            for process in self._processes:
                process.terminate()
            raise
        if self._flusher is not None:
            self._flusher.start()
        for process in self._processes:
            for message in process.end():
                self._handle_message(message)

    def _start_tasks(self) -> None:
        """Start tasks in doit's order until num_process of them run."""
        now = time.monotonic()
        due = [one for one in self._scheduled if one[0] <= now]
        self._scheduled = [one for one in self._scheduled if one[0] > now]
        for _, go_on in due:
            go_on()
        while not self._stop_running and self._has_place():
            node = self._take_next()
            if node is None:
                break
            if not self.select_task(node, self.tasks):
                self._completed.append(node)
            elif not node.task.actions:
                self._complete(node, self.execute_task(node.task))
            elif _get_node_label(node):
                self._start_node(node)
            else:
                self._start_other(node)

    def _has_place(self) -> bool:
        return bool(len(self._running) + self._count_others() < self.num_process)

    def _count_others(self) -> int:
        return sum(process.node is not None for process in self._processes)

    def _take_next(self) -> ExecNode | None:
        """Return doit's next task; None if all other tasks wait for a running one."""
        while True:
            completed = self._completed.popleft() if self._completed else None
            try:
                node = self.task_dispatcher.generator.send(completed)
            except StopIteration:
                return None
            if node != "hold on":
                return node
            if not self._completed:
                return None

    def _complete(self, node: ExecNode, result: BaseFail | dict[str, Any] | None) -> None:
        failure = result if isinstance(result, BaseFail) else None
        if isinstance(result, dict):
            node.task.result = result
            node.task.values.update(result)
        self.process_task_result(node, failure)
        self._completed.append(node)

    def _start_node(self, node: ExecNode) -> None:
        """Start a node in its warm worker, or in a process of doit if the worker cannot fork."""
        if self._stop_running:  # the run was stopped while the node waited for a lock
            return
        result = _capture_error(self._begin_attempt, node)
        if result is not None:
            self._complete(node, result)

    def _begin_attempt(self, node: ExecNode) -> dict[str, Any] | None:
        """Start an attempt; return the values of a node whose result exists, or None if it was started."""
        project, label = self._project, _get_node_label(node)
        try:
            attempt = NodeAttempt(project, label, wait=False)
        except BlockingIOError:
            self._scheduled.append(
                (time.monotonic() + _LOCK_RETRY_S, partial(self._start_node, node))
            )
            return None
        try:
            job = attempt.prepare()
            worker = project.find_interpreter(label).find_worker(job.env) if job else None
        except BaseException:
            attempt.close()
            raise
        if worker is None:
            attempt.close()
            if job is None:
                return attempt.found
            self._start_other(node)
            return None
        self.reporter.execute_task(node.task)
        self._run_job(node, attempt, worker)
        return None

    def _run_job(self, node: ExecNode, attempt: NodeAttempt, worker: Worker) -> None:
        self._running[worker.start(attempt.job)] = node, attempt, worker
        self._add_handler(worker.answers.fileno(), select.POLLIN, lambda: self._receive(worker))
        # Only the pipe for questions reports that the worker no longer reads.
        self._add_handler(worker.questions.fileno(), 0, lambda: self._receive(worker))

    def _receive(self, worker: Worker) -> None:
        """Process the reports of a warm worker. If the worker has ended, its nodes have failed."""
        try:
            reports = list(worker.receive())
        except NodeError as error:
            for descriptor in (worker.answers.fileno(), worker.questions.fileno()):
                self._poll.unregister(descriptor)
                del self._handlers[descriptor]
            for number in [n for n, (_, _, its) in self._running.items() if its is worker]:
                self._finish(number, error)
            return
        for number, report in reports:
            self._finish(number, report)

    def _finish(self, number: int, report: Report | NodeError) -> None:
        node, attempt, worker = self._running.pop(number)
        wait_s = None if isinstance(report, NodeError) else attempt.plan_retry(report)
        if wait_s is not None:
            again = partial(self._run_job, node, attempt, worker)
            self._scheduled.append((time.monotonic() + wait_s, again))
        elif isinstance(report, NodeError) or report.error or report.seconds > _SHORT_NODE_S:
            self._record(node, attempt, report)
        else:
            self._ended.append((node, attempt, report))

    def _record(self, node: ExecNode, attempt: NodeAttempt, report: Report | NodeError) -> None:
        def record() -> dict[str, Any]:
            with attempt:
                if isinstance(report, NodeError):
                    raise report
                return attempt.finish(report)

        self._complete(node, _capture_error(record))
        if self._flusher is None:
            from fftasks.cache.store import DiskFlusher

            self._flusher = DiskFlusher(self._project.folder)
        self._flusher.note()

    def _start_other(self, node: ExecNode) -> None:
        """Run a task in a process of doit, as doit's own runner does."""
        process = next((free for free in self._processes if free.node is None), None)
        if process is None:
            process = TaskProcess(self)
            self._processes.append(process)
            self._add_handler(
                process.connection.fileno(), select.POLLIN, lambda: self._take_result(process)
            )
        process.node = node
        is_known = node.task.loader is not DelayedLoaded
        process.connection.send(JobTaskPickle(node.task) if is_known else JobTask(node.task))

    def _take_result(self, process: TaskProcess) -> None:
        message, node = process.connection.recv(), process.node
        if not self._handle_message(message) and node is not None:
            process.node = None
            self._process_result(node, node.task, message)
            self._completed.append(node)

    def _handle_message(self, message: dict[str, Any]) -> bool:
        """Process a message; return False if it is the result of a task.

        Args:
            message: Message of a process of doit: an error, a call of a reporter method, or a result.
        """
        if "exit" in message:
            raise message["exit"](message["exception"])
        if "reporter" not in message:
            return False
        getattr(self.reporter, message["reporter"])(self.tasks[message["name"]])
        return True

    def _add_handler(self, descriptor: int, events: int, handler: Callable[[], None]) -> None:
        if descriptor not in self._handlers:
            self._poll.register(descriptor, events)
            self._handlers[descriptor] = handler

    def _wait(self) -> None:
        next_s = min((when for when, _ in self._scheduled), default=math.inf) - time.monotonic()
        for descriptor, _ in self._poll.poll(1000 * max(0.0, min(next_s, _POLL_INTERVAL_S))):
            if descriptor in self._handlers:  # its worker may have just been found to have ended
                self._handlers[descriptor]()


def _get_node_label(node: ExecNode) -> str:
    return str((node.task.meta or {}).get("fftasks", {}).get("node", ""))


def _capture_error(act: Callable[..., Any], *args: Any) -> Any:
    """Call a function; return its result, or its error as an error object of doit."""
    try:
        return call_reporting_errors(act, *args)
    except Exception as error:  # noqa: BLE001 - as doit does with errors of actions
        return TaskError(f"{type(error).__name__} in fftasks", error)
