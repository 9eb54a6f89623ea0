"""Logs of pods: what the command printed, among the lines of the launcher and of Argo."""

import pytest

from fftasks.kfp.pod_log import (
    clean_driver_log,
    clean_log,
    explain_launcher,
    explain_log,
    find_exit,
    is_killed,
)
from fftasks.runner.pod import PodFailure, format_failure

BEFORE = """\
time="2026-11-30T16:10:36Z" level=info msg="capturing logs" argo=true
I1130 16:10:36.512345       1 main.go:66] Setting log level to: '1'
I1130 16:10:36.600000       1 env.go:65] cannot find launcher configmap: name="kfp-launcher"
"""
AFTER = """\
I1130 16:10:38.100000       1 launcher_v2.go:1230] ExecutorOutput: {
  "artifacts": {
    "result": {
      "artifacts": [
        {
          "metadata": {}
        }
      ]
    }
  }
}
I1130 16:10:38.200000       1 launcher_v2.go:867] Executing uploadOutputArtifacts attempt: 1
I1130 16:10:38.300000       1 launcher_v2.go:800] outputArtifact in uploadOutputArtifacts call: result
W1130 16:10:38.400000       1 launcher_v2.go:827] Local filepath "/minio/mlpipeline/x" does not exist
I1130 16:10:38.500000       1 launcher_v2.go:206] publish success.
time=2026-11-30T16:10:38.600Z level=INFO msg="sub-process exited" argo=true error=<nil>
"""


def end_badly(error):
    return f"""\
E1130 16:10:38.100000       1 launcher_v2.go:449] Component failed to execute successfully: {error}
I1130 16:10:38.200000       1 launcher_v2.go:867] Executing uploadOutputArtifacts attempt: 1
I1130 16:10:38.500000       1 launcher_v2.go:206] publish success.
F1130 16:10:38.600000       1 main.go:51] failed to execute component: {error}
time="2026-11-30T16:10:39.000Z" level=info msg="sub-process exited" argo=true error="<nil>"
Error: exit status 1
"""


OWN = "one\n{\n  two\n}\nI think so\ntime=5 level=high\n"
FAILED = format_failure(PodFailure("n", "ValueError: bad value")) + "\n"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (BEFORE + OWN + AFTER, OWN),
        (BEFORE + AFTER, ""),
        (OWN, OWN),  # the object store has it without the launcher's lines
        (BEFORE + OWN + FAILED + end_badly("exit status 1"), OWN),
        (OWN + FAILED, OWN),
        (BEFORE + OWN + end_badly("signal: killed"), OWN),
        (BEFORE + "no line end" + AFTER, "no line end\n"),
        (BEFORE + "{\n}\n" + AFTER, "{\n}\n"),  # JSON of the command's own
        # a line like one of the launcher's amid the output is the command's own
        (BEFORE + "a\n" + BEFORE + "b\n" + AFTER, "a\n" + BEFORE + "b\n"),
        ("", ""),
        (BEFORE, ""),  # it has not begun to print
    ],
)  # fmt: skip
def test_lines_of_the_launcher_are_left_out(log, shown):
    assert clean_log(log) == shown


def test_a_line_that_only_looks_like_the_failure_line_is_kept():
    log = BEFORE + "-- failed: three of ten\n" + AFTER

    assert clean_log(log) == "-- failed: three of ten\n"


@pytest.mark.parametrize(
    "error",
    [
        'exec: "python3": executable file not found in $PATH',
        'failed to upload output artifact "result" to remote storage URI "minio://b/k": AccessDenied',
        'failed to download input artifact "x" from remote storage URI "minio://b/k": NoSuchKey',
        'failed to read output parameter name="n" type="STRING" path="/tmp/n": no such file',
    ],
)
def test_an_error_of_the_launcher_itself_is_the_cause_and_is_shown(error):
    log = BEFORE + OWN + end_badly(error)

    assert explain_launcher(log) == error
    assert clean_log(log).startswith(OWN)
    assert error in clean_log(log)
    assert "publish success" not in clean_log(log)


@pytest.mark.parametrize("error", ["exit status 1", "exit status 137", "signal: killed"])
def test_the_end_of_the_command_is_not_an_error_of_the_launcher(error):
    log = BEFORE + OWN + end_badly(error)

    assert explain_launcher(log) == ""
    assert find_exit(log) == error
    assert is_killed(log) is (error == "signal: killed")


def test_a_command_that_was_killed_behind_a_line_like_ours_was_killed():
    log = BEFORE + FAILED + OWN + end_badly("signal: killed")

    assert is_killed(log)
    assert "killed by SIGKILL from outside" in explain_log(log, "256Mi")


def test_a_result_that_could_not_be_uploaded_is_the_reason_behind_a_line_like_ours():
    log = BEFORE + FAILED + OWN + end_badly("failed to upload output artifact")

    assert "failed to upload" in explain_log(log)


def test_our_own_reason_goes_before_errors_that_the_command_printed_and_its_exit_status():
    own_error = "E1130 16:10:37.123456      42 mine.go:58] my own error\n"
    log = BEFORE + OWN + own_error + FAILED

    assert explain_log(log) == "ValueError: bad value"
    assert explain_log(log + end_badly("exit status 1")) == "ValueError: bad value"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("exec /bin/driver: argument list too long\n", "exec /bin/driver: argument list too long"),
        ("Error: no such file\nError: exit status 64\n", "no such file"),
        ("exec me\nand more\n", ""),
        ("Error in the command\n", ""),
        ("", ""),
    ],
)
def test_a_container_that_cannot_be_started_has_a_log_of_one_line(log, reason):
    assert explain_launcher(log) == reason
    assert clean_log(log).splitlines()[:1] == log.splitlines()[:1]


def test_of_the_error_of_a_driver_the_cause_is_kept():
    log = (
        "I1130 16:08:36.100000       1 main.go:109] Setting log level to: '1'\n"
        'I1130 16:08:36.200000       1 main.go:333] input ComponentSpec:{\n  "executorLabel": "e"\n}\n\n'
        "F1130 16:08:36.300000       1 main.go:118] KFP driver: driver.Container(pipelineName=twice, runID=1,"
        ' taskDisplayName="use (it)", taskName="use", dagExecutionID=5) failed: no execution found for type'
        " system.ContainerExecution\n"
        "Error: exit status 1\n"
    )

    assert explain_launcher(log) == "no execution found for type system.ContainerExecution"
    assert clean_driver_log(log) == log.splitlines(keepends=True)[-2]
