"""Port kubectl: pods, their logs and events, where the user's own `kubectl` reaches the cluster.

Used only for what no server of Kubeflow Pipelines tells. Nothing is changed on the cluster.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings

Json = Mapping[str, Any]

_REQUEST_S, _TIMEOUT_S = 5, 15
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")


class Kubectl:
    """The program in PATH, with the context and the namespace of the settings.

    The names of pods come from the cluster. A pod whose name is invalid in Kubernetes is treated as missing.
    A name such as --server=... would be parsed as an option and send the user's token to another server.

    Attributes:
        is_there: Whether the program is installed.
    """

    def __init__(self, settings: KFPSettings) -> None:
        self.is_there = shutil.which("kubectl") is not None
        context = ["--context", settings.kube_context] if settings.kube_context else []
        self._options = [*context, "-n", settings.namespace or "kubeflow"]

    def read_log(self, pod: str) -> str | None:
        """Return the log of the main container of a pod; None if there is no such pod.

        Raises:
            ToolError: The cluster cannot be reached, or does not permit it.
        """
        return self._run("logs", pod, "-c", "main", "--tail=-1") if is_name(pod) else None

    def read_pod(self, pod: str) -> Json | None:
        """Return a pod as Kubernetes has it; None if there is no such pod. Raises as read_log does."""
        return _parse(self._run("get", "pod", pod, "-o", "json")) if is_name(pod) else None

    def read_events(self, pod: str) -> list[Json]:
        """Return the events of a pod; [] if there are none. Raises as read_log does."""
        if not is_name(pod):
            return []
        selector = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        answer = _parse(self._run("get", "events", "--field-selector", selector, "-o", "json"))
        return [event for event in (answer or {}).get("items") or () if isinstance(event, dict)]

    def _run(self, *words: str) -> str | None:
        """Return the output of kubectl; None if the pod does not exist."""
        command = ["kubectl", f"--request-timeout={_REQUEST_S}s", *self._options, *words]
        try:
            completed = subprocess.run(
                command,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError("kubectl does not answer", found=[str(error)]) from error
        if completed.returncode == 0:
            return completed.stdout.decode("utf-8", "replace")
        said = completed.stderr.decode("utf-8", "replace").strip()
        if "NotFound" in said or "not found" in said:
            return None
        raise ToolError("kubectl cannot read from the cluster", found=said.splitlines()[-1:])


def is_name(pod: str) -> bool:
    """Return whether Kubernetes accepts the name of a pod."""
    return _NAME.fullmatch(pod) is not None


def _parse(text: str | None) -> dict[str, Any] | None:
    try:
        answer = json.loads(text or "")
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
