"""What a node's settings say in the pipeline document: of its container, and of its task."""

from __future__ import annotations

from typing import Any

from fftasks.settings.nodes import NodeSettings

Document = dict[str, Any]

_TEN_YEARS_S = 10 * 365 * 24 * 3600
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}  # powers of 1000, or of 1024 with an i


def settle(task: Document, container: Document, settings: NodeSettings) -> None:
    """Write settings into a task and its container, which are changed."""
    resources, retry_policy = make_resources(settings), make_retry_policy(settings)
    if resources:
        container["resources"] = resources
    if settings.env:
        own = {variable["name"]: variable["value"] for variable in container["env"]}
        env = {**settings.env, **own}
        container["env"] = [{"name": name, "value": env[name]} for name in sorted(env)]
    if retry_policy:
        task["retryPolicy"] = retry_policy
    if not settings.cache:
        task["cachingOptions"] = {}


def make_resources(settings: NodeSettings) -> Document:
    """Return a container's resources, {} without any.

    Backends before 2.4 read the numbers, later ones the texts: both are written, as kfp does.
    """
    found: Document = {}
    for kind, parse in (("Cpu", _parse_cpu), ("Memory", _parse_memory)):
        for what in ("Request", "Limit"):
            suffix = "_limit" if what == "Limit" else ""
            text = getattr(settings, f"{kind.lower()}{suffix}")
            if text:
                found[f"{kind.lower()}{what}"] = parse(text)
                found[f"resource{kind}{what}"] = text
    if settings.gpu:
        count = str(settings.gpu)
        kind = settings.gpu_type
        found["accelerator"] = {
            "type": kind, "count": count, "resourceType": kind, "resourceCount": count
        }  # fmt: skip
    return found


def make_retry_policy(settings: NodeSettings) -> Document:
    """Return a task's retryPolicy, {} if the cluster is not asked to start its pod again.

    Retries of a node that fails are not in it: the entry point makes them.

    The two durations are there because KFP's compiler puts 0 for what is missing, and Argo takes
    backoffMaxDuration for the time from the first start after which there is no retry any more:
    addContainerExecutorTemplate in backend/src/v2/compiler/argocompiler/container.go (2.5 to 2.17), and
    processNodeRetries in workflow/controller/operator.go of Argo.
    """
    if not settings.pod_retries:
        return {}
    return {
        "maxRetryCount": settings.pod_retries,
        "backoffDuration": "0s",
        "backoffFactor": 2,  # as the SDK has it; of no effect
        "backoffMaxDuration": f"{_TEN_YEARS_S}s",
    }


def _parse_cpu(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _parse_memory(text: str) -> float:
    """Return gigabytes."""
    number = text.rstrip("KMGTPEi")
    unit = text[len(number) :]
    base = 1024 if unit.endswith("i") else 1000
    return float(number) * (base ** _UNITS[unit[0]] if unit else 1) / 1000**3
