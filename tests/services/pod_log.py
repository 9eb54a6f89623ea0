"""What the log of a pod holds around a program's own output, and the log of a driver.

Line by line after the sources of KFP 2.17.0 (file and line are in each line that glog writes) and Argo 4.0.5
(cmd/argoexec/commands/emissary.go). KFP 2.17.0 seen on a real installation has about ten such lines per log.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.services.argo import Argo

_CACHE_ENDPOINT = "ml-pipeline.kubeflow.svc.cluster.local:8887"


@dataclass(frozen=True)
class Upload:
    """One output artifact: its name, its path in the pod, its key in the bucket, and whether it is there."""

    name: str
    path: str
    key: str
    exists: bool = True


@dataclass
class LauncherLog:
    """Writes the log of a container `main`: Argo's lines, the launcher's and the program's.

    Attributes:
        argo: The installation, whose release decides how Argo writes its lines.
        lines: What was written so far.
    """

    argo: Argo
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Write what stands before the output of the program."""
        self._write_argo("capturing logs")
        self._write("I", "main.go:67", "Setting log level to: '1'")
        self._write("I", "cache.go:89", f"Connecting to cache endpoint {_CACHE_ENDPOINT}")
        if self.argo.release >= (2, 17):
            self._write(
                "I", "registry.go:68", "No task-level plugins enabled, returning no-op dispatcher"
            )

    def add(self, output: str) -> None:
        """Write what the program printed."""
        if output:
            self.lines.append(output if output.endswith("\n") else output + "\n")

    def succeed(self, output_file: str, said: str | None, uploads: list[Upload]) -> None:
        """Write what the launcher says of a program that ended with exit code 0."""
        if said is None:
            self._write(
                "I", "launcher_v2.go:1218", f"output metadata file does not exist in {output_file}"
            )
        else:
            self._write("I", "launcher_v2.go:1230", f"ExecutorOutput: {_indent(said)}")
        self._upload(uploads)
        self._write("I", "launcher_v2.go:206", "publish success.")
        self._write_argo("sub-process exited", error="<nil>")

    def fail(self, error: str, uploads: list[Upload], *, is_program: bool = True) -> None:
        """Write what the launcher says of a program that failed, or of outputs that it cannot take."""
        if is_program:
            self._write(
                "E", "launcher_v2.go:449", f"Component failed to execute successfully: {error}"
            )
            self._upload(uploads)
        self._write("I", "launcher_v2.go:206", "publish success.")
        self._write("F", "main.go:58", f"failed to execute component: {error}")
        self._write_argo("sub-process exited", error="exit status 1")
        self.lines.append("Error: exit status 1\n")

    @property
    def text(self) -> str:
        """Return the log."""
        return "".join(self.lines)

    def _upload(self, uploads: list[Upload]) -> None:
        self._write("I", "launcher_v2.go:867", "Executing uploadOutputArtifacts attempt: 1")
        for one in uploads:
            message = f"outputArtifact in uploadOutputArtifacts call: {one.name}"
            self._write("I", "launcher_v2.go:800", message)
            if one.exists:
                paths = f'uploadFile(localFilePath="{one.path}", blobFilePath="{one.key}")'
                self._write("I", "object_store.go:231", paths)
            else:
                self._write(
                    "W", "launcher_v2.go:827", f'Local filepath "{one.path}" does not exist'
                )

    def _write(self, severity: str, place: str, message: str) -> None:
        self.lines.append(format_glog(severity, place, message))

    def _write_argo(self, message: str, error: str = "") -> None:
        moment = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        quoted = f'"{error}"' if " " in error or self.argo.release < (2, 17) else error
        tail = f" error={quoted}" if error else ""
        if self.argo.release >= (2, 17):  # Argo 4
            line = f'time={moment} level=INFO msg="{message}" argo=true{tail}\n'
        else:
            line = f'time="{moment}" level=info msg="{message}" argo=true{tail}\n'
        self.lines.append(line)


def format_glog(severity: str, place: str, message: str) -> str:
    """Return a line of Go's glog: severity, date, time, thread, place, message."""
    moment = datetime.now(timezone.utc).strftime("%m%d %H:%M:%S.%f")
    return f"{severity}{moment}      18 {place}] {message}\n"


def describe_exit(exit_code: int) -> str:
    """Return how Go's os/exec names the end of a process; a code above 128 stands for a signal here."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    if exit_code < 0 or exit_code > 128:
        try:
            # Go's names of signals: "killed", "terminated", "segmentation fault"
            return f"signal: {(signal.strsignal(number) or '').lower()}"
        except ValueError:
            pass
    return f"exit status {exit_code}"


def format_driver_log(component: Any, task: Any, container: Any, error: str = "") -> str:
    """Return the log of a task's driver (backend/src/v2/cmd/driver/main.go, 2.17.0).

    Args:
        component, task, container: What the driver gets, as plain JSON.
        error: Why it failed, without "KFP driver: "; "" if it succeeded.
    """
    lines = [
        format_glog("I", "main.go:119", "Setting log level to: '1'"),
        format_glog("I", "main.go:333", f"input ComponentSpec:{_indent(json.dumps(component))}\n"),
        format_glog("I", "main.go:340", f"input TaskSpec:{_indent(json.dumps(task))}\n"),
        format_glog("I", "main.go:346", f"input ContainerSpec:{_indent(json.dumps(container))}\n"),
        format_glog("I", "cache.go:89", f"Connecting to cache endpoint {_CACHE_ENDPOINT}"),
    ]
    if error:
        lines.append(format_glog("F", "main.go:127", f"KFP driver: {error}"))
        lines.append("Error: exit status 1\n")
    return "".join(lines)


def _indent(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2)
    except ValueError:
        return text
