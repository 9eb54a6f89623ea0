"""Executes runs of the KFP test server the way a cluster does: drivers, cache, launchers, pods.

Each rule names its source: a file of kubeflow/pipelines or of Argo, or what was seen on a real KFP 2.17.0.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services import launcher
from tests.services.argo import Step, list_nodes, name_pod
from tests.services.cache_key import make_custom_fingerprint, make_fingerprint
from tests.services.executor_input import (
    DriverError,
    Paths,
    check_inputs_are_distinct,
    list_input_ids,
    make_executor_input,
    number_logs,
)
from tests.services.kfp_run import Run, Task
from tests.services.kubernetes import (
    Machine,
    Objects,
    WaitError,
    check_machines,
    fill_folders,
    keep_claims,
    list_claims,
    list_env,
    list_mounts,
    read_config,
)
from tests.services.launcher import Ending, Launch, LauncherError, Pod
from tests.services.object_store import ObjectStore
from tests.services.pod_log import LauncherLog, describe_exit, format_driver_log
from tests.services.protojson import format_message, to_value

MAX_ARGUMENT_BYTES = 128 << 10  # MAX_ARG_STRLEN of Linux, terminating zero included
MAX_INPUT_ARTIFACTS = 230
_DONE = frozenset({"SUCCEEDED", "SKIPPED"})
_RESTARTS = 2  # of a pod that was lost


@dataclass(frozen=True)
class Pace:
    """How slow a cluster is.

    Attributes:
        driver_s, queue_s, pull_s: Seconds that a task takes before its command runs: its driver, the queue,
            the pull of its image.
        look_s: How late Argo's controller looks at a pod that has ended, up to 10 s on a real system.
        second_s: How long a second of a retry policy is, so that a test need not wait for minutes.
    """

    driver_s: float = 0.0
    queue_s: float = 0.0
    pull_s: float = 0.0
    look_s: float = 0.0
    second_s: float = 1.0


@dataclass
class Cluster:
    """One cluster: a callable that executes a run (see kfp_run.Execute).

    Attributes:
        launch: What runs a pod: a DockerPods, or a function of a test.
        folder: Where the bucket, the claims and the pods' folders lie.
        paths: How the backend lays out outputs.
        is_caching: The backend's cache is on (a task asks for it by cachingOptions).
        honours_cache_key: cachingOptions.cacheKey counts, as from release 2.18 on.
        workers: Pods at a time; a pod that cannot start does not count.
        objects: Secrets, config maps and claims.
        machines: The machines; None: every pod finds one.
        pace: How slow it is.
        pods: All that were started, in order.
    """

    launch: Launch
    folder: Path
    paths: Paths = field(default_factory=Paths)
    is_caching: bool = True
    honours_cache_key: bool = False
    workers: int = 2
    objects: Objects = field(default_factory=Objects)
    machines: tuple[Machine, ...] | None = None
    pace: Pace = field(default_factory=Pace)
    pods: list[Pod] = field(default_factory=list)
    _cache: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = field(default_factory=dict)
    _imported: dict[str, Any] = field(default_factory=dict)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def store(self) -> ObjectStore:
        """Give the bucket."""
        return ObjectStore(self.folder / "bucket")

    def __call__(self, run: Run) -> None:
        """Execute the run's tasks, upstream first, independent ones side by side.

        A failed task stops what is behind it and nothing else: Argo looks at the phase of a DAG only when
        nothing of it runs (workflow/controller/dag.go, assessDAGPhase).
        """
        # from Argo 3.7.10 on arguments travel in a file, and the driver reads one from 2.16 on
        has_file = run.argo.release >= (2, 17)
        if not has_file and _is_too_long(format_message(run.pipeline.spec.root)):
            error = "fork/exec /bin/driver: argument list too long"
            run.fail_root(f"root driver: {error}", f"Error: {error}\n")
            return
        order = run.pipeline.order_tasks()
        doing: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            while not run.is_terminated.is_set():
                ready = _list_ready(run, order)
                for name in ready:
                    run.get_task(name).drive()
                run.observe()
                for name in ready:
                    doing[pool.submit(self._run_task, run, run.tasks[name])] = name
                if not doing:
                    if any(_is_waiting(task) for task in run.tasks.values()):
                        run.is_terminated.wait()
                    break
                for future in wait(doing, return_when=FIRST_COMPLETED).done:
                    del doing[future]
                    future.result()

    def _run_task(self, run: Run, task: Task) -> None:
        executor = run.pipeline.executors[run.pipeline.get_component(task.name).executor_label]
        if executor.WhichOneof("spec") == "importer":
            self._import(task, executor.importer.artifact_uri.constant.string_value)
            return
        try:
            message = self._drive(run, task)
        except DriverError as exc:
            names = f"pipelineName={run.pipeline.name}, runID={run.run_id}, taskName={task.name!r}"
            error = f"driver.Container({names}) failed: {exc}"
            task.fail_driver(str(exc), self._write_driver_log(run, task, error))
            return
        if run.is_terminated.is_set():
            return
        task.driver.log = self._write_driver_log(run, task)
        if not self._reuse(run, task):
            task.end_driver()
            self._run_pods(run, task, message)

    def _import(self, task: Task, uri: str) -> None:
        """Take an artifact that is there; the metadata store knows it by its uri."""
        from kfp.pipeline_spec import pipeline_spec_pb2 as ir

        with self._lock:
            if uri not in self._imported:
                self._imported[uri] = ir.RuntimeArtifact(name=str(next(self._ids)), uri=uri)
        artifact = self._imported[uri]
        task.outputs = {"parameters": {}, "artifacts": {"artifact": artifact}}
        task.published = [("artifact", artifact)]
        task.end_driver()
        task.state, task.ended, task.execution_state = "SUCCEEDED", time.time(), "COMPLETE"

    # the driver

    def _drive(self, run: Run, task: Task) -> Any:
        """Do what the driver does before it makes the execution (driver/container.go, 2.17.0).

        Returns:
            The ExecutorInput.

        Raises:
            DriverError: For all that makes the driver fail.
        """
        from google.protobuf import json_format

        message = make_executor_input(run, task.name, self.paths)
        task.executor_input = to_value(message)
        run.is_terminated.wait(self.pace.driver_s)
        try:
            config = read_config(run.pipeline.get_kubernetes(task.name))
        except json_format.ParseError as exc:
            raise DriverError(f"failed to unmarshal Kubernetes config: {exc}") from exc
        if self.is_caching and run.pipeline.tasks[task.name].caching_options.enable_cache:
            task.fingerprint = self._make_fingerprint(run, task.name, message, list_claims(config))
        task.inputs = list_input_ids(message)
        check_inputs_are_distinct(task.inputs)
        return message

    def _write_driver_log(self, run: Run, task: Task, error: str = "") -> str:
        spec = run.pipeline.tasks[task.name]
        component = to_value(run.pipeline.get_component(task.name))
        container = to_value(run.pipeline.get_container(task.name))
        return format_driver_log(component, to_value(spec), container, error)

    def _reuse(self, run: Run, task: Task) -> bool:
        """Take the outputs of an earlier task with the same key; return False if there is none."""
        with self._lock:
            found = self._cache.get((run.namespace, run.pipeline.name, task.fingerprint))
        if found is None or not task.fingerprint:
            return False
        task.cached_execution_id, task.outputs = found
        task.published = list(task.outputs["artifacts"].items())
        task.move("SKIPPED")
        return True

    def _make_fingerprint(self, run: Run, name: str, message: Any, claims: list[str]) -> str:
        from kfp.pipeline_spec import pipeline_spec_pb2 as ir

        task = run.pipeline.tasks[name]
        if self.honours_cache_key and task.caching_options.cache_key:
            return make_custom_fingerprint(task.component_ref.name, task.caching_options.cache_key)
        definitions = run.pipeline.get_component(name).output_definitions.parameters
        types = {
            output: ir.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
            for output, definition in definitions.items()
        }
        return make_fingerprint(message, types, run.pipeline.get_container(name), claims)

    # pods

    def _run_pods(self, run: Run, task: Task, message: Any) -> None:
        """Run a task's pods, as often as Argo's retry strategy wants it.

        The strategy is KFP's, merged with that of the retry block where there is one. The step around the
        pods has a strategy of its own with the block, which counts for errors only.
        """
        for number in range(1 + run.argo.retries_of_block):
            if number:
                task.rounds.append([])
            if not self._run_round(run, task, message):
                return
        task.ended = time.time()

    def _run_round(self, run: Run, task: Task, message: Any) -> bool:
        """Run the pods of one step; return True if the step ended with "Error" instead of "Failed"."""
        policy = run.pipeline.tasks[task.name].retry_policy
        has_policy = run.has_retry_policy(task.name)
        limit = policy.max_retry_count if has_policy else run.argo.retries_of_block
        first = time.time()
        for index in itertools.count():
            step = Step()
            step.move("PENDING")
            task.rounds[-1].append(step)
            ending = self._run_pod(run, task, message, index)
            if run.is_terminated.is_set() or task.state in _DONE or _is_waiting(task):
                return False
            task.state, task.ended = "RUNNING", 0.0
            if has_policy:
                if policy.backoff_factor % 1:
                    # Argo: "value '1.5' cannot be resolved to an int", and the step is in error
                    self._fail(
                        task, f"value '{policy.backoff_factor:g}' cannot be resolved to an int"
                    )
                    return True
                if not self._back_off(run, policy, index, first, limit):
                    break
            # without the block, KFP sets no policy, and Argo's default is OnFailure
            is_retried = ending.is_lost if run.argo.has_block else has_policy and not ending.is_lost
            if not is_retried or index >= limit or run.is_terminated.is_set():
                break
        self._fail(task, task.error)
        return False

    def _back_off(self, run: Run, policy: Any, index: int, first: float, limit: int) -> bool:
        """Wait before a retry; return False if none is made (Argo, operator.go, processNodeRetries).

        `backoffMaxDuration` is the total time from the start of the first try. A field that is not set
        counts as 0 (container.go: the parameters' default), so that nothing is tried again.
        """
        second_s = self.pace.second_s
        deadline = first + policy.backoff_max_duration.ToTimedelta().total_seconds() * second_s
        pause = policy.backoff_duration.ToTimedelta().total_seconds() * second_s
        if policy.backoff_factor > 0:
            pause *= policy.backoff_factor**index
        if time.time() > deadline:  # "Max duration limit exceeded"
            return False
        if time.time() + pause > deadline:  # "Backoff would exceed max duration limit"
            return False
        if index < limit:
            self._pause(run, pause + self.pace.look_s * second_s)
        return time.time() <= deadline

    def _fail(self, task: Task, error: str) -> None:
        task.state, task.error, task.ended = "FAILED", error, time.time()

    def _run_pod(self, run: Run, task: Task, message: Any, index: int) -> Ending:
        """Run one pod from its creation to its end."""
        step = task.pods[-1]
        task.move("PENDING")
        self._pause(run, self.pace.queue_s)
        config = read_config(run.pipeline.get_kubernetes(task.name))
        resources = run.pipeline.get_container(task.name).resources
        # the id, because a run that is retried has the same tasks once more
        folder = self.folder / "pods" / task.task_id / f"{task.name}-{len(task.rounds) - 1}-{index}"
        try:
            check_machines(config, resources, self.objects, self.machines)
            step.placed = time.time()
            self._pause(run, self.pace.pull_s)
            if run.argo.numbers_logs_artifact:
                message = number_logs(message, index)
            for restart in range(1 + _RESTARTS):
                shutil.rmtree(folder, ignore_errors=True)
                pod = self._make_pod(run, task, message, index, folder, config)
                ending = self._run_container(run, task, pod, message)
                # seen on a real 2.17.0 (Argo 4.0.5) for a pod that was deleted by force: the same node
                # goes from FAILED to RUNNING, and there is no node for a second try
                if not (ending.is_lost and run.argo.has_block and restart < _RESTARTS):
                    break
        except WaitError as exc:
            # nothing ends it but the end of the run; the API shows PENDING and no reason
            step.waits = (exc.place, exc.reason, exc.message)
            task.error = f"{exc.reason}: {exc.message}"
            return Ending(1, error=exc.message)
        if not run.is_terminated.is_set():
            keep_claims(config, folder, self.folder / "claims")
        if task.state in _DONE:
            shutil.rmtree(folder, ignore_errors=True)
        return ending

    def _make_pod(
        self, run: Run, task: Task, message: Any, index: int, folder: Path, config: Any
    ) -> Pod:
        container = run.pipeline.get_container(task.name)
        folder.mkdir(parents=True)
        launcher.prepare_pod(folder, message, self.store)
        fill_folders(config, self.objects, folder, self.folder / "claims")
        step = task.pods[-1]
        name = next(
            name_pod(run.argo_name, node) for node in list_nodes(run).values() if node.pod is step
        )
        env = {variable.name: variable.value for variable in container.env}
        env |= list_env(config, self.objects)
        env |= {"KFP_POD_NAME": name, "KFP_POD_UID": step.uid}
        if run.has_retry_policy(task.name):
            # container.go: {{retries}} exists only where KFP itself sets a retry strategy
            env["KFP_RETRY_INDEX"] = str(index)
        task.pod_in_store = (name, step.uid)
        args = [
            launcher.fill_placeholders(word, message)
            for word in (*container.command, *container.args)
        ]
        return Pod(
            name,
            container.image,
            args[:1],
            args[1:],
            env,
            folder,
            run.is_terminated,
            container.resources,
            config,
            tuple(path for path, _ in list_mounts(config, self.folder)),
            functools.partial(_show, step, LauncherLog(run.argo)),
        )

    def _run_container(self, run: Run, task: Task, pod: Pod, message: Any) -> Ending:
        """Run the container `main` of a pod: Argo's executor, in it the launcher, in it the program."""
        step, log = task.pods[-1], LauncherLog(run.argo)
        log.start()
        prepare = getattr(self.launch, "prepare", None)  # pulls the image
        if prepare is not None:
            prepare(pod)
        if step.state == "FAILED":  # a pod that was lost: the node is the same
            step.move("RUNNING")
            task.state, task.ended = "RUNNING", 0.0
        else:
            task.move("RUNNING")
        step.log = log.text
        if self._has_too_long_argument(message):
            error = "fork/exec /var/run/argo/argoexec: argument list too long"
            step.log = f"exec {error}\n"
            return self._end_badly(task, Ending(1), error, [])
        self.pods.append(pod)
        ending = self.launch(pod)
        if ending.error:
            reason, _, text = ending.error.partition(": ")
            step.history[:] = step.history[:1]  # it never ran
            task.state = "PENDING"
            raise WaitError(
                "image" if "Image" in reason or "Pull" in reason else "config", reason, text
            )
        log.add(ending.log)
        step.log = log.text
        if run.is_terminated.is_set():
            return ending
        if ending.is_killed or ending.is_lost:
            reason = "Error" if ending.is_lost else "DeadlineExceeded"
            state = task.execution_state
            self._end_badly(task, ending, reason, [])
            task.execution_state = state  # its launcher was killed and could not say anything
            return ending
        launcher.write_logs(pod.folder, message, ending.log)
        if ending.exit_code:
            artifacts, uploads = launcher.collect_logs(pod.folder, message, self.store)
            error = ending.reason or describe_exit(ending.exit_code)
            log.fail(error, uploads)
            step.log = log.text
            return self._end_badly(task, ending, error, list(artifacts.items()))
        return self._collect(run, task, pod, message, ending, log)

    def _collect(
        self, run: Run, task: Task, pod: Pod, message: Any, ending: Ending, log: LauncherLog
    ) -> Ending:
        """Take the outputs of a program that ended with exit code 0, be they there or not."""
        component = run.pipeline.get_component(task.name)
        said = launcher.read_said(pod.folder, message)
        try:
            parameters, artifacts, uploads = launcher.collect_outputs(
                pod.folder, message, component, self.store
            )
        except LauncherError as exc:
            log.fail(str(exc), [], is_program=False)
            task.pods[-1].log = log.text
            return self._end_badly(task, Ending(1, ending.log), str(exc), [])
        log.succeed(message.outputs.output_file, said, uploads)
        task.pods[-1].log = log.text
        kept = {name: self._register(name, artifact) for name, artifact in artifacts.items()}
        task.outputs = {"parameters": parameters, "artifacts": kept}
        task.published += kept.items()
        if task.fingerprint:
            with self._lock:
                key = (run.namespace, run.pipeline.name, task.fingerprint)
                self._cache[key] = (task.execution_id, task.outputs)
        task.pods[-1].end_reason = "Completed"
        task.move("SUCCEEDED")
        return ending

    def _end_badly(
        self, task: Task, ending: Ending, error: str, artifacts: list[tuple[str, Any]]
    ) -> Ending:
        """Let a pod fail; the launcher exits with 1, whatever the program's code was."""
        task.published += [(name, self._register(name, artifact)) for name, artifact in artifacts]
        task.pods[-1].end_reason = "OOMKilled" if ending.is_out_of_memory else "Error"
        task.move("FAILED", error)
        return ending

    def _has_too_long_argument(self, message: Any) -> bool:
        is_wide = len(message.inputs.artifacts) > MAX_INPUT_ARTIFACTS
        return is_wide or _is_too_long(format_message(message))

    def _pause(self, run: Run, seconds: float) -> None:
        if seconds > 0:
            run.is_terminated.wait(seconds)

    def _register(self, name: str, artifact: Any) -> Any:
        """Return an artifact as it comes back from the metadata store: with an id for its name."""
        from kfp.pipeline_spec import pipeline_spec_pb2 as ir

        with self._lock:
            kept = ir.RuntimeArtifact(name=str(next(self._ids)), uri=artifact.uri)
        kept.type.instance_schema = artifact.type.instance_schema
        for key, value in to_value(artifact.metadata).items():
            kept.metadata[key] = _store_property(value)
        for key, default in (("display_name", name), ("store_session_info", json.dumps({}))):
            if key not in kept.metadata:
                kept.metadata[key] = default
        return kept


def _list_ready(run: Run, order: list[str]) -> list[str]:
    """Return the tasks that have not begun and whose upstream tasks are all done."""
    done = {name for name, task in run.tasks.items() if task.state in _DONE}
    return [
        name
        for name in order
        if not run.get_task(name).state
        and done.issuperset(run.pipeline.tasks[name].dependent_tasks)
    ]


def _show(step: Step, log: LauncherLog, text: str) -> None:
    """Let the log of a pod that runs have what its program has printed so far."""
    if not log.lines:
        log.start()
    step.log = log.text + text


def _is_waiting(task: Task) -> bool:
    return bool(task.pods and task.pods[-1].waits)


def _is_too_long(argument: str) -> bool:
    return len(argument.encode()) >= MAX_ARGUMENT_BYTES


def _store_property(value: Any) -> Any:
    """Return a value of an artifact's metadata as the metadata store keeps it."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value
