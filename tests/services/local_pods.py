"""Pods as processes here: commands run with this Python, in a project's folder, without an image."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fftasks.runtime.start import MODULE, make_command
from tests.services.launcher import Ending, Pod

_MOUNTS = {"minio": "minio", "s3": "s3", "gs": "gcs"}


@dataclass
class LocalPods:
    """Runs pods; a callable as Cluster.launch. The root folder of a pod is below pod.folder."""

    project: Path

    def __call__(self, pod: Pod) -> Ending:
        """Run one pod to its end."""
        begin = pod.args.index(MODULE) + 1
        words = [_move(word, pod.folder) for word in pod.args[begin:]]
        if "--fingerprint" in words:  # of an image, and here is none
            at = words.index("--fingerprint")
            del words[at : at + 2]
        completed = subprocess.run(
            [*make_command(MODULE), *words],
            cwd=self.project,
            env={**os.environ, **pod.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        for path in pod.folder.rglob("output_metadata.json"):
            path.write_text(_move_back(path.read_text(), pod.folder))
        return Ending(completed.returncode, log=completed.stdout)


def _move(word: str, folder: Path) -> str:
    """Return an argument with the places of artifacts as paths below the folder."""
    word = re.sub(r'"(minio|s3|gs)://', lambda m: f'"{folder}/{_MOUNTS[m[1]]}/', word)
    return re.sub(r'("outputFile": ?")/', rf"\1{folder}/", word)


def _move_back(text: str, folder: Path) -> str:
    for scheme, mount in _MOUNTS.items():
        text = text.replace(f'"{folder}/{mount}/', f'"{scheme}://')
    return text
