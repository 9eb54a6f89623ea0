"""The container image holds what a pod runs and no more, and its digest sees syntax only."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fftasks
from fftasks.image import runtime
from tests.programs.test_caching import put_result
from tests.programs.test_submit import connect, find_run_id
from tests.sample import Sample
from tests.services.cluster import Cluster
from tests.services.kfp_server import KFPServer

PACKAGE = Path(fftasks.__file__).parent
WORKFLOW = """
from fftasks import Workflow, workflow

@workflow(reads=[])
def one():
    return 1

Workflow(one().set_name("one"), name="flow")
"""


def find_modules(name: str) -> list[Path]:
    """Return the files of a module and of the packages that it is in."""
    found = []
    while name:
        path = PACKAGE.parent / name.replace(".", "/")
        found += [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()]
        name = name.rpartition(".")[0]
    return found


def list_imports(path: Path) -> set[str]:
    """Return the modules of fftasks that a file imports, also in functions, but not for type checkers."""
    tree = ast.parse(path.read_text())
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] == "fftasks"}


def test_everything_that_a_pod_imports_is_in_the_image():
    waiting = [
        file for name in ("fftasks.runner.__main__", "fftasks.api") for file in find_modules(name)
    ]
    waiting += PACKAGE.joinpath("runner").glob("*.py")
    needed: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in needed:
            needed.add(file)
            waiting += [path for name in list_imports(file) for path in find_modules(name)]

    held = {entry.path for entry in runtime.list_runtime()}

    assert {file.relative_to(PACKAGE.parent).as_posix() for file in needed} <= held
    assert not {path for path in held if path.split("/")[1] in ("cli", "report", "kfp", "image")}


def test_the_image_holds_modules_with_their_comments():
    entries = runtime.list_runtime()
    paths = [entry.path for entry in entries]

    assert paths == sorted(paths)
    assert all(path.endswith(".py") for path in paths)
    for entry in entries:
        if entry.path.startswith("fftasks/"):
            assert entry.content == PACKAGE.parent.joinpath(entry.path).read_bytes()


def test_runtime_is_enough_to_be_imported_elsewhere(tmp_path):
    for entry in runtime.list_runtime():
        path = tmp_path / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content)
    program = (
        "import fftasks, fftasks.runner, cloudpickle; print(fftasks.__file__, cloudpickle.__file__)"
    )

    # without site-packages, as in an image that has nothing else
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.split() == [
        str(tmp_path / "fftasks/__init__.py"),
        str(tmp_path / "cloudpickle/__init__.py"),
    ]


def test_package_that_is_not_installed_is_a_bug():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        runtime._find_package("nowhere")


def insert_comment(path: Path) -> None:
    path.write_text("# a comment\n\n" + path.read_text() + "\n# another comment\n")


def change_docstring(path: Path) -> None:
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    path.write_text(text.replace(docstring, "Something else."))


def add_statement(path: Path) -> None:
    path.write_text(path.read_text() + "\n_added = 1\n")


EDITS = [
    # the edit, the file, and whether the digest of the runtime changes
    (insert_comment, "fftasks/runner/task.py", False),
    (change_docstring, "fftasks/runner/task.py", False),
    (add_statement, "fftasks/runner/task.py", True),
    (add_statement, "fftasks/api/node.py", True),
    (add_statement, "fftasks/errors.py", True),
    (add_statement, "cloudpickle/cloudpickle.py", True),
    (insert_comment, "cloudpickle/cloudpickle.py", False),
    (insert_comment, "fftasks/cli/doctor.py", False),
    (add_statement, "fftasks/cli/doctor.py", False),
    (add_statement, "fftasks/records.py", False),
]


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """Give a copy of the packages that is used as the installed one."""
    for name in ("fftasks", "cloudpickle"):
        shutil.copytree(runtime._find_package(name), tmp_path / "packages" / name)
    monkeypatch.setattr(runtime, "_find_package", (tmp_path / "packages").joinpath)
    forget()
    yield tmp_path / "packages"
    forget()


def forget() -> None:
    """Clear what a process knows, as if a new one began."""
    runtime.list_runtime.cache_clear()
    runtime.digest_runtime.cache_clear()


@pytest.mark.parametrize(("edit", "file", "changes"), EDITS)
def test_digest_sees_statements_of_the_runtime_only(packages, tmp_path, edit, file, changes):
    before = runtime.digest_runtime(tmp_path / ".fftasks")
    edit(packages / file)
    forget()

    assert (runtime.digest_runtime(tmp_path / ".fftasks") != before) == changes


def test_digest_of_unchanged_files_is_not_computed_again(packages, tmp_path, monkeypatch):
    before = runtime.digest_runtime(tmp_path / ".fftasks")
    forget()
    monkeypatch.setattr(runtime, "_digest_syntax", lambda _: pytest.fail("parsed again"))

    assert runtime.digest_runtime(tmp_path / ".fftasks") == before


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"content": 1, "syntax": 2}'])
def test_damaged_cache_of_the_digest_is_replaced(packages, tmp_path, damage):
    before = runtime.digest_runtime(tmp_path / ".fftasks")
    cache = tmp_path / ".fftasks" / runtime.DIGEST_CACHE
    content = cache.read_text()
    cache.write_text(damage)
    forget()

    assert runtime.digest_runtime(tmp_path / ".fftasks") == before
    assert cache.read_text() == content


@pytest.fixture
def submitted(tmp_path, registry, base_image, monkeypatch):
    """Give a submitted project, and the copy of the package that its commands run."""
    packages = tmp_path / "packages"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, packages / "fftasks", ignore=ignored)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    with KFPServer(Cluster(put_result, tmp_path / "cluster")) as server:
        sample = Sample.make(tmp_path / tmp_path.name, WORKFLOW)
        connect(sample, registry, server, base_image, monkeypatch)
        server.wait(find_run_id(sample.doit("submit")))
        yield sample, packages / "fftasks"


def test_edit_of_the_package_that_pods_do_not_see_leaves_nothing_to_do(submitted):
    sample, package = submitted
    nothing = sample.doit("plan", "submit")
    insert_comment(package / "cli/doctor.py")
    add_statement(package / "cli/doctor.py")
    insert_comment(package / "runner/task.py")
    change_docstring(package / "runner/task.py")

    assert sample.doit("plan", "submit") == nothing
    assert "submit: 0 to run" in nothing

    add_statement(package / "runner/task.py")
    plan = sample.doit("plan", "submit")

    assert plan != nothing
    assert "one  fftasks changed" in plan
