"""What is printed of runs."""

from datetime import datetime, timedelta, timezone

import pytest

from fftasks.kfp.diagnostics import RunDiagnostics
from fftasks.kfp.run import ClusterRun
from fftasks.project import open_project
from fftasks.report.run_status import format_local_time, format_run_duration, format_run_end
from fftasks.terminal import format_elapsed_time
from tests.sample import Sample


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_times_are_told_in_two_units_at_most(seconds, text):
    assert format_elapsed_time(seconds) == text


def test_a_run_that_goes_on_has_taken_what_it_has_so_far():
    began = datetime.now(timezone.utc) - timedelta(minutes=5, seconds=2)

    assert format_run_duration(ClusterRun({"created_at": began.isoformat()})).startswith("5 min ")
    assert format_run_duration(ClusterRun({})) == ""
    assert format_local_time(None) == ""


def test_a_run_that_failed_before_any_task_says_why(tmp_path):
    project = open_project(Sample.copy("chain", tmp_path).root)
    answer = {
        "run_id": "r",
        "display_name": "sums",
        "state": "FAILED",
        "error": {"message": "no such workflow"},
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T01:02:03Z",
    }

    run = ClusterRun(answer)
    lines = format_run_end(run, RunDiagnostics(project.settings, project.folder, run))

    assert lines == ["run 'sums' has failed after 1 h 2 min", "  no such workflow"]
