"""`fftasks init`."""

import subprocess
import sys

from fftasks.commands.main import main
from tests.sample import Sample

FILES = [".dockerignore", "config", "dodo.py", "requirements.txt", "words.py"]


def test_the_written_project_runs(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new")]) == 0

    assert "doit run" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES
    output = Sample(tmp_path / "new").doit("run")
    assert "most used = 'is (10), better (8), than (8)'" in output


def test_it_may_be_written_twice(tmp_path):
    assert main(["init", str(tmp_path)]) == 0
    assert main(["init", str(tmp_path)]) == 0


def test_files_of_others_are_never_touched(tmp_path, capsys):
    (tmp_path / "dodo.py").write_text("mine")

    assert main(["init", str(tmp_path)]) == 3

    assert [path.name for path in tmp_path.iterdir()] == ["dodo.py"]
    assert (tmp_path / "dodo.py").read_text() == "mine"
    assert "would be overwritten" in capsys.readouterr().err


def test_the_command_is_installed(tmp_path):
    command = [sys.executable, "-m", "fftasks.commands.main", "--version"]

    assert subprocess.run(command, check=False).returncode == 0
