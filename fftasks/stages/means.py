"""What a pod of several nodes has to run them with: their settings hold for each of them, not for the pod."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

from fftasks.runtime.group import Means
from fftasks.settings.nodes import NodeSettings


def share(settings: NodeSettings) -> NodeSettings:
    """Return the settings of a pod in which several nodes run that have some.

    The time limit and the retries are the container's business. The pod is tried again as well, for it may
    be lost; the entry point tries no node again then.
    """
    means = json.dumps(asdict(make_means(settings)), separators=(",", ":"))
    env = {**settings.env, "FFMEANS": means}
    return replace(settings, env=env, timeout_s=0, display_name="")


def make_means(settings: NodeSettings) -> Means:
    """Return what the entry point is to know of the settings of a group's nodes."""
    return Means(
        cpu=count_cpu(settings),
        timeout_s=settings.timeout_s,
        retries=settings.retries,
        wait_s=settings.retry_wait_s,
        factor=settings.retry_factor,
        max_wait_s=settings.retry_max_wait_s,
    )


def count_cpu(settings: NodeSettings) -> int:
    """Return how many nodes a pod runs at a time: as many as it has processors kept for it, at least one."""
    text = settings.cpu or settings.cpu_limit or "1"
    amount = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return max(math.floor(amount), 1)
