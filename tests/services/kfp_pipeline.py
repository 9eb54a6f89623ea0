"""A pipeline as the KFP server takes it: parsed strictly, with the traps of a cluster made refusals.

A document that the server cannot read is a 500 "pipeline spec is invalid", whatever is wrong with it; one
that cannot be compiled for Argo is a 500, too (both seen on a real 2.17.0).

What a real server only stumbles over when the run is under way (a producer that is not waited for, two
components that Argo takes for one) is refused here at once, so that a test sees it. `RefusalError.cause` says
what it was.
"""

from __future__ import annotations

import functools
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.services.protojson import format_message, to_value
from tests.services.refusal import RefusalError, refuse_compilation, refuse_document

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Value
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KINDS = {  # parameter type -> what the server says it wants, and the field of google.protobuf.Value
    "NUMBER_DOUBLE": ("double or integer", "number_value"),
    "NUMBER_INTEGER": ("double or integer", "number_value"),
    "STRING": ("string", "string_value"),
    "BOOLEAN": ("bool", "bool_value"),
    "LIST": ("list", "list_value"),
    "STRUCT": ("struct", "struct_value"),
}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that the server has taken."""

    spec: ir.PipelineSpec
    executors: dict[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name the pipeline; the cache of results belongs to it."""
        return self.spec.pipeline_info.name

    @functools.cached_property
    def tasks(self) -> dict[str, ir.PipelineTaskSpec]:
        """Give the root's tasks by name."""
        return dict(self.spec.root.dag.tasks)

    def get_component(self, task: str) -> ir.ComponentSpec:
        """Return the component of a task."""
        return self.spec.components[self.tasks[task].component_ref.name]

    def get_container(self, task: str) -> Any:
        """Return the container (image, command, args, env) of a task."""
        return self.executors[self.get_component(task).executor_label].container

    def get_kubernetes(self, task: str) -> dict[str, Any]:
        """Return what the second document says for a task's executor."""
        kubernetes = self.platform.get("platforms", {}).get("kubernetes", {})
        executors = kubernetes.get("deploymentSpec", {}).get("executors", {})
        return executors.get(self.get_component(task).executor_label, {})

    def order_tasks(self) -> list[str]:
        """Return the tasks' names, every one behind those it depends on."""
        graph = {name: sorted(task.dependent_tasks) for name, task in sorted(self.tasks.items())}
        return list(graphlib.TopologicalSorter(graph).static_order())


def read_pipeline(value: dict[str, Any]) -> Pipeline:
    """Return the pipeline of a request: the spec, or {"pipeline_spec": …, "platform_spec": …}.

    Raises:
        RefusalError: With the server's own words.
    """
    spec, platform = value, {}
    if "pipeline_spec" in value:
        spec, platform = value["pipeline_spec"], value.get("platform_spec", {})
        if set(value) - {"pipeline_spec", "platform_spec"}:
            raise refuse_document("unknown template format", f"unknown documents {sorted(value)}")
    if "pipelineInfo" not in spec and "pipeline_info" not in spec:
        raise refuse_document("unknown template format", "no pipeline spec is provided")
    pipeline = _parse(spec, platform)
    _check_head(pipeline)
    return pipeline


def check_compilation(pipeline: Pipeline) -> None:
    """Refuse a pipeline that cannot be compiled for Argo, or would be stumbled over when it runs.

    The server compiles when a run starts, after it has looked at the parameters; not at an upload.
    """
    if not pipeline.tasks:
        problem = "DAG root must contain one or more non-exit tasks"
        raise refuse_compilation(f'compiling DAG "root": {problem}')
    _check_tasks(pipeline)
    _check_executors(pipeline)
    _check_platform(pipeline)


def read_parameters(pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Value]:
    """Return the run's parameters, with the pipeline's defaults; RefusalError 400 if they do not fit."""
    from google.protobuf import json_format, struct_pb2

    wanted = pipeline.spec.root.input_definitions.parameters
    for name in given:
        if name not in wanted:
            raise _refuse_inputs(f"parameter(s) provided are not required by pipeline: {name}")
    values = {}
    for name, definition in sorted(wanted.items()):
        if name in given:
            values[name] = json_format.ParseDict(given[name], struct_pb2.Value())
            _check_type(name, definition, values[name])
        elif definition.HasField("default_value"):
            values[name] = definition.default_value
        elif not definition.is_optional:
            problem = "is not optional, yet has neither default value nor user provided value"
            raise _refuse_inputs(f"parameter {name} {problem}")
    return values


def _check_type(name: str, definition: Any, value: Value) -> None:
    kind = _name_type(definition)
    wanted, field_name = _KINDS.get(kind, (f"unknown ({kind})", ""))
    if value.WhichOneof("kind") != field_name:
        problem = f"but the input parameter is not of {wanted} value type"
        raise _refuse_inputs(f"input parameter {name} requires type {wanted}, {problem}")


def _refuse_inputs(problem: str) -> RefusalError:
    words = "Failed to generate the ExecutionSpec: invalid pipeline job inputs"
    return RefusalError(400, f"{words}: Invalid input error: {problem}", problem)


def _name_type(definition: Any) -> str:
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    return ir.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)


def _parse(spec: dict[str, Any], platform: dict[str, Any]) -> Pipeline:
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    message = _parse_message(spec, ir.PipelineSpec(), what="invalid v2 pipeline spec")
    deployment = _parse_message(
        to_value(message.deployment_spec),
        ir.PipelineDeploymentConfig(),
        what="invalid deployment spec",
    )
    _parse_message(platform, ir.PlatformSpec(), what="cannot unmarshal platform specific configs")
    return Pipeline(message, dict(deployment.executors), platform)


def _parse_message(value: Any, message: Message, *, what: str) -> Any:
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(value, message)
    except json_format.ParseError as exc:
        unknown = re.search(r'no field named "([^"]*)"', str(exc))
        words = f'unknown field "{unknown.group(1)}"' if unknown else str(exc).splitlines()[0]
        raise refuse_document("unknown template format", f"{what}: proto: {words}") from exc


def _check_head(pipeline: Pipeline) -> None:
    """Refuse what the server refuses (NewV2SpecTemplate in template/v2_template.go, 2.17.0).

    The expression for names is not anchored there, so that "Bad Name" passes (seen on a real 2.17.0).
    """
    spec = pipeline.spec
    if spec.schema_version != "2.1.0":
        found = f"but the pipeline spec has version {spec.schema_version}"
        raise refuse_document(f"KFP only supports schema version 2.1.0, {found}")
    if not pipeline.name:
        raise refuse_document("invalid v2 pipeline spec: name is empty")
    if not _NAME.search(pipeline.name):
        rule = "lower case alphanumeric characters, '-' or '.', and must start and end with an"
        problem = f"name should consist of {rule} alphanumeric character"
        raise refuse_document(f"invalid v2 pipeline spec: {problem}")


def _check_tasks(pipeline: Pipeline) -> None:
    for name, task in sorted(pipeline.tasks.items()):
        # first of all: asking a protobuf map for a missing message puts it in
        if task.component_ref.name not in pipeline.spec.components:
            problem = f"component {task.component_ref.name!r} is not defined"
            raise refuse_compilation(f"task {name}: {problem}")
    for name in sorted(pipeline.tasks):
        for problem in _find_task_problems(pipeline, name):
            raise refuse_compilation(f"task {name}: {problem}")
    try:
        pipeline.order_tasks()
    except graphlib.CycleError as exc:
        raise refuse_compilation(f"cycle of tasks: {exc.args[1]}") from exc


def _find_task_problems(pipeline: Pipeline, name: str) -> Iterator[str]:
    task = pipeline.tasks[name]
    component = pipeline.get_component(name)
    if component.WhichOneof("implementation") != "executor_label" or task.WhichOneof("iterator"):
        raise RefusalError(
            501, f"the test server runs no nested pipelines and no loops: task {name}"
        )
    if task.HasField("trigger_policy"):
        raise RefusalError(501, f"the test server knows no conditions: task {name}")
    if component.executor_label not in pipeline.executors:
        yield f"executor {component.executor_label!r} is not defined"
        return
    for other in task.dependent_tasks:
        if other not in pipeline.tasks:
            yield f"depends on {other!r}, which is no task"
    yield from _find_parameter_problems(pipeline, task, component)
    yield from _find_artifact_problems(pipeline, task, component)


def _find_parameter_problems(pipeline: Pipeline, task: Any, component: Any) -> Iterator[str]:
    wanted = component.input_definitions.parameters
    for name, source in task.inputs.parameters.items():
        if name not in wanted:
            yield f"parameter {name!r} is no input of its component"
        kind = source.WhichOneof("kind")
        if kind == "component_input_parameter":
            if (
                source.component_input_parameter
                not in pipeline.spec.root.input_definitions.parameters
            ):
                yield f"parameter {name!r} comes from no parameter of the pipeline"
        elif kind == "task_output_parameter":
            output = source.task_output_parameter
            yield from _find_output_problems(
                pipeline, task, output, output.output_parameter_key, "parameters"
            )
    for name, definition in wanted.items():
        if name not in task.inputs.parameters and not definition.is_optional:
            # the backend would take a default, and 2.17.0 fails on it where args use it (14175)
            yield f"parameter {name!r} is not passed"


def _find_artifact_problems(pipeline: Pipeline, task: Any, component: Any) -> Iterator[str]:
    wanted = component.input_definitions.artifacts
    for name, source in task.inputs.artifacts.items():
        if name not in wanted:
            yield f"artifact {name!r} is no input of its component"
        if source.WhichOneof("kind") != "task_output_artifact":
            yield f"artifact {name!r} comes from no task"
            continue
        output = source.task_output_artifact
        yield from _find_output_problems(
            pipeline, task, output, output.output_artifact_key, "artifacts"
        )
    for name, definition in wanted.items():
        if name not in task.inputs.artifacts and not definition.is_optional:
            yield f"artifact {name!r} is not passed"


def _find_output_problems(
    pipeline: Pipeline, task: Any, output: Any, key: str, kind: str
) -> Iterator[str]:
    producer = output.producer_task
    if producer not in pipeline.tasks:
        yield f"takes the result of {producer!r}, which is no task"
    elif producer not in task.dependent_tasks:
        yield f"takes the result of {producer!r} without depending on it"
    elif key not in getattr(pipeline.get_component(producer).output_definitions, kind):
        yield f"{producer!r} has no output {key!r} among its {kind}"


def _check_platform(pipeline: Pipeline) -> None:
    """Refuse an unknown field for Kubernetes: the compiler reads it strictly (argocompiler/container.go)."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as schema

    try:
        for name in sorted(pipeline.tasks):
            json_format.ParseDict(pipeline.get_kubernetes(name), schema.KubernetesExecutorConfig())
    except json_format.ParseError as exc:
        raise refuse_compilation(f"failed to unmarshal kubernetes config: {exc}") from exc


def _check_executors(pipeline: Pipeline) -> None:
    """Refuse two components with one container and different faces: Argo's compiler takes them for one."""
    seen: dict[str, tuple[str, str]] = {}
    for name, component in sorted(pipeline.spec.components.items()):
        if component.executor_label not in pipeline.executors:
            continue
        executor = pipeline.executors[component.executor_label]
        if executor.WhichOneof("spec") == "importer":  # it takes what is there, and no pod runs
            continue
        container = executor.container
        if not container.image:
            raise refuse_compilation(f"component {name}: image is empty")
        face = format_message(component.input_definitions) + format_message(
            component.output_definitions
        )
        other, other_face = seen.setdefault(format_message(container), (name, face))
        if other_face != face:
            problem = f"components {other} and {name} have equal containers"
            raise refuse_compilation(f"{problem} and different inputs or outputs")
    for platform in pipeline.platform.get("platforms", {}).values():
        for label in platform.get("deploymentSpec", {}).get("executors", {}):
            if label not in pipeline.executors:
                raise refuse_compilation(f"platform spec: executor {label!r} is not defined")
