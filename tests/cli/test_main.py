"""`fftasks init`, and the command `fftasks`."""

import subprocess
import sys
from pathlib import Path

import pytest

import fftasks
from fftasks.cli.main import main
from fftasks.config import format_default_file, load_settings
from tests.sample import Sample

FILES = {".dockerignore", "config/default.yaml", "dodo.py", "requirements.txt", "words.py"}


def list_files(folder):
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}


def run(*arguments, before="pass"):
    code = f"import sys; from fftasks.cli.main import main; {before}; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_written_project_runs(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new")]) == 0

    assert "doit run" in capsys.readouterr().out
    assert list_files(tmp_path / "new") == FILES
    sample = Sample(tmp_path / "new")
    output = sample.doit("run")
    assert "most used = 'is (10), better (8), than (8)'" in output
    assert "6 ran" in output
    assert sample.ran("run") == []
    assert sample.doit("result", "most used") == "'is (10), better (8), than (8)'\n"


def test_the_written_project_needs_no_package(tmp_path):
    main(["init", str(tmp_path)])

    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert all(line.startswith("#") for line in lines)


def test_its_settings_are_the_defaults_with_a_sentence_each(tmp_path):
    main(["init", str(tmp_path)])

    assert (tmp_path / "config" / "default.yaml").read_text() == format_default_file(("words.py",))
    assert load_settings(tmp_path, environ={}).workflows == ("words.py",)


def test_its_image_holds_the_workflow_and_no_settings(tmp_path):
    main(["init", str(tmp_path)])

    Sample(tmp_path).doit("context")

    copied = list_files(tmp_path / ".fftasks" / "context")
    assert {"words.py", "requirements.txt"} <= copied
    assert not copied & {"config/default.yaml", "dodo.py"}


@pytest.mark.parametrize("folder", ["a b/c", "x"])
def test_what_is_written_and_what_comes_next_is_printed(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)

    assert main(["init", folder]) == 0

    output = capsys.readouterr().out
    assert {line.removeprefix("wrote ") for line in output.splitlines()[:5]} == {
        f"{folder}/{name}" for name in FILES
    }
    assert ("cd 'a b/c'\n" if " " in folder else "cd x\n") in output


def test_without_a_folder_it_is_the_current_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["init"]) == 0

    assert list_files(tmp_path) == FILES
    assert "cd " not in capsys.readouterr().out


def test_it_may_be_written_twice(tmp_path, capsys):
    main(["init", str(tmp_path)])
    capsys.readouterr()
    (tmp_path / "words.py").unlink()

    assert main(["init", str(tmp_path)]) == 0

    assert list_files(tmp_path) == FILES
    assert capsys.readouterr().out.count("wrote") == 1


def test_files_of_others_beside_them_stay(tmp_path):
    (tmp_path / "README.md").write_text("mine")

    assert main(["init", str(tmp_path)]) == 0

    assert (tmp_path / "README.md").read_text() == "mine"
    assert list_files(tmp_path) == {"README.md", *FILES}


@pytest.mark.parametrize(
    "there", [["dodo.py"], ["config/default.yaml", "words.py"], ["config"], [".dockerignore/x"]]
)
def test_what_is_in_the_way_is_listed_and_never_touched(tmp_path, capsys, there):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")

    assert main(["init", str(tmp_path)]) == 3

    error = capsys.readouterr().err
    assert list_files(tmp_path) == set(there)
    assert all((tmp_path / name).read_text() == "mine" for name in there)
    assert all(str(tmp_path / name.removesuffix("/x")) in error for name in there)
    assert error.count("would be overwritten") == 1


def test_a_link_to_nowhere_is_in_the_way(tmp_path):
    (tmp_path / "dodo.py").symlink_to("elsewhere.py")

    assert main(["init", str(tmp_path)]) == 3

    assert [path.name for path in tmp_path.iterdir()] == ["dodo.py"]


def test_a_file_as_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")

    assert main(["init", str(tmp_path / "file")]) == 3
    assert main(["init", str(tmp_path / "file" / "below")]) == 1

    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_half_file_and_can_be_tried_again(tmp_path):
    # a limit of the size of files stands for it
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))"

    full = run("init", tmp_path, before=limit)
    again = run("init", tmp_path)

    assert full.returncode == 1
    assert "cannot be written" in full.stderr
    assert "Traceback" not in full.stderr
    assert again.returncode == 0
    assert list_files(tmp_path) == FILES


def test_the_version_is_printed():
    completed = run("--version")

    assert (completed.returncode, completed.stdout) == (0, f"fftasks {fftasks.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["inti"], ["init", "a", "b"], ["--nope"]])
def test_a_wrong_command_line_shows_how_it_goes(tmp_path, arguments):
    completed = run(*arguments)

    assert completed.returncode == 2
    assert completed.stderr.startswith("usage: fftasks")


def test_the_command_is_installed():
    program = Path(sys.executable).with_name("fftasks")
    if not program.exists():
        pytest.skip("fftasks is not installed beside this Python")

    assert subprocess.run([program, "--version"], check=False).returncode == 0
