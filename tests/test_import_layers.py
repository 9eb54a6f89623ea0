"""The layers of the package: imports go down only, also those inside functions and for type checkers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

import fftasks

PACKAGE = Path(fftasks.__file__).parent
REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "explanation" / "architecture.md"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"kfp", "docker", "numpy", "requests", "pandas", "rich", "fsspec", "urllib3"}
IN_THE_IMAGE = {"__init__", "api", "runner", "errors", "state_folder", "records"}


def find_top(path):
    """Return the folder or module directly below fftasks/ that contains a file."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def list_imports(path):
    """Yield (module, is at the top level) for each import of a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield node.module, node in tree.body


def read_layers():
    """Return the layers of pyproject.toml, highest first, each as the names in it."""
    contracts = read_configuration(str(REPOSITORY / "pyproject.toml"))["contracts_options"]
    (contract,) = [one for one in contracts if one["type"] == "layers"]
    return [re.split(r" *\| *", layer) for layer in contract["layers"]]


def test_import_linter_finds_no_import_of_a_higher_layer_and_no_cycle():
    program = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [program, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


def test_every_folder_and_module_has_a_layer():
    names = [name for layer in read_layers() for name in layer]

    assert sorted(names) == sorted({find_top(path) for path in MODULES} - {"__init__"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_packages_are_imported_where_they_are_used(path):
    tops = {module.partition(".")[0] for module, at_top in list_imports(path) if at_top}

    assert not tops & HEAVY


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if find_top(path) in IN_THE_IMAGE - {"__init__"}],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_what_the_image_contains_needs_the_standard_library_and_cloudpickle_only(path):
    optional = {"numpy", "pandas", "matplotlib", "scipy", "polars", "pyarrow", "sklearn", "torch"}
    for module, at_top in list_imports(path):
        top, _, rest = module.partition(".")
        if top == "fftasks":
            assert not rest or rest.split(".")[0] in IN_THE_IMAGE
        elif top not in optional or at_top:
            assert top in sys.stdlib_module_names | {"cloudpickle"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_project_and_layers_above_it_import_doit(path):
    order = [name for layer in read_layers() for name in layer]
    if find_top(path) in order[order.index("project") + 1 :]:
        assert not any(module.partition(".")[0] == "doit" for module, _ in list_imports(path))


def test_file_names_are_distinct():
    commands = PACKAGE / "cli"
    names = [p.name for p in MODULES if p.parent != commands and not p.name.startswith("__")]

    assert sorted(names) == sorted(set(names))


def test_the_page_about_the_code_shows_the_layers_in_their_order():
    rows = re.findall(r"(?m)^\| (\d+) \| `([a-z_]+)(?:/|\.py)` \|", PAGE.read_text())
    shown = {}
    for number, name in rows:
        shown.setdefault(int(number), set()).add(name)

    assert [shown[n] for n in sorted(shown)] == [set(layer) for layer in reversed(read_layers())]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?|\w+\.py)`", PAGE.read_text()))
        - {"config/prod.yaml"}  # a file of a user
    ),
)
def test_a_file_that_the_page_names_exists(name):
    paths = [root / name for root in (PACKAGE, REPOSITORY)]

    assert any(path.exists() or path.with_suffix(".py").exists() for path in paths)
