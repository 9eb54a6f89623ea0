"""The floors: imports go down only, also those inside functions."""

import ast
import re
from pathlib import Path

import pytest

import fftasks

PACKAGE = Path(fftasks.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "architecture.md"

FLOORS = {
    4: (
        "tasks", "doit", "project", "label", "recall", "steps", "plan", "data", "commands",
        "dropin", "results", "table", "terminal", "rehearsal", "cluster", "doctor", "overview", "page",
    ),
    3: (
        "ports",
    ),
    2: (
        "stages",
    ),
    1: (
        "settings", "graph", "values", "closure", "constant", "distribution", "record", "store",
        "state", "picture", "paths",
    ),
    0: (
        "workflow", "runtime", "errors",
    ),
}  # fmt: skip
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
ABOVE_ALL = 5  # fftasks/__init__.py: the public names of all floors
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"kfp", "docker", "numpy", "requests", "pandas", "rich", "fsspec", "urllib3"}


def find_floor(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ABOVE_ALL if parts == ("__init__",) else FLOOR_OF[parts[0]]


def list_imports(tree, *, skip_types=True):
    """Yield (module, at_top_level); imports for type checkers only do not count."""
    types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in types and skip_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            files = {path.with_suffix("") for path in MODULES}
            folder = PACKAGE.joinpath(*node.module.split(".")[1:])
            for alias in node.names:  # a name, or a module of the package
                is_module = node.module.startswith("fftasks") and folder / alias.name in files
                yield f"{node.module}.{alias.name}" if is_module else node.module, node in tree.body


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_only(path):
    floor = find_floor(path)
    for module, _ in list_imports(ast.parse(path.read_text())):
        top, _, rest = module.partition(".")
        if top == "fftasks" and rest:
            assert FLOOR_OF[rest.split(".")[0]] <= floor, f"{module} is on a higher floor"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_packages_are_imported_where_they_are_used(path):
    tops = {m.partition(".")[0] for m, top in list_imports(ast.parse(path.read_text())) if top}

    assert not tops & HEAVY


def test_the_lowest_floor_needs_the_standard_library_only():
    import sys

    for path in MODULES:
        if find_floor(path) == 0:
            tops = {
                module.partition(".")[0] for module, _ in list_imports(ast.parse(path.read_text()))
            }
            assert tops <= sys.stdlib_module_names | {"fftasks", "cloudpickle"}, path


def test_only_the_upper_floor_knows_doit():
    for path in MODULES:
        if find_floor(path) < 4:
            assert not any(
                m.partition(".")[0] == "doit" for m, _ in list_imports(ast.parse(path.read_text()))
            )


def test_every_module_has_a_floor():
    names = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES} - {"__init__"}

    assert names == set(FLOOR_OF)


def test_there_are_no_cycles_of_modules():
    graph = {}
    for path in MODULES:
        parts = ("fftasks", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        imported = (m for m, top in list_imports(ast.parse(path.read_text())) if top)
        graph[name] = {m for m in imported if m.startswith("fftasks")}
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_the_page_about_the_code_names_each_module_on_its_floor():
    told = {}
    for number, text in re.findall(r"(?ms)^### (\d):.*?\n(.*?)(?=^##)", PAGE.read_text()):
        cells = re.findall(r"(?m)^\| (`.*?) \|", text)
        told[int(number)] = {n.strip("/") for c in cells for n in re.findall(r"`(.*?)`", c)}

    for floor, names in FLOORS.items():
        assert told[floor] == set(names), f"floor {floor} of {PAGE.name}"


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?|\w+\.py)`", PAGE.read_text())))
)
def test_a_file_that_the_page_names_is_there(name):
    paths = [root / name for root in (PACKAGE, PACKAGE.parent)]

    assert any(path.exists() or path.with_suffix(".py").exists() for path in paths)
