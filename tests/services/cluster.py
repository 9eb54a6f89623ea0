"""Executes runs of the KFP test server the way a cluster does: drivers, cache, launchers, pods."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services import launcher
from tests.services.cache_key import make_custom_fingerprint, make_fingerprint
from tests.services.executor_input import DriverError, Paths, make_executor_input
from tests.services.kfp_run import Run, Task
from tests.services.kubernetes import Objects, fill_folders, list_env, read_config
from tests.services.launcher import Ending, Launch, LauncherError, Pod
from tests.services.object_store import ObjectStore
from tests.services.protojson import format_message, to_value

MAX_ARGUMENT_BYTES = 128 << 10  # MAX_ARG_STRLEN of Linux, terminating zero included
MAX_INPUT_ARTIFACTS = 230
_DONE = frozenset({"SUCCEEDED", "SKIPPED"})


@dataclass(frozen=True)
class Pace:
    """How many seconds a task takes before its command runs: its driver, the queue, the pull of its image."""

    driver_s: float = 0.0
    queue_s: float = 0.0
    pull_s: float = 0.0


@dataclass
class Cluster:
    """One cluster: a callable that executes a run (see kfp_run.Execute).

    launch             what runs a pod: a DockerPods, or a function of a test
    folder             where the bucket and the pods' folders lie
    paths              how the backend lays out outputs
    is_caching         the backend's cache is on (a task asks for it by cachingOptions)
    honours_cache_key  cachingOptions.cacheKey counts, as from release 2.18 on
    workers            pods at a time
    objects            secrets and config maps
    pace               how slow it is
    pods               all that were started, in order
    """

    launch: Launch
    folder: Path
    paths: Paths = field(default_factory=Paths)
    is_caching: bool = True
    honours_cache_key: bool = False
    workers: int = 2
    objects: Objects = field(default_factory=Objects)
    pace: Pace = field(default_factory=Pace)
    pods: list[Pod] = field(default_factory=list)
    _cache: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    _imported: dict[str, Any] = field(default_factory=dict)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def store(self) -> ObjectStore:
        """Give the bucket."""
        return ObjectStore(self.folder / "bucket")

    def __call__(self, run: Run) -> None:
        """Execute the run's tasks, upstream first, independent ones side by side."""
        if _is_too_long(format_message(run.pipeline.spec.root)):
            run.error = "root driver: fork/exec /bin/driver: argument list too long"
            return
        order = run.pipeline.order_tasks()
        doing: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            while not run.is_terminated.is_set():
                for name in _list_ready(run, order):
                    run.get_task(name).drive()
                    doing[pool.submit(self._run_task, run, run.tasks[name])] = name
                if not doing:
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
            message = make_executor_input(run, task.name, self.paths)
            task.executor_input = to_value(message)
            self._check_limits(message)
            run.is_terminated.wait(self.pace.driver_s)
            if not self._reuse(run, task, message):
                self._run_pod(run, task, message)
        except (DriverError, LauncherError) as exc:
            task.move("FAILED", str(exc))

    def _import(self, task: Task, uri: str) -> None:
        """Take an artifact that is there; the metadata store knows it by its uri."""
        from kfp.pipeline_spec import pipeline_spec_pb2 as ir

        with self._lock:
            if uri not in self._imported:
                self._imported[uri] = ir.RuntimeArtifact(name=str(next(self._ids)), uri=uri)
        task.outputs = {"parameters": {}, "artifacts": {"artifact": self._imported[uri]}}
        task.move("SUCCEEDED")

    def _check_limits(self, message: Any) -> None:
        is_wide = len(message.inputs.artifacts) > MAX_INPUT_ARTIFACTS
        if is_wide or _is_too_long(format_message(message)):
            raise DriverError("fork/exec /kfp-launcher/launch: argument list too long")

    def _reuse(self, run: Run, task: Task, message: Any) -> bool:
        """Take the outputs of an earlier task with the same key; return False if there is none."""
        options = run.pipeline.tasks[task.name].caching_options
        if not (self.is_caching and options.enable_cache):
            return False
        task.fingerprint = self._make_fingerprint(run, task.name, message)
        with self._lock:
            outputs = self._cache.get((run.namespace, run.pipeline.name, task.fingerprint))
        if outputs is None:
            return False
        task.outputs, task.is_cached = outputs, True
        task.move("SKIPPED")
        return True

    def _make_fingerprint(self, run: Run, name: str, message: Any) -> str:
        from kfp.pipeline_spec import pipeline_spec_pb2 as ir

        task = run.pipeline.tasks[name]
        if self.honours_cache_key and task.caching_options.cache_key:
            return make_custom_fingerprint(task.component_ref.name, task.caching_options.cache_key)
        definitions = run.pipeline.get_component(name).output_definitions.parameters
        types = {
            output: ir.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
            for output, definition in definitions.items()
        }
        return make_fingerprint(message, types, run.pipeline.get_container(name))

    def _run_pod(self, run: Run, task: Task, message: Any) -> None:
        component = run.pipeline.get_component(task.name)
        policy = run.pipeline.tasks[task.name].retry_policy
        attempts = 1 + policy.max_retry_count
        task.move("PENDING")
        run.is_terminated.wait(self.pace.queue_s)
        task.place()
        run.is_terminated.wait(self.pace.pull_s)
        task.move("RUNNING")
        for attempt in range(attempts):
            if attempt:
                run.is_terminated.wait(_compute_backoff(policy, attempt))
            # the id, because a run that is retried has the same tasks once more
            folder = self.folder / "pods" / task.task_id / f"{task.name}-{attempt}"
            task.attempts = attempt + 1
            ending = self._start_pod(run, task, message, folder)
            if run.is_terminated.is_set():
                task.move("CANCELED")
                return
            if not (ending.error or ending.exit_code):
                break
        else:
            # the launcher exits with 1, whatever the command's code was; the log shows the command's
            raise LauncherError(
                ending.error or f"Error (exit code 1): exit status {ending.exit_code}"
            )
        collected = launcher.collect_outputs(folder, message, component, self.store)
        self._keep_outputs(run, task, *collected)
        shutil.rmtree(folder)

    def _start_pod(self, run: Run, task: Task, message: Any, folder: Path) -> Ending:
        container = run.pipeline.get_container(task.name)
        folder.mkdir(parents=True)
        kubernetes = read_config(run.pipeline.get_kubernetes(task.name))
        warnings = launcher.prepare_pod(folder, message, self.store)
        fill_folders(kubernetes, self.objects, folder)
        env = {variable.name: variable.value for variable in container.env}
        env |= list_env(kubernetes, self.objects)
        env |= {"KFP_POD_NAME": folder.name, "KFP_POD_UID": task.task_id}
        env |= {"KFP_RETRY_INDEX": str(task.attempts - 1)}
        command = [*container.command, *container.args]
        if not command:
            raise LauncherError("command and arguments are empty")
        args = [launcher.fill_placeholders(word, message) for word in command]
        pod = Pod(
            folder.name,
            container.image,
            args[:1],
            args[1:],
            env,
            folder,
            run.is_terminated,
            container.resources,
            kubernetes,
        )
        self.pods.append(pod)
        ending = self.launch(pod)
        # each try has a pod, and a log, of its own; that of the last one is asked for
        task.log = "".join(f"{line}\n" for line in warnings) + ending.log
        return ending

    def _keep_outputs(
        self, run: Run, task: Task, parameters: Any, artifacts: Any, warnings: list[str]
    ) -> None:
        task.log += "".join(f"{line}\n" for line in warnings)
        kept = {name: self._register(name, artifact) for name, artifact in artifacts.items()}
        task.outputs = {"parameters": parameters, "artifacts": kept}
        if task.fingerprint:
            with self._lock:
                key = (run.namespace, run.pipeline.name, task.fingerprint)
                self._cache[key] = task.outputs
        task.move("SUCCEEDED")

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


def _compute_backoff(policy: Any, attempt: int) -> float:
    """Return the seconds before a retry, as Argo counts them."""
    wait = policy.backoff_duration.ToTimedelta().total_seconds()
    longest = policy.backoff_max_duration.ToTimedelta().total_seconds()
    return float(min(wait * policy.backoff_factor ** (attempt - 1), longest))


def _is_too_long(argument: str) -> bool:
    return len(argument.encode()) >= MAX_ARGUMENT_BYTES


def _store_property(value: Any) -> Any:
    """Return a value of an artifact's metadata as the metadata store keeps it."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value
