"""doit's runner, with nodes given to warm workers by the process that schedules them.

doit's own has processes that are told by a queue what to do: a node would be told on from there to the warm
worker, and its report come back the same way, which is twice as much work as a trivial node itself. Here one
process looks, sends and records, and waits for whatever ends next.
"""

from __future__ import annotations

import math
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from doit.control import ExecNode, TaskDispatcher
from doit.exceptions import BaseFail, TaskError, UnmetDependency
from doit.runner import JobTask, JobTaskPickle, MRunner, Runner
from doit.task import DelayedLoaded

from fftasks.doit.actions import call_running
from fftasks.doit.attempt import Attempt
from fftasks.doit.process import TaskProcess
from fftasks.errors import NodeError
from fftasks.project import open_current

if TYPE_CHECKING:
    from fftasks.ports.interpreter import Worker
    from fftasks.runtime.job import Report
    from fftasks.store.flush import Flusher

_LOOK_S = 0.5
_LOCKED_S = 0.05
_MOMENT_S = 0.05  # what took no longer may be lost with the run


class _Counting(Runner):  # type: ignore[misc]
    final_result: int

    def _handle_task_error(self, node: ExecNode, base_fail: BaseFail) -> None:
        before = int(self.final_result)
        super()._handle_task_error(node, base_fail)
        if isinstance(base_fail, UnmetDependency):  # what it needed has failed, and was counted
            self.final_result = before


class Sequential(_Counting):
    """doit's runner for `-n 0`: all in this process, one after the other."""


class Dispatcher(_Counting, MRunner):  # type: ignore[misc]
    """doit's runner for several tasks at a time."""

    def run_tasks(self, task_dispatcher: TaskDispatcher) -> None:
        """Run all tasks that are not up to date."""
        self._run_tasks_init(task_dispatcher)
        self._project = open_current()
        self._completed: deque[ExecNode] = deque()  # doit has yet to hear of them
        # when to go on with a node that another run has, or that is to be tried again, and how
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._running: dict[int, tuple[ExecNode, Attempt, Worker]] = {}
        self._ended: deque[tuple[ExecNode, Attempt, Report]] = deque()  # not recorded yet
        self._processes: list[TaskProcess] = []
        self._flusher: Flusher | None = None
        self._poll = select.poll()
        self._ears: dict[int, Callable[[], None]] = {}
        try:
            self._start_tasks()
            while self._running or self._later or self._count_others():
                self._wait()
                # first, so that no processor waits while it is recorded what trivial nodes gave
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
                self._note(message)

    def _start_tasks(self) -> None:
        """Start as many tasks as there is place for, in doit's order."""
        now = time.monotonic()
        due = [one for one in self._later if one[0] <= now]
        self._later = [one for one in self._later if one[0] > now]
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
            elif _find_label(node):
                self._start_node(node)
            else:
                self._start_other(node)

    def _has_place(self) -> bool:
        return bool(len(self._running) + self._count_others() < self.num_process)

    def _count_others(self) -> int:
        return sum(process.node is not None for process in self._processes)

    def _take_next(self) -> ExecNode | None:
        """Return doit's next task; None if there is none before another one has ended."""
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
        """Give a node to its warm worker; to a process of doit where that cannot fork."""
        if self._stop_running:  # while it waited for another run
            return
        result = _try(self._begin, node)
        if result is not None:
            self._complete(node, result)

    def _begin(self, node: ExecNode) -> dict[str, Any] | None:
        """Return what doit keeps of a node whose result is there, or None: it is on its way."""
        project, label = self._project, _find_label(node)
        try:
            attempt = Attempt(project, label, wait=False)
        except BlockingIOError:
            self._later.append((time.monotonic() + _LOCKED_S, partial(self._start_node, node)))
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

    def _run_job(self, node: ExecNode, attempt: Attempt, worker: Worker) -> None:
        self._running[worker.start(attempt.job)] = node, attempt, worker
        self._hear(worker.answers.fileno(), select.POLLIN, lambda: self._receive(worker))
        # that nobody reads the questions any more is said of their pipe alone
        self._hear(worker.questions.fileno(), 0, lambda: self._receive(worker))

    def _receive(self, worker: Worker) -> None:
        """Take what a warm worker says; if it is gone, its nodes have failed."""
        try:
            reports = list(worker.receive())
        except NodeError as error:
            for descriptor in (worker.answers.fileno(), worker.questions.fileno()):
                self._poll.unregister(descriptor)
                del self._ears[descriptor]
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
            self._later.append((time.monotonic() + wait_s, again))
        elif isinstance(report, NodeError) or report.error or report.seconds > _MOMENT_S:
            self._record(node, attempt, report)
        else:
            self._ended.append((node, attempt, report))

    def _record(self, node: ExecNode, attempt: Attempt, report: Report | NodeError) -> None:
        def record() -> dict[str, Any]:
            with attempt:
                if isinstance(report, NodeError):
                    raise report
                return attempt.finish(report)

        self._complete(node, _try(record))
        if self._flusher is None:
            from fftasks.store.flush import Flusher

            self._flusher = Flusher(self._project.folder)
        self._flusher.note()

    def _start_other(self, node: ExecNode) -> None:
        """Give a task to a process of doit, as its own runner does."""
        process = next((free for free in self._processes if free.node is None), None)
        if process is None:
            process = TaskProcess(self)
            self._processes.append(process)
            self._hear(
                process.connection.fileno(), select.POLLIN, lambda: self._take_result(process)
            )
        process.node = node
        is_known = node.task.loader is not DelayedLoaded
        process.connection.send(JobTaskPickle(node.task) if is_known else JobTask(node.task))

    def _take_result(self, process: TaskProcess) -> None:
        message, node = process.connection.recv(), process.node
        if not self._note(message) and node is not None:
            process.node = None
            self._process_result(node, node.task, message)
            self._completed.append(node)

    def _note(self, message: dict[str, Any]) -> bool:
        """Do what a process asks for; return whether it did, else the message is its task's result."""
        if "exit" in message:
            raise message["exit"](message["exception"])
        if "reporter" not in message:
            return False
        getattr(self.reporter, message["reporter"])(self.tasks[message["name"]])
        return True

    def _hear(self, descriptor: int, events: int, ear: Callable[[], None]) -> None:
        if descriptor not in self._ears:
            self._poll.register(descriptor, events)
            self._ears[descriptor] = ear

    def _wait(self) -> None:
        next_s = min((when for when, _ in self._later), default=math.inf) - time.monotonic()
        for descriptor, _ in self._poll.poll(1000 * max(0.0, min(next_s, _LOOK_S))):
            if descriptor in self._ears:  # else its worker was found to be gone just now
                self._ears[descriptor]()


def _find_label(node: ExecNode) -> str:
    return str((node.task.meta or {}).get("fftasks", {}).get("node", ""))


def _try(act: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns, or its error as doit's."""
    try:
        return call_running(act, *args)
    except Exception as error:  # noqa: BLE001 - as doit does with all that an action raises
        return TaskError(f"{type(error).__name__} in fftasks", error)
