"""Which run is meant by RUN on a command line: an id, the beginning of one, a name, or the last one."""

from __future__ import annotations

from fftasks.cluster.evidence import read_cluster_run
from fftasks.cluster.run import ClusterRun
from fftasks.errors import ToolError
from fftasks.ports.kfp_errors import NotFoundError
from fftasks.ports.kfp_runs import list_runs
from fftasks.project import Project
from fftasks.record import Record, read_record

_LATEST = 200
_ID_LENGTH = 36  # of a UUID


def find_run(project: Project, wanted: str = "") -> ClusterRun:
    """Return the run that somebody means; "" is the one that was submitted last.

    Raises ToolError if there is none, or more than one.
    """
    if not wanted:
        return _find_last(project)
    settings = project.settings.kfp
    if len(wanted) == _ID_LENGTH:
        return read_cluster_run(settings, wanted)
    runs = _list_latest(project, wanted)
    named = [run for run in runs if run.name == wanted]  # newest first
    begins = [run for run in runs if run.run_id.startswith(wanted)]
    if not named and len(begins) > 1:
        found = [f"{run.run_id}  {run.name}" for run in begins[:10]]
        raise ToolError(f"{wanted!r} begins the ids of {len(begins)} runs", found=found)
    for run in (*named, *begins):
        return read_cluster_run(settings, run.run_id)
    try:  # an id of another experiment, or of another form
        return read_cluster_run(settings, wanted)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no run {wanted!r} in experiment {settings.experiment!r}",
            tip="`doit runs` lists them; RUN is an id, its beginning, or a name",
        ) from error


def _list_latest(project: Project, wanted: str) -> list[ClusterRun]:
    """Return the latest runs; an error says what they were looked through for."""
    settings = project.settings.kfp
    try:
        return [ClusterRun(run) for run in list_runs(settings, _LATEST)]
    except ToolError as error:
        attempted = f"cannot look for run {wanted!r} in experiment {settings.experiment!r}"
        raise type(error)(attempted, found=error.found, tip=error.tip) from error


def list_submitted(project: Project) -> list[Record]:
    """Return the records of the last run of each workflow, the latest first."""
    found = []
    for path in (project.folder / "submit").glob("*.json"):
        record = read_record(path)
        if record is not None:
            found.append((path.lstat().st_mtime_ns, path.name, record))
    return [record for *_, record in sorted(found, key=lambda row: row[:2], reverse=True)]


def _find_last(project: Project) -> ClusterRun:
    submitted = list_submitted(project)
    if not submitted:
        raise ToolError("there is no run on Kubeflow Pipelines yet", tip="`doit submit` starts one")
    try:
        return read_cluster_run(project.settings.kfp, submitted[0]["run_id"])
    except NotFoundError as error:
        tip = "it was deleted, or kfp.host is another one now: `doit submit` starts a new run"
        raise NotFoundError(error.attempted, found=error.found, tip=tip) from error
