"""The log of a pod: what its command printed, among the lines of Kubeflow Pipelines and of Argo.

In the pod of a task, Argo's executor starts the launcher of Kubeflow Pipelines, and the launcher starts the
command. Both log before and after the output of the command. The pod of a driver has no command.

Source: backend/src/v2/component/launcher_v2.go and backend/src/v2/cmd/ of kubeflow/pipelines 2.17.0;
cmd/argoexec/commands/emissary.go of argoproj/argo-workflows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fftasks.runtime.failure import PREFIX, find_failure

_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.-]+\.go:\d+\] ?(.*)")
_ARGO = re.compile(r"time=\S+ level=\w+ .*\bargo=true\b.*|Error: exit status \d+")
_DRIVER = re.compile(r"(?:KFP driver: )?driver\.\w+\(.*?\) failed: (.*)", re.DOTALL)
_WRAPPED = "failed to execute component: "
_COMMAND_FAILED = re.compile(r"exit status \d+|signal: .*")
_KILLED = "signal: killed"
_LONGEST = 500  # characters of a message


def clean_log(log: str) -> str:
    """Return the part of a log that the command printed.

    Lines of the launcher and of Argo's executor at the beginning and at the end are left out, and the line in
    which our entry point names the failure (see runtime/failure.py). Warnings and errors of the launcher are
    kept if the launcher itself has failed, for then they are all that tells the reason.
    """
    lines = split_lines(log)
    begin, after = 0, _find_tail(lines)
    while begin < after and _is_foreign(lines[begin]):
        begin += 1
    own = [line for line in lines[begin:after] if not _is_failure(line)]
    if not explain_launcher(log) or not any(map(_read_level, lines)):
        return "".join(own)
    told = [line for line in (*lines[:begin], *lines[after:]) if _read_level(line) in tuple("WEF")]
    return "".join([*own, *told])


def clean_driver_log(log: str) -> str:
    """Return the warnings and errors in the log of a driver; the rest repeats the pipeline document."""
    kept, is_kept = [], False
    for line in split_lines(log):
        level = _read_level(line)
        is_kept = level in tuple("WEF") if level or _is_foreign(line) else is_kept
        kept += [line] if is_kept else []
    return "".join(kept)


def explain_launcher(log: str) -> str:
    """Return the error with which a launcher or a driver has ended; "" if it was the command that failed."""
    error = _find_error(log)
    return "" if _COMMAND_FAILED.fullmatch(error) else error


def is_killed(log: str) -> bool:
    """Tell whether the launcher saw its command end by SIGKILL."""
    return _find_error(log) == _KILLED


def find_exit(log: str) -> str:
    """Return how the command of a launcher ended, such as "exit status 3"; "" if the log does not say."""
    error = _find_error(log)
    return error if _COMMAND_FAILED.fullmatch(error) else ""


def split_lines(log: str) -> list[str]:
    """Return the lines of a log with their ends; a line of the launcher begins a line in any case.

    The output of a command need not end with a line end.
    """
    lines: list[str] = []
    for line in log.splitlines(keepends=True):
        found = _GLOG.search(line)
        if found and found.start():
            lines += [f"{line[: found.start()]}\n", line[found.start() :]]
        else:
            lines.append(line)
    return lines


def _find_error(log: str) -> str:
    """Return the last error that a launcher or a driver has logged, without what it is wrapped in.

    An error before the line of our entry point was printed by the command. An error behind it counts more
    than the line, which a program of the user may have printed as well: a command that was killed, or whose
    result could not be uploaded, has not failed by itself.
    """
    for line in reversed(split_lines(log)):
        if _is_failure(line):
            return ""
        found = _GLOG.match(line)
        if found and found[1] in "EF":
            message = found[2].strip()
            if message.startswith(_WRAPPED):
                message = message.removeprefix(_WRAPPED)
            elif inner := _DRIVER.match(message):
                message = inner[1]
            elif found[1] == "E" and message.startswith(
                "Component failed to execute successfully: "
            ):
                message = message.partition(": ")[2]
            return message[:_LONGEST]
    return _find_start_error(log)


def _find_start_error(log: str) -> str:
    """Return why the container runtime could not start what would have logged; "" if it could.

    An example is "exec /bin/driver: argument list too long"; there is nothing else in such a log.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in lines if not _ARGO.fullmatch(line)]
    is_alone = len(own) == 1 and own[0].startswith(("exec ", "Error: "))
    return own[0].removeprefix("Error: ")[:_LONGEST] if is_alone else ""


def _find_tail(lines: Sequence[str]) -> int:
    """Return the number of the line from which on all lines are the launcher's or Argo's."""
    at = len(lines)
    while at:
        if _is_foreign(lines[at - 1]) or _is_failure(lines[at - 1]):
            at -= 1
        elif lines[at - 1].rstrip() == "}" and (opened := _find_output(lines, at)) is not None:
            at = opened
        else:
            break
    return at


def _find_output(lines: Sequence[str], end: int) -> int | None:
    """Return the number of the line that begins the JSON which ends before a line; see launcher_v2.go."""
    for number in range(end - 2, -1, -1):
        if _GLOG.match(lines[number]):
            return number if lines[number].rstrip().endswith("ExecutorOutput: {") else None
        if lines[number][:1] not in (" ", "\t"):
            return None
    return None


def _is_foreign(line: str) -> bool:
    text = line.rstrip("\r\n")
    return bool(_GLOG.match(text) or _ARGO.fullmatch(text))


def _is_failure(line: str) -> bool:
    return line.startswith(PREFIX) and find_failure(line) is not None


def _read_level(line: str) -> str:
    found = _GLOG.match(line)
    return found[1] if found else ""
