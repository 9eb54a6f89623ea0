"""The same pipeline as kfp's own SDK compiles it: container components, tasks, settings, the compiler."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.pipeline.ir_yaml import parse_documents

_TYPES = {
    "STRING": str,
    "NUMBER_DOUBLE": float,
    "NUMBER_INTEGER": int,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


def parse_document(text: str) -> dict[str, Any]:
    """Return the pipeline in a YAML file of ours, or of the SDK."""
    return parse_documents(text)[0]


def compile_pipeline(
    components: dict[str, Any],
    pins: dict[str, Any],
    folder: Path,
    *,
    caching: bool = True,
    settings: Mapping[str, NodeSettings] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pipeline and the document for Kubernetes that the SDK makes of a components record.

    pins: image, fingerprint and cache key of each task; settings: of nodes
    """
    from kfp import compiler, dsl

    tasks = components["tasks"]

    def flow():  # type: ignore[no-untyped-def]  # kfp takes "-> None" for an output
        made: dict[str, Any] = {}
        for name in _order(tasks):
            task = tasks[name]
            component = _make_component(task, pins["tasks"][name])
            made[name] = step = component(**_take_inputs(task, made))
            chosen = (settings or {}).get(task["nodes"][0], NodeSettings())
            means = json.dumps(list_means(chosen), separators=(",", ":"))
            own = {"FFFUNCTION": task["name"], **({"FFMEANS": means} if means != "{}" else {})}
            for variable, value in sorted({**chosen.env, **own}.items()):
                step.set_env_variable(variable, value)
            step.set_display_name(task["name"])
            key = pins["tasks"][name]["cache_key"] if caching else None
            step.set_caching_options(caching, key or None)
            step.after(*(made[other] for other in task["upstream"]))
            apply(step, chosen)

    path = folder / "theirs.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = components["workflow"]
        decorate = dsl.pipeline(name=components["slug"], display_name=shown)
        compiler.Compiler().compile(decorate(flow), str(path))
    return parse_documents(path.read_text("utf-8"))


def apply(step: Any, settings: NodeSettings) -> None:
    """Apply settings with the SDK's own functions; those for Kubernetes with those of kfp.kubernetes."""
    for name in ("cpu", "memory"):
        for suffix, what in (("", "request"), ("_limit", "limit")):
            text = getattr(settings, name + suffix)
            if text:
                getattr(step, f"set_{name}_{what}")(text)
    if settings.gpu:
        step.set_accelerator_type(settings.gpu_type).set_accelerator_limit(settings.gpu)
    if settings.pod_retries:
        step.set_retry(settings.pod_retries, backoff_max_duration="315360000s")
    if settings.display_name:
        step.set_display_name(settings.display_name)
    if not settings.cache:
        step.set_caching_options(enable_caching=False)
    _apply_sources(step, settings)
    _apply_places(step, settings)


def _apply_sources(step: Any, settings: NodeSettings) -> None:
    from kfp import kubernetes as k8s

    for kind, sources in (("secret", settings.secret_env), ("config_map", settings.config_map_env)):
        groups: dict[str, dict[str, str]] = {}
        for name, reference in sorted(sources.items()):
            source, key = reference.split("/")
            groups.setdefault(source, {})[key] = name
        for source, names in sorted(groups.items()):
            getattr(k8s, f"use_{kind}_as_env")(step, source, names)
    for path, source in sorted(settings.secret_files.items()):
        k8s.use_secret_as_volume(step, source, path)
    for path, source in sorted(settings.config_map_files.items()):
        k8s.use_config_map_as_volume(step, source, path)
    for path, source in sorted(settings.volumes.items()):
        claim, _, folder = source.partition("/")
        k8s.mount_pvc(step, claim, path, folder)
    for number, (path, size) in enumerate(sorted(settings.empty_dirs.items())):
        medium = "Memory" if size.startswith("memory") else None
        limit = size.removeprefix("memory").strip() or None
        k8s.empty_dir_mount(step, f"empty-{number}", path, medium, limit)
    if settings.shared_memory:
        k8s.empty_dir_mount(step, "shm", "/dev/shm", "Memory", settings.shared_memory)


def _apply_places(step: Any, settings: NodeSettings) -> None:
    from kfp import kubernetes as k8s

    for key, value in settings.node_selector.items():
        k8s.add_node_selector(step, key, value)
    for text in settings.tolerations:  # the tests use this form only
        key, _, rest = text.partition("=")
        value, _, effect = rest.partition(":")
        k8s.add_toleration(step, key=key, operator="Equal", value=value, effect=effect)
    for text in settings.node_affinity:  # likewise
        key, _, value = text.partition("=")
        terms = [{"key": key, "operator": "In", "values": [value]}]
        k8s.add_node_affinity(step, match_expressions=terms)
    for key, value in settings.labels.items():
        k8s.add_pod_label(step, key, value)
    for key, value in settings.annotations.items():
        k8s.add_pod_annotation(step, key, value)
    if settings.pull_policy:
        k8s.set_image_pull_policy(step, settings.pull_policy)
    if settings.pull_secrets:
        k8s.set_image_pull_secrets(step, list(settings.pull_secrets))


def list_means(settings: NodeSettings) -> dict[str, float]:
    """Return what the entry point of a node alone has to know."""
    means = {"timeout_s": settings.timeout_s, "retries": settings.retries}
    if settings.retries:
        means["wait_s"] = settings.retry_wait_s
        means["factor"] = settings.retry_factor if settings.retry_factor != 2 else 0
        means["max_wait_s"] = settings.retry_max_wait_s if settings.retry_max_wait_s != 3600 else 0
    return {name: value for name, value in means.items() if value}


def _make_component(task: dict[str, Any], pin: dict[str, str]) -> Any:
    from kfp import dsl

    image, args = pin["reference"], [*task["args"], "--fingerprint", pin["fingerprint"]]

    definitions = task["component"].get("inputDefinitions", {})
    parameters = [
        _make_parameter(name, dsl.Input[dsl.Artifact]) for name in definitions.get("artifacts", {})
    ]
    parameters += [
        _make_parameter(name, _TYPES[each["parameterType"]], each["defaultValue"])
        for name, each in definitions.get("parameters", {}).items()
    ]
    outputs = task["component"]["outputDefinitions"]["artifacts"]
    parameters += [_make_parameter(name, dsl.Output[dsl.Artifact]) for name in outputs]

    def body(*_):  # type: ignore[no-untyped-def]  # kfp reads annotations as outputs
        return dsl.ContainerSpec(image=image, command=task["command"], args=args)

    body.__name__ = task["slug"]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {each.name: each.annotation for each in parameters}
    return dsl.container_component(body)


def _make_parameter(
    name: str, annotation: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _take_inputs(task: dict[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    artifacts = {
        name: made[source["task"]].outputs[source["output"]]
        for name, source in task["artifacts"].items()
    }
    return artifacts | task["parameters"]


def _order(tasks: Mapping[str, dict[str, Any]]) -> list[str]:
    import graphlib

    return list(
        graphlib.TopologicalSorter({n: t["upstream"] for n, t in tasks.items()}).static_order()
    )
