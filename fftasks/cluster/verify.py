"""Verify files of a run on the cluster before they are unpickled here.

To unpickle a file is to execute what it says, and a bucket may have writers who must not execute code on the
user's machine. So the pod that writes an output records its digest in the metadata of the artifact
(runtime/executor_input.py), and `doit result` and `doit replay` compare a file with that digest each time
before they load it. The metadata store is reached through KFP and is not part of the bucket.
"""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fftasks.cluster.details import Task
from fftasks.cluster.run import ClusterRun
from fftasks.errors import FFTasksError, ToolError
from fftasks.runtime.artifact import digest_artifact
from fftasks.runtime.executor_input import DIGEST
from fftasks.runtime.regular import remove

if TYPE_CHECKING:
    from fftasks.cluster.details import Executions
    from fftasks.project import Project

_DIGEST = re.compile(r"sha256:[0-9a-f]{32}(?:[0-9a-f]{32})?")
_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_WAY = "kfp.host does not lead to the metadata store; the address of the web UI of Kubeflow Pipelines does"
_NO_DIGEST = (
    "the run has recorded no digest of it: an older version of fftasks or another component has written it,"
    " or more than 200 inputs of one task left no room for digests"
)
_TRUST = "`--trust` loads it without a check: then those who can write to the bucket can execute code as you"


@dataclass(frozen=True)
class Expected:
    """What a file must be to be loaded.

    Attributes:
        what: The output in words, for messages.
        digest: Beginning of the digest that the run has recorded; "" if there is none and the user trusts it.
        trust: Whether a file with another digest is loaded as well.
    """

    what: str
    digest: str
    trust: bool

    def fits(self, path: Path) -> bool:
        """Return whether a file or folder is there that may be loaded; anything else is removed.

        A file of an earlier download is read again: it may have been edited, or loaded with --trust before.
        """
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return False
        is_file = stat.S_ISREG(mode)
        if self._has_digest(path) if self.digest else is_file or stat.S_ISDIR(mode):
            return True
        remove(path)
        return False

    def check(self, path: Path, uri: str) -> None:
        """Check a download; a file that must not be loaded is removed.

        Args:
            path: The downloaded file.
            uri: Where it was downloaded from.

        Raises:
            ToolError: The file has another digest, and the user did not say --trust.
        """
        if not self.digest or self._has_digest(path):
            return
        found = digest_artifact(path) if path.is_file() else "a folder"
        if self.trust:
            sys.stderr.write(f"{self.what} was changed after the run: the file has {found}\n")
            return
        remove(path)
        raise ToolError(
            f"{self.what} was changed after the run: it is not loaded",
            found=[
                f"the run has recorded {self.digest}",
                f"the file at {uri} has {found}",
                "loading it would execute whatever code was put into it; the download was removed",
            ],
            tip="find out who can write to the bucket; to compute the result again, set cache: false for the"
            " node and run `doit submit`",
        )

    def _has_digest(self, path: Path) -> bool:
        is_file = stat.S_ISREG(path.lstat().st_mode)
        return is_file and digest_artifact(path).startswith(self.digest)


class Verifier:
    """Finds the digests that runs have recorded; the metadata store is asked once for each run.

    Args:
        project: The project, whose settings lead to the metadata store.
        trust: Whether files without a recorded digest, or with another one, are loaded as well.
    """

    def __init__(self, project: Project, *, trust: bool = False) -> None:
        self._project, self._trust = project, trust
        self._executions: dict[str, Executions | None] = {}

    def expect(self, run: ClusterRun, task: Task, output: str, uri: str = "") -> Expected:
        """Return what the file of an output must be.

        Args:
            run: The run that shows the task.
            task: A task that has succeeded or was cached.
            output: Name of the output.
            uri: Of an importer, the URI that it has registered: another run has written what is there.

        Raises:
            ToolError: There is no digest to compare with, and the user did not say --trust.
        """
        what = f"the {output} of {task.title} in run {run.run_id[:8]}"
        try:
            digest = self._find_digest(run, task, output, uri)
            problem = "" if digest else _NO_DIGEST
        except FFTasksError as error:
            digest, problem = "", ": ".join([error.attempted, *error.found[:1]])
        if problem and not self._trust:
            attempted = f"cannot verify {what}: it is not loaded"
            raise ToolError(attempted, found=[problem], tip=_TRUST)
        return Expected(what, digest, self._trust)

    def _find_digest(self, run: ClusterRun, task: Task, output: str, uri: str) -> str:
        if uri:
            runs = _RUN_ID.findall(uri)
            outputs = [
                one
                for run_id in dict.fromkeys(runs)
                for execution in self._ask(run_id).values()
                for one in execution.outputs.values()
                if one.uri.partition("?")[0] == uri.partition("?")[0]
            ]
        else:
            execution = self._ask(run.run_id).get(task.name)
            found = execution.outputs.get(output) if execution else None
            outputs = [found] if found else []
        digests = [str(one.properties.get(DIGEST, "")) for one in outputs]
        return next((digest for digest in digests if _DIGEST.fullmatch(digest)), "")

    def _ask(self, run_id: str) -> Executions:
        from fftasks.ports.kfp_metadata import read_executions

        if run_id not in self._executions:
            self._executions[run_id] = read_executions(self._project.settings.kfp, run_id)
        found = self._executions[run_id]
        if found is None:
            raise ToolError(_NO_WAY)
        return found
