"""Small projects for whole runs: files in a folder, and doit as a user calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECTS = Path(__file__).parent / "projects"


class Sample:
    """A project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def copy(cls, name: str, root: Path) -> Sample:
        """Make a project from tests/projects/<name>, with a dodo.py and a config if it has none."""
        shutil.copytree(PROJECTS / name, root, dirs_exist_ok=True)
        return cls.make(root)

    @classmethod
    def make(cls, root: Path, text: str | None = None, **settings: str) -> Sample:
        """Make a project of one file, wf.py, with a dodo.py and a config if it has none."""
        sample = cls(root)
        if text is not None:
            sample.write("wf.py", text)
        if not (root / "dodo.py").exists():
            sample.write("dodo.py", "from fftasks.tasks import *\n")
        if not (root / "config" / "default.yaml").exists():
            sample.write("config/default.yaml", "workflows: [wf.py]\n")
        return sample

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a piece of a file, which must be there."""
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start doit."""
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments],
            cwd=self.root,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def doit(self, *arguments: str, code: int = 0, **environ: str) -> str:
        """Run doit, check its exit code, and return what it printed."""
        process = self.start(*arguments, **environ)
        output = process.communicate()[0]
        assert process.returncode == code, output
        return output

    def ran(self, *arguments: str, code: int = 0, **environ: str) -> list[str]:
        """Run doit and return the names of the nodes that ran, sorted."""
        lines = self.doit(*arguments, code=code, **environ).splitlines()
        return sorted(line[7:].split("  ")[0] for line in lines if line.startswith(".  run:"))
