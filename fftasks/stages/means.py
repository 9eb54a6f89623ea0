"""What the settings of nodes say to the entry point of their pod, in its environment."""

from __future__ import annotations

import math
from dataclasses import replace

from fftasks.runtime.means import VARIABLE, Means, format_means
from fftasks.settings.nodes import NodeSettings


def settle_means(settings: NodeSettings, nodes: int) -> NodeSettings:
    """Return the settings of a pod, with what its entry point has to know in the environment.

    Time limit and retries hold for each node, not for the pod, and are the business of the entry point.

    Args:
        settings: Those of its nodes, which have the same.
        nodes: How many nodes run in it.
    """
    means = make_means(settings)
    is_group = nodes > 1
    text = format_means(means if is_group else replace(means, cpu=1))
    env = {**settings.env, **({VARIABLE: text} if text else {})}
    return replace(settings, env=env, display_name="" if is_group else settings.display_name)


def make_means(settings: NodeSettings) -> Means:
    """Return what the entry point has to know of the settings of its nodes."""
    means = Means(cpu=count_cpu(settings), timeout_s=settings.timeout_s)
    if not settings.retries:
        return means
    return replace(
        means,
        retries=settings.retries,
        wait_s=settings.retry_wait_s,
        factor=settings.retry_factor,
        max_wait_s=settings.retry_max_wait_s,
    )


def count_cpu(settings: NodeSettings) -> int:
    """Return how many nodes a pod runs at a time: as many as its CPU request has whole ones, at least one."""
    text = settings.cpu or settings.cpu_limit or "1"
    amount = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return max(math.floor(amount), 1)
