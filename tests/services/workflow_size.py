"""How large the workflow object of a run is, and what follows from it.

Seen on a real KFP 2.17.0: above 1 MiB Argo compresses the states of the nodes (workflow/packer/packer.go).
KFP cannot read them then, and its rows stay as they are. A run of 200 tasks ended with 1,041,143 of 1,048,576
bytes after compression; one of 299 tasks failed with "Request entity too large" after 84 of them.

The object is built here as KFP's compiler (backend/src/v2/compiler/argocompiler, 2.17.0) and Argo's
controller build it, as far as a field grows with the number of tasks. What is left out is small and the same
for every task; the factors below make up for it, and for names, so that the two recorded runs come out right.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.argo import number_node
from tests.services.kfp_pipeline import Pipeline
from tests.services.protojson import format_message, format_value

if TYPE_CHECKING:
    from tests.services.argo import Node
    from tests.services.kfp_run import Run, Task

_SPEC_FACTOR = 1.09
_NODES_FACTOR = 1.56
_MOST_PER_NODE = 10 << 10  # a run whose nodes cannot reach the limit is not measured
_HASH = "0" * 64


@dataclass(frozen=True)
class Size:
    """The size of one run's workflow object."""

    run: Run

    def is_compressed(self, nodes: dict[str, Node]) -> bool:
        """Say whether Argo compresses the states of these nodes."""
        return self.measure(nodes) > self.run.argo.compress_bytes

    def is_too_large(self, nodes: dict[str, Node]) -> bool:
        """Say whether the object is too large in spite of it."""
        limit = self.run.argo.max_bytes
        return self.measure(nodes) > limit and self.measure(nodes, is_compressed=True) > limit

    def measure(self, nodes: dict[str, Node], *, is_compressed: bool = False) -> int:
        """Return the bytes of the object, or of one without nodes if it is far from any limit."""
        if not self.run.spec_bytes:
            self.run.spec_bytes = int(_measure_spec(self.run.pipeline) * _SPEC_FACTOR)
        spec = self.run.spec_bytes
        limit = min(self.run.argo.compress_bytes, self.run.argo.max_bytes)
        if spec + len(nodes) * _MOST_PER_NODE < limit:
            return spec
        described = {
            f"{self.run.argo_name}-{number_node(name)}": self._describe(node)
            for name, node in nodes.items()
        }
        # Go sorts by id, which is a hash: nodes that are alike lie far apart, and compress badly
        status = json.dumps(described, separators=(",", ":"), sort_keys=True)
        if is_compressed:
            packed = len(base64.b64encode(gzip.compress(status.encode(), 6)))
            return spec + int(packed * _NODES_FACTOR)
        return spec + int(len(status) * _NODES_FACTOR)

    def _describe(self, node: Node) -> dict[str, Any]:
        """Return the status of a node (Argo's NodeStatus), with the inputs and outputs that KFP gives."""
        workflow = self.run.argo_name
        parts = node.name.split(".")
        status: dict[str, Any] = {
            "id": f"{workflow}-{number_node(node.name)}",
            "name": node.name,
            "displayName": node.display,
            "type": "Pod" if node.pod else "DAG",
            "templateName": node.template,
            "templateScope": f"local/{workflow}",
            "phase": node.state.capitalize(),
            "boundaryID": f"{workflow}-{number_node('.'.join(parts[:-1]))}",
            "startedAt": "2026-11-30T16:05:28Z",
            "finishedAt": "2026-11-30T16:05:38Z" if node.ended else None,
            "progress": "1/1",
            "resourcesDuration": {"cpu": 0, "memory": 4},
            "children": [f"{workflow}-{number_node(child)}" for child in node.children],
            "nodeFlag": {"retried": True},
            "hostNodeName": "node-1",
        }
        name = _find_task(parts)
        task = self.run.tasks.get(name)
        if task is None or name not in self.run.pipeline.tasks:
            return status
        if "-driver" in parts[-1]:
            status["inputs"] = {"parameters": self._list_driver_inputs(task)}
            if node.state == "SUCCEEDED":
                patch = {"name": "pod-spec-patch", "value": self._make_patch(task)}
                status["outputs"] = {"parameters": [patch], "exitCode": "0"}
        else:
            patch = {"name": "pod-spec-patch", "value": self._make_patch(task)}
            status["inputs"] = {
                "parameters": [patch, {"name": "cached-decision", "value": "false"}]
            }
        return status

    def _list_driver_inputs(self, task: Task) -> list[dict[str, str]]:
        pipeline = self.run.pipeline
        values = {
            "component": format_message(pipeline.get_component(task.name)),
            "task": format_message(pipeline.tasks[task.name]),
            "container": format_message(pipeline.get_container(task.name)),
            "task-name": task.name,
            "parent-dag-id": str(self.run.root_execution_id),
            "iteration-index": "-1",
            "kubernetes-config": format_value(pipeline.get_kubernetes(task.name)),
        }
        return [{"name": name, "value": value} for name, value in values.items()]

    def _make_patch(self, task: Task) -> str:
        """Return the patch of a pod's spec that the driver makes (driver.go, initPodSpecPatch)."""
        if task.is_cached:
            return ""
        pipeline = self.run.pipeline
        container = pipeline.get_container(task.name)
        command = [
            *(
                "/kfp-launcher/launch",
                "--pipeline_name",
                pipeline.name,
                "--run_id",
                self.run.run_id,
            ),
            *("--execution_id", str(task.execution_id)),
            *("--executor_input", format_value(task.executor_input)),
            *("--component_spec", format_message(pipeline.get_component(task.name))),
            *("--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)"),
            *("--ml_pipeline_server_address", "ml-pipeline.kubeflow.svc.cluster.local"),
            *("--ml_pipeline_server_port", "8887"),
            *("--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local"),
            *(
                "--mlmd_server_port",
                "8080",
                "--publish_logs",
                "true",
                "--publish_logs",
                "true",
                "--",
            ),
        ]
        main = {
            "name": "main",
            "image": container.image,
            "command": command,
            "args": [*container.command, *container.args],
            "env": [{"name": one.name, "value": one.value} for one in container.env],
            "resources": {},
        }
        return json.dumps({"containers": [main]}, separators=(",", ":"))


def _find_task(parts: list[str]) -> str:
    """Return the name of the task that a node belongs to: run(0).root(0).task(0).executor(0)."""
    if len(parts) < 3:
        return ""
    name = parts[2].partition("(")[0]
    return name.removesuffix("-driver")


def _measure_spec(pipeline: Pipeline) -> int:
    """Return the bytes of the specification: what the compiler writes per task, and about 12 KB around it."""
    parameters = [{"name": "components-root", "value": format_message(pipeline.spec.root)}]
    tasks: list[dict[str, Any]] = []
    for name, task in sorted(pipeline.tasks.items()):
        component, container = pipeline.get_component(name), pipeline.get_container(name)
        parameters.append({"name": f"components-{_HASH}", "value": format_message(component)})
        parameters.append({"name": f"implementations-{_HASH}", "value": format_message(container)})
        kubernetes = pipeline.get_kubernetes(name)
        if kubernetes:
            key = f"kubernetes-{task.component_ref.name}"
            parameters.append({"name": key, "value": format_value(kubernetes)})
        tasks += _compile_task(name, task)
    spec = {"arguments": {"parameters": parameters}, "templates": [{"dag": {"tasks": tasks}}]}
    return len(json.dumps(spec, separators=(",", ":"))) + (12 << 10)


def _compile_task(name: str, task: Any) -> list[dict[str, Any]]:
    """Return the two steps of a task (argocompiler/dag.go and container.go)."""
    driver = f"{name}-driver"
    values = {
        "component": f"{{{{workflow.parameters.components-{_HASH}}}}}",
        "task": format_message(task),
        "container": f"{{{{workflow.parameters.implementations-{_HASH}}}}}",
        "task-name": name,
        "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
    }
    outputs = {
        "pod-spec-patch": f"{{{{tasks.{driver}.outputs.parameters.pod-spec-patch}}}}",
        "cached-decision": f"{{{{tasks.{driver}.outputs.parameters.cached-decision}}}}",
    }
    steps = [
        (
            driver,
            "system-container-driver",
            values,
            [f"{one}.Succeeded" for one in task.dependent_tasks],
        ),
        (name, "system-container-executor", outputs, [f"{driver}.Succeeded"]),
    ]
    return [
        {
            "name": step,
            "template": template,
            "arguments": {
                "parameters": [{"name": key, "value": value} for key, value in given.items()]
            },
            "depends": " && ".join(upstream),
        }
        for step, template, given, upstream in steps
    ]
