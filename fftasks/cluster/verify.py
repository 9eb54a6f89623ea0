"""Verify files of a run on the cluster before they are unpickled here.

Unpickling a file can execute code, and not everyone with write access to the bucket is allowed to execute
code on the user's machine. So the pod that writes an output records its digest in the metadata of the
artifact (runtime/executor_input.py), and `doit result` and `doit replay` compare a file with that digest each
time before they load it. The metadata store is reached through KFP and is not part of the bucket.
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
_NO_WAY = "kfp.host is not the address of the web UI, so the metadata store cannot be reached"
_NO_DIGEST = (
    "the run recorded no digest of it: an older version of fftasks or another component wrote it, or it is an"
    " input of a task with more than 200 inputs, which has no room for digests"
)
_TRUST = "`--trust` loads it unverified: anyone with write access to the bucket can then execute code as you"


@dataclass(frozen=True)
class Expected:
    """The expected digest of a downloaded file.

    Attributes:
        what: Description of the output, for messages.
        digest: Beginning of the digest that the run recorded; "" if there is none and the user trusts it.
        trust: Whether a file with another digest is loaded as well.
    """

    what: str
    digest: str
    trust: bool

    def fits(self, path: Path) -> bool:
        """Return whether an existing file or folder may be loaded; remove it if not.

        A file of an earlier download is verified again: it may have been edited, or downloaded with --trust.
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
        """Check a download; remove the file if it must not be loaded.

        Args:
            path: The downloaded file.
            uri: Where it was downloaded from.

        Raises:
            ToolError: The file has another digest, and the user did not pass --trust.
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
                f"the run recorded {self.digest}",
                f"the file at {uri} has {found}",
                "loading it could execute code that someone put into it; the download was removed",
            ],
            tip="find out who can write to the bucket; to compute the result again, set cache: false for the"
            " node and run `doit submit`",
        )

    def _has_digest(self, path: Path) -> bool:
        is_file = stat.S_ISREG(path.lstat().st_mode)
        return is_file and digest_artifact(path).startswith(self.digest)


class Verifier:
    """The verifier reads the digests that runs recorded, with one request per run to the metadata store.

    Args:
        project: The project, whose settings contain the address of the metadata store.
        trust: Whether files without a recorded digest, or with another one, are loaded as well.
    """

    def __init__(self, project: Project, *, trust: bool = False) -> None:
        self._project, self._trust = project, trust
        self._executions: dict[str, Executions | None] = {}

    def expect(self, run: ClusterRun, task: Task, output: str, uri: str = "") -> Expected:
        """Return the expected digest of an output.

        Args:
            run: Run that contains the task.
            task: Task that has succeeded or was cached.
            output: Name of the output.
            uri: URI that an importer has registered, whose artifact another run wrote; "" for other tasks.

        Raises:
            ToolError: The run recorded no digest, and the user did not pass --trust.
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
