"""Which files pip reads for a requirements file."""

from __future__ import annotations

import pytest

from fftasks.errors import SettingsError
from fftasks.image.requirements import collect_requirement_files, read_requirement_lines


@pytest.fixture
def collect_from(tmp_path):
    def collect_texts(name="requirements.txt", **files: str):
        texts = {
            key.replace("__", "/").replace("_txt", ".txt"): text for key, text in files.items()
        }
        for path, text in texts.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return collect_requirement_files(name, texts, tmp_path)

    return collect_texts


def test_file_alone(collect_from):
    assert collect_from(requirements_txt="numpy\n", other_txt="") == ("requirements.txt",)


@pytest.mark.parametrize(
    "text", ["", "\n# nothing yet\n", "--index-url https://x/simple\n", "-c c.txt"]
)
def test_nothing_to_install(collect_from, text):
    assert collect_from(requirements_txt=text, c_txt="numpy<3\n") == ()


def test_no_file(collect_from):
    assert collect_from(other_txt="numpy") == ()


@pytest.mark.parametrize(
    "line", ["-r more.txt", "-rmore.txt", "--requirement more.txt", "--requirement=more.txt"]
)
def test_included_files_count(collect_from, line):
    assert collect_from(
        "deps/all.txt", deps__all_txt=line, deps__more_txt="-c ../limits.txt\nnumpy", limits_txt=""
    ) == ("deps/all.txt", "deps/more.txt", "limits.txt")


def test_files_that_include_each_other(collect_from):
    assert collect_from(requirements_txt="-r b.txt\nnumpy", b_txt="-r requirements.txt") == (
        "b.txt",
        "requirements.txt",
    )


@pytest.mark.parametrize(
    "line", ["./pkg", "./pkg[extra]", "./pkg ; python_version > '3'", "pkg/../pkg", "file:./pkg"]
)
def test_local_package_counts_with_all_its_files(collect_from, line):
    assert collect_from(requirements_txt=line, pkg__a="", pkg__sub__b="", other="") == (
        "pkg/a",
        "pkg/sub/b",
        "requirements.txt",
    )


def test_project_itself_as_a_package(collect_from):
    assert collect_from(requirements_txt=".", pyproject="") == ("pyproject", "requirements.txt")


def test_folder_of_wheels_counts(collect_from):
    assert collect_from(
        "deps/all.txt", deps__all_txt="-f ../wheels\nnumpy", wheels__a="", wheels__b=""
    ) == ("deps/all.txt", "wheels/a", "wheels/b")


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy @ https://x/numpy.whl",
        "https://x/numpy.whl",
        "git+https://x/y.git",
        "-r https://x/more.txt\nnumpy",
        "-f https://x\nnumpy",
        "--no-binary :all:\nnumpy",
    ],
)
def test_what_pip_fetches_is_no_file(collect_from, line):
    assert collect_from(requirements_txt=line) == ("requirements.txt",)


@pytest.mark.parametrize(
    "line", ["-r gone.txt", "./gone", "../up.whl", "gone.whl", "-f gone", "a/b"]
)
def test_file_that_is_not_in_the_context_is_named_with_its_line(collect_from, line):
    with pytest.raises(SettingsError, match=r"requirements\.txt line 3 names"):
        collect_from(requirements_txt=f"numpy \\\n  >1\n{line}\n")


@pytest.mark.parametrize("line", ["-e .", "-e ./pkg", "--editable=./pkg"])
def test_editable_is_refused(collect_from, line):
    with pytest.raises(SettingsError, match=r"line 1: an editable package"):
        collect_from(requirements_txt=line, pkg__a="")


def test_lines():
    text = "a  # why\n\n# no\nb#c \\\n --hash=x\n  # d \\\ne\nf\\"

    assert list(read_requirement_lines(text)) == [
        (1, "a"),
        (4, "b#c   --hash=x"),
        (7, "e"),
        (8, "f"),
    ]
