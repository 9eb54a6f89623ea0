"""Pods as processes here: commands run with this Python, in a project's folder, without an image."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from fftasks.runner.start import RUNNER_MODULE, make_command
from tests.services.launcher import Ending, Pod

_MOUNTS = {"minio": "minio", "s3": "s3", "gs": "gcs"}


@dataclass
class LocalPods:
    """Runs pods; a callable as Cluster.launch. The root folder of a pod is below pod.folder."""

    project: Path

    def __call__(self, pod: Pod) -> Ending:
        """Run one pod to its end."""
        begin = pod.args.index(RUNNER_MODULE) + 1
        words = [_move(word, pod.folder) for word in pod.args[begin:]]
        if "--fingerprint" in words:  # of an image, and here is none
            at = words.index("--fingerprint")
            del words[at : at + 2]
        printed = pod.folder / "printed.txt"
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [*make_command(RUNNER_MODULE), *words],
                cwd=self.project,
                env={**os.environ, **pod.env},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        is_killed = _wait(process, pod, printed)
        for path in pod.folder.rglob("output_metadata.json"):
            path.write_text(_move_back(path.read_text(), pod.folder))
        log = printed.read_text(errors="replace")
        return Ending(process.returncode, log=log, is_killed=is_killed)


def _wait(process: subprocess.Popen[bytes], pod: Pod, printed: Path) -> bool:
    """Wait for a process; kill it when its run is terminated, or its deadline is over: True then."""
    end = time.monotonic() + pod.deadline_s
    while process.poll() is None:
        if pod.is_terminated.wait(0.02) or time.monotonic() > end:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        pod.show(printed.read_text(errors="replace"))
    return False


def _move(word: str, folder: Path) -> str:
    """Return an argument with the places of artifacts as paths below the folder."""
    word = re.sub(r'"(minio|s3|gs)://', lambda m: f'"{folder}/{_MOUNTS[m[1]]}/', word)
    return re.sub(r'("outputFile": ?")/', rf"\1{folder}/", word)


def _move_back(text: str, folder: Path) -> str:
    for scheme, mount in _MOUNTS.items():
        text = text.replace(f'"{folder}/{mount}/', f'"{scheme}://')
    return text
