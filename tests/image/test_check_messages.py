"""What is said of an image in which nodes cannot be imported."""

import pytest

from fftasks.errors import ToolError
from fftasks.image.check import (
    check_imports,
    digest_imports,
    find_unknown_modules,
    name_requirement,
)

INSTALLED = {"sklearn": ["scikit-learn 1.7.2"], "bare": ["bare"]}
MISSING = {"file": "wf.py", "module": "sklearn.svm", "where": "lib/a.py:3", "error": "long"}


def try_image(problems):
    def attempt(image, *, log):
        assert (image, log) == ("sha256:1", "log.txt")
        return problems

    def read():
        return INSTALLED

    check_imports(
        "sha256:1", attempt, requirements="requirements.txt", read_installed=read, log="log.txt"
    )


def test_an_image_with_all_nodes_is_fine():
    try_image([])


def test_a_missing_module_is_named_with_its_line_and_the_requirement():
    with pytest.raises(ToolError, match="module not found: sklearn") as caught:
        try_image([MISSING])

    assert caught.value.found == ("lib/a.py:3: No module named 'sklearn.svm'",)
    assert caught.value.tip == "add to requirements.txt: scikit-learn==1.7.2"


def test_another_error_is_shown_as_it_is():
    with pytest.raises(ToolError, match="cannot be imported") as caught:
        try_image([{"file": "wf.py", "error": "wf.py cannot be imported\n  KeyError: 'HOME'"}])

    assert "KeyError" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("sklearn", "scikit-learn==1.7.2"),
        ("bare.part", "bare"),
        ("cv2", "opencv-python-headless"),
        ("unheard", "unheard"),
    ],
)
def test_requirement_of_a_module(module, requirement):
    assert name_requirement(module, INSTALLED) == requirement


@pytest.mark.parametrize(
    ("text", "files", "surroundings", "same"),
    [
        ("import os\ndef f():\n    return 2\n", ["a.py"], "s", True),
        ("import os, json\ndef f():\n    return 1\n", ["a.py"], "s", False),
        ("import os\ndef f():\n    import json\n", ["a.py"], "s", False),
        ("import os\n", ["a.py", "b.csv"], "s", False),
        ("import os\n", ["a.py"], "t", False),
    ],
)
def test_only_what_decides_imports_needs_another_trial(tmp_path, text, files, surroundings, same):
    source = tmp_path / "a.py"
    source.write_text("import os\ndef f():\n    return 1\n")
    before = digest_imports("s", {"files": [["a.py"]], "links": []}, [source])
    source.write_text(text)

    context = {"files": [[name] for name in files], "links": []}

    assert (digest_imports(surroundings, context, [source]) == before) == same


def test_unknown_is_what_neither_python_nor_the_project_nor_a_requirement_has(tmp_path):
    source = tmp_path / "a.py"
    source.write_text(
        "import os, numpy.linalg, cv2\nfrom lib import x\nfrom . import y\nimport fftasks"
    )
    context = {"files": [["a.py"], ["src/lib.py"]], "links": []}

    assert find_unknown_modules(context, [source], {"numpy"}) == ["cv2"]


def test_a_source_that_is_no_python_imports_nothing(tmp_path):
    source = tmp_path / "a.py"
    source.write_text("import numpy\ndef")

    assert find_unknown_modules({"files": [], "links": []}, [source], set()) == []
