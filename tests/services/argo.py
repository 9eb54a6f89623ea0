"""The nodes of Argo's workflow below a run of KFP: their names, numbers, states, children and pods.

KFP shows one row per node (backend/src/common/util/workflow.go, NodeStatuses, 2.17.0), so the rows of a run
follow from three sources:

* KFP's compiler (backend/src/v2/compiler/argocompiler, 2.17.0): which steps a task has, and what their
  templates are called.
* Argo's controller (workflow/controller/dag.go and operator.go, 4.0): which node is a child of which, and
  when a node is omitted. The number of a node is the FNV-1a hash of its full name.
* Rows seen on a real KFP 2.17.0, with and without the retry block; tests/services/recorded holds them.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.services.kfp_run import Run, Task

FINAL = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_RETRIES_OF_BLOCK = 2  # manifests of 2.17.0: templateDefaults.retryStrategy.limit
_MAX_NAME = 253 - 10  # Argo's util/podname.go: the longest name of a resource, without the number


@dataclass(frozen=True)
class Argo:
    """How an installation runs workflows; the default is a stock KFP 2.17.0.

    Attributes:
        version: The release of KFP.
        retry_block: Argo's config map has `templateDefaults.retryStrategy {limit: 2, retryPolicy: OnError}`,
            as the manifests of 2.17 have. None: as the release has it. KFP 2.17.0 seen on a real
            installation: the block turns every node into a Retry node with children `<name>(0)`, and exit
            codes are not retried, because a container that fails is "Failed" and not "Error".
        publish_logs: The API server's PUBLISH_LOGS, which is on by default.
        report_s: How often KFP sees the states of nodes (about every 10 s on a real system). A state that
            lasted for less is not in a history, unless it is the first or the last one: the histories that
            were recorded go from PENDING to SUCCEEDED for most pods.
        compress_bytes: Argo compresses the states of nodes when the workflow object is larger than this.
        max_bytes: A workflow object that is larger than this in spite of it fails the run.
    """

    version: str = "2.17.0"
    retry_block: bool | None = None
    publish_logs: bool = True
    report_s: float = 1.0
    compress_bytes: int = 1 << 20
    max_bytes: int = 1 << 20

    @property
    def release(self) -> tuple[int, ...]:
        """Return the release as numbers."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])

    @property
    def has_block(self) -> bool:
        """Say whether every template has a retry strategy by default."""
        return self.release >= (2, 17) if self.retry_block is None else self.retry_block

    @property
    def has_logs_artifact(self) -> bool:
        """Say whether the driver adds the output `executor-logs` (from 2.5.0 on, driver.go)."""
        return self.publish_logs and self.release >= (2, 5)

    @property
    def numbers_logs_artifact(self) -> bool:
        """Say whether the launcher appends the number of the try to its place (from 2.16.1 on)."""
        return self.release >= (2, 16, 1)

    @property
    def retries_of_block(self) -> int:
        """Return how often a node that ended with "Error" is tried again without a policy of its own."""
        return _RETRIES_OF_BLOCK if self.has_block else 0


@dataclass
class Step:
    """What became of one pod, or of a step of Argo's without a pod.

    Attributes:
        history: Times (seconds since 1970) and states.
        is_real: There is a pod.
        begun: When it began, if its history does not say it.
        log: What the container `main` printed, Argo's and the launcher's lines included.
        waits: Why it cannot start: reason and message of Kubernetes, in the place where Kubernetes has them
            ("scheduling", "mount", "image", "config").
        exit_code: Of the container; the launcher's, which is 0 or 1.
        end_reason: Of Kubernetes, for a container that ended.
        placed: When it got a machine.
    """

    history: list[tuple[float, str]] = field(default_factory=list)
    is_real: bool = True
    begun: float = 0.0
    log: str = ""
    waits: tuple[str, str, str] | None = None
    exit_code: int = 0
    end_reason: str = ""
    placed: float = 0.0
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def state(self) -> str:
        """Return the last state, "" for none."""
        return self.history[-1][1] if self.history else "RUNNING"

    @property
    def started(self) -> float:
        """Return when it began."""
        return self.begun or (self.history[0][0] if self.history else 0.0)

    @property
    def ended(self) -> float:
        """Return when it ended; 0.0 if it has not."""
        return self.history[-1][0] if self.history and self.state in FINAL else 0.0

    def move(self, state: str) -> None:
        """Go into a state."""
        self.history.append((time.time(), state))

    def find_time(self, state: str) -> float:
        """Return when it went into a state last; 0.0 if it never did."""
        return next((when for when, one in reversed(self.history) if one == state), 0.0)


@dataclass
class Node:
    """One node of a workflow.

    Attributes:
        name: Its full name, by which Argo numbers it.
        display: The name that is shown.
        template: The name of the template, which is a part of a pod's name.
        state: One of KFP's states; "" for an omitted node, whose phase KFP does not know.
        started, ended: Seconds since 1970; 0.0 for "not yet".
        history: The states that were reported, with their times.
        pod: The pod, if the node has one.
        children: The full names of the nodes behind it.
    """

    name: str
    display: str
    template: str
    state: str
    started: float
    ended: float
    history: list[tuple[float, str]]
    pod: Step | None = None
    children: list[str] = field(default_factory=list)


def number_node(name: str) -> int:
    """Return the number in the id of a node: the FNV-1a hash of its full name."""
    number = 2166136261
    for byte in name.encode():
        number = ((number ^ byte) * 16777619) % 2**32
    return number


def name_pod(workflow: str, node: Node) -> str:
    """Return the name of a node's pod: `<workflow>-<template>-<number>` (Argo, util/podname.go)."""
    return f"{workflow}-{node.template}"[: _MAX_NAME - 1] + f"-{number_node(node.name)}"


def list_nodes(run: Run) -> dict[str, Node]:
    """Return the nodes that a run's workflow has by now, by full name."""
    return _Tree(run).build()


class _Tree:
    """Builds the nodes of one run, upstream tasks first."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.has_block = run.argo.has_block
        self.nodes: dict[str, Node] = {}
        self.outbound: dict[str, list[str]] = {}  # task -> nodes behind which its followers hang
        self.is_bad: dict[str, bool] = {}  # tasks that have ended -> failed or omitted
        self.ends: dict[str, float] = {}

    def build(self) -> dict[str, Node]:
        run = self.run
        if not run.began:  # the controller has not seen the workflow yet
            return self.nodes
        name = run.argo_name
        state = run.state if run.state in FINAL else "RUNNING"
        [dag] = self.add_wrapped(
            name, name, "entrypoint", [_make_body(run.began, run.ended, state)]
        )
        driver = f"{dag}.root-driver"
        ends = self.add_wrapped(driver, "root-driver", "system-dag-driver", [run.driver])
        self.link(dag, driver)
        root = f"{dag}.root"
        if run.driver.state == "FAILED":
            self.add_omitted(root, "root", run.driver.ended)
        elif run.driver.state == "SUCCEEDED":
            body = _make_body(run.driver.ended, run.ended, state)
            [root_dag] = self.add_wrapped(root, "root", "root", [body])
            for task in run.pipeline.order_tasks():
                self.add_task(root_dag, task)
        if root in self.nodes:
            self.link(ends[-1], root)
        return self.nodes

    def add_task(self, root: str, name: str) -> None:
        """Add the nodes of a task, if it has some."""
        upstream = list(dict.fromkeys(self.run.pipeline.tasks[name].dependent_tasks))
        if any(other not in self.is_bad for other in upstream):
            return
        parents = [node for other in upstream for node in self.outbound[other]] or [root]
        task = self.run.tasks.get(name)
        if task is not None and task.state:
            if self.run.is_importer(name):
                self.add_importer(root, task, parents)
            else:
                self.add_begun(root, task, parents)
            return
        if any(self.is_bad[other] for other in upstream):
            self.add_not_begun(root, name, parents, max(self.ends[other] for other in upstream))

    def add_importer(self, root: str, task: Task, parents: Sequence[str]) -> None:
        """Add an importer: one pod and no driver (argocompiler/importer.go)."""
        base = f"{root}.{task.name}"
        ends = self.add_wrapped(base, task.name, "system-importer", [task.driver])
        self.link_all(parents, base)
        self.end(task.name, ends[-1:], task.driver.state, task.driver.ended)

    def add_begun(self, root: str, task: Task, parents: Sequence[str]) -> None:
        base = f"{root}.{task.name}"
        driver, shown = f"{base}-driver", f"{task.name}-driver"
        ends = self.add_wrapped(driver, shown, "system-container-driver", [task.driver])
        self.link_all(parents, driver)
        if task.driver.state == "FAILED":
            # the real system: the row of the driver is FAILED, that of the task has no state
            self.add_omitted(base, task.name, task.driver.ended)
            self.link(ends[-1], base)
            self.end(task.name, [base], "FAILED", task.driver.ended)
        elif task.driver.state == "SUCCEEDED":
            self.link(ends[-1], base)
            self.end(task.name, *self.add_executor(base, task))

    def add_executor(self, base: str, task: Task) -> tuple[list[str], str, float]:
        """Add the DAG around a task's pods, and these; return outbound nodes, state and end."""
        state = _get_state(task)
        ended = task.ended if state in FINAL else 0.0
        bodies = []
        # a pod without history is one that another thread is just making
        rounds = [[step for step in list(tries) if step.history] for tries in list(task.rounds)]
        for number, tries in enumerate(rounds):
            is_last = number == len(rounds) - 1
            begun = tries[0].started if tries and number else task.driver.ended
            end = ended if is_last or not tries else tries[-1].ended
            bodies.append(_make_body(begun, end, state if is_last else "FAILED"))
        overall = _make_body(task.driver.ended, ended, state)
        dags = self.add_wrapped(base, task.name, "system-container-executor", bodies, overall)
        template = self.run.name_template(task.name)
        outbound: list[str] = []
        for number, (dag, tries) in enumerate(zip(dags, rounds, strict=False)):
            step = f"{dag}.executor"
            if not tries and not task.is_cached:
                continue
            self.link(dag, step)
            if task.is_cached:
                # skipped by its condition, before the retry strategy counts: no node `executor(0)`
                moment = [(task.ended, "SKIPPED")]
                node = Node(step, "executor", template, "SKIPPED", task.ended, task.ended, moment)
                self.nodes[step] = node
                outbound = [step]
                continue
            has_retry = self.has_block or self.run.has_retry_policy(task.name)
            last = number == len(rounds) - 1
            whole = _make_body(
                bodies[number].started, ended if last else tries[-1].ended, bodies[number].state
            )
            pods = self.add_wrapped(step, "executor", template, tries, whole, has_retry=has_retry)
            outbound = pods[-1:] or [step]
        # Argo takes the last child of a Retry node as its end, be it a DAG
        return (dags[-1:] if self.has_block else outbound), state, ended

    def add_not_begun(self, root: str, name: str, parents: Sequence[str], when: float) -> None:
        """Add the omitted nodes of a task behind one that failed."""
        base = f"{root}.{name}"
        first = base
        if not self.run.is_importer(name):
            first = f"{base}-driver"
            self.add_omitted(first, f"{name}-driver", when)
        self.add_omitted(base, name, when)
        if first != base:
            self.link(first, base)
        self.link_all(parents, first)
        self.end(name, [base], "FAILED", when)

    def add_omitted(self, name: str, display: str, when: float) -> None:
        self.nodes[name] = Node(name, display, "", "", when, when, [(when, "")])

    def add_wrapped(
        self,
        name: str,
        display: str,
        template: str,
        bodies: Sequence[Step],
        whole: Step | None = None,
        *,
        has_retry: bool | None = None,
    ) -> list[str]:
        """Add a node that does something; with a retry strategy it becomes a Retry node with children.

        Returns:
            The full names of the nodes that do it, one per try.
        """
        overall = whole or bodies[-1]
        if not (self.has_block if has_retry is None else has_retry):
            self.nodes[name] = self.make_node(name, display, template, bodies[-1])
            return [name]
        state = overall.state if overall.state in FINAL else "RUNNING"
        shown = _make_body(bodies[0].started if bodies else overall.started, overall.ended, state)
        self.nodes[name] = self.make_node(name, display, template, shown)
        self.nodes[name].pod = None
        inner = [f"{name}({number})" for number in range(len(bodies))]
        for number, body in enumerate(bodies):
            child = self.make_node(inner[number], f"{display}({number})", template, body)
            self.nodes[child.name] = child
            self.link(name, child.name)
        return inner

    def make_node(self, name: str, display: str, template: str, body: Step) -> Node:
        history = list(_shorten(body.history, self.run.argo.report_s))
        pod = body if body.is_real else None
        return Node(name, display, template, body.state, body.started, body.ended, history, pod)

    def link(self, parent: str, child: str) -> None:
        self.nodes[parent].children.append(child)

    def link_all(self, parents: Sequence[str], child: str) -> None:
        for parent in parents:
            self.link(parent, child)

    def end(self, task: str, outbound: list[str], state: str, ended: float) -> None:
        self.outbound[task] = outbound
        if state in FINAL:
            self.is_bad[task] = state == "FAILED"
            self.ends[task] = ended


def _get_state(task: Task) -> str:
    """Return the state of the step around a task's pods: a cached task has succeeded."""
    if task.state == "SKIPPED":
        return "SUCCEEDED"
    return (
        "FAILED" if task.state == "CANCELED" else task.state if task.state in FINAL else "RUNNING"
    )


def _make_body(started: float, ended: float, state: str) -> Step:
    """Return what a node that is no pod goes through."""
    history = [(started, "RUNNING")] if not ended or ended > started else []
    return Step([*history, *([(ended, state)] if ended else [])], is_real=False, begun=started)


def _shorten(history: Sequence[tuple[float, str]], least_s: float) -> Iterator[tuple[float, str]]:
    """Yield the states of a history that KFP sees, each once in a row."""
    last = None
    for number, (when, state) in enumerate(history):
        until = history[number + 1][0] if number + 1 < len(history) else None
        is_seen = number == 0 or until is None or until - when >= least_s
        if is_seen and state != last:
            yield when, "FAILED" if state == "CANCELED" else state
            last = state
