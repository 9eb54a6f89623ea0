"""Repeat a request that failed for a reason that may pass: the one retry policy of all clients.

Policy: up to three retries, after 1, 4 and 9 seconds. A server that asks for a certain delay (the header
Retry-After) gets it, up to one minute. Each retry is announced to the user, so that nobody wonders why a
command takes long. Only failures that the caller classifies as transient are repeated, and only the caller
can tell whether its request may be sent twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

RETRY_DELAYS_S = (1.0, 4.0, 9.0)
MAX_RETRY_AFTER_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class TransientFailure:
    """A failure after which the same request may succeed.

    Attributes:
        reason: What happened, for the message of the retry, such as "registry: nothing answers there".
        retry_after_s: Delay in seconds that the server asked for; 0 if it did not.
    """

    reason: str
    retry_after_s: float = 0.0


def call_with_retries(
    action: Callable[[], T],
    classify: Callable[[Exception], TransientFailure | None],
    *,
    say: Callable[[str], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Call a function, and again after transient failures; see the module for the policy.

    Args:
        action: Sends the request. It must be safe to call it more than once.
        classify: Returns how an exception of `action` is to be announced if it is transient; None if a
            retry would not help.
        say: Shows one line to the user before each retry; None to retry silently.
        pause: Waits for a number of seconds. It may raise an exception in order to stop retrying.

    Returns:
        The result of `action`.

    Raises:
        Exception: The exception of the last call, unchanged.
    """
    for delay_s in RETRY_DELAYS_S:
        try:
            return action()
        except Exception as error:
            failure = classify(error)
            if failure is None:
                raise
        wait_s = min(failure.retry_after_s, MAX_RETRY_AFTER_S) or delay_s
        if say is not None:
            say(f"{failure.reason}; trying again in {wait_s:g} s")
        pause(wait_s)
    return action()
