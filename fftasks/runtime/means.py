"""Execution settings of a pod: number of parallel nodes, time limit, retries. Standard library only.

The values travel in an environment variable, which is not part of the cache key of Kubeflow Pipelines: a
change of retries or of a time limit invalidates no result.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass

from fftasks.errors import WorkflowError

VARIABLE = "FFMEANS"
_RETRY_INDEX = (
    "KFP_RETRY_INDEX"  # how often Kubernetes has started the pod again; from KFP 2.16.1 on
)
_MAX_EXPONENT = 64  # beyond it, every wait is the longest one, and floats overflow


@dataclass(frozen=True)
class Means:
    """What the nodes of a pod are run with.

    Attributes:
        cpu: How many nodes of a group run at a time.
        timeout_s: Seconds after which one try is killed; 0 for no limit.
        retries: How often a node that failed is tried again.
        wait_s: Seconds before the first retry.
        factor: By how much each further wait is longer than the one before.
        max_wait_s: The longest wait in seconds.
    """

    cpu: int = 1
    timeout_s: int = 0
    retries: int = 0
    wait_s: float = 0.0
    factor: float = 2.0
    max_wait_s: float = 3600.0

    def plan_wait(self, failures: int) -> float | None:
        """Return the seconds before the next try, or None if there is none.

        Args:
            failures: How often the node has failed, at least 1.
        """
        if failures > self.retries:
            return None
        wait_s = self.wait_s * self.factor ** min(failures - 1, _MAX_EXPONENT)
        return float(min(wait_s, self.max_wait_s))


def format_means(means: Means) -> str:
    """Return the value of the environment variable, "" where all is as without it."""
    given = {
        field.name: getattr(means, field.name)
        for field in dataclasses.fields(Means)
        if getattr(means, field.name) != field.default
    }
    return json.dumps(given, separators=(",", ":")) if given else ""


def _parse(text: str) -> Means:
    fields = {field.name: field.default for field in dataclasses.fields(Means)}
    try:
        given = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise WorkflowError(f"{VARIABLE} is not a JSON object", found=[str(error), text]) from error
    for name, value in given.items():
        is_fit = type(value) in ((int, float) if isinstance(fields.get(name), float) else (int,))
        if name not in fields or not is_fit:
            raise WorkflowError(
                f"{VARIABLE} has an invalid value: {name}: {value!r}",
                found=[f"known, with their defaults: {json.dumps(fields)}"],
                tip="run `doit submit` again, so that image and pipeline are of the same version",
            )
    return Means(**given)


def read_means() -> Means:
    """Return what the environment of this pod says.

    A pod that Kubernetes has started again tries each node once: tries would be multiplied otherwise.
    """
    means = _parse(os.environ.get(VARIABLE) or "{}")
    index = os.environ.get(_RETRY_INDEX, "")
    if index.isdecimal() and int(index) > 0:
        return dataclasses.replace(means, retries=0)
    return means
