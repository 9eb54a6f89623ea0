"""Where imports lead, and what is kept for the next time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fftasks.codehash import module_analysis as module
from fftasks.codehash import source_tree as project
from fftasks.codehash.dependencies import find_dependencies
from fftasks.codehash.source_tree import SourceTree
from tests.codehash.sample_project import write

SCRIPT = {
    "wf.py": "from m import f\ndef node(): return f(X)\nX = 1\n",
    "m.py": "def f(x): return x\n",
}


def find(root: Path, **options: object) -> set[str]:
    found = SourceTree(root, options.pop("roots", [root]), **{"path": (), **options})  # type: ignore[arg-type]
    return set(find_dependencies(found, "wf.py", "node").pieces)


def refuse(_source: bytes) -> None:
    raise AssertionError


def test_later_process_parses_nothing_that_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "code", SCRIPT)
    first = find(tmp_path / "code", cache=tmp_path / "cache")

    monkeypatch.setattr(project, "analyse", refuse)

    assert find(tmp_path / "code", cache=tmp_path / "cache") == first
    with pytest.raises(AssertionError):
        find(tmp_path / "code")


def test_only_the_edited_file_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "code", SCRIPT)
    find(tmp_path / "code", cache=tmp_path / "cache")
    parsed = []

    def note(source: bytes) -> object:
        parsed.append(source)
        return module.analyse(source)

    monkeypatch.setattr(project, "analyse", note)
    write(tmp_path / "code", {"m.py": "def f(x): return -x\n"})
    find(tmp_path / "code", cache=tmp_path / "cache")

    assert parsed == [b"def f(x): return -x\n"]


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"units": [1]}', "\0"])
def test_damaged_cache_is_made_again(tmp_path: Path, damage: str):
    write(tmp_path / "code", SCRIPT)
    first = find(tmp_path / "code", cache=tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text(damage)

    assert find(tmp_path / "code", cache=tmp_path / "cache") == first


def test_cache_that_cannot_be_written_harms_nobody(tmp_path: Path):
    write(tmp_path / "code", SCRIPT)
    (tmp_path / "cache").write_text("a file")

    assert find(tmp_path / "code", cache=tmp_path / "cache") == find(tmp_path / "code")


def test_kept_analysis_is_the_analysis(tmp_path: Path):
    write(tmp_path / "code", SCRIPT)
    find(tmp_path / "code", cache=tmp_path / "cache")

    kept = [json.loads(path.read_text()) for path in (tmp_path / "cache").rglob("*.json")]

    units = [unit for analysis in kept if "units" in analysis for unit in analysis["units"]]
    assert sorted(unit["name"] for unit in units) == [
        "constant X", "function f()", "function node()", "import f"
    ]  # fmt: skip


def test_first_root_wins(tmp_path: Path):
    write(
        tmp_path, {"wf.py": "import m\ndef node(): return m.f()\n", "m.py": "def f(): return 1\n"}
    )
    write(tmp_path, {"src/m.py": "def f(): return 2\n"})

    assert "m.py: function f()" in find(tmp_path, roots=[tmp_path, tmp_path / "src"])
    assert "src/m.py: function f()" in find(tmp_path, roots=[tmp_path / "src", tmp_path])


def test_package_wins_over_module_over_folder(tmp_path: Path):
    write(
        tmp_path, {"wf.py": "import m\ndef node(): return m.f()\n", "m.py": "def f(): return 1\n"}
    )
    write(tmp_path, {"m/x.py": ""})

    assert "m.py: function f()" in find(tmp_path)
    write(tmp_path, {"m/__init__.py": "def f(): return 2\n"})
    assert "m/__init__.py: function f()" in find(tmp_path)


def test_module_outside_the_project_that_is_on_the_path_counts(tmp_path: Path):
    write(tmp_path / "code", {"wf.py": "import m\ndef node(): return m.f()\n"})
    write(
        tmp_path / "lib",
        {"m.py": "from k import g\ndef f(): return g()\n", "k.py": "def g(): pass\n"},
    )

    pieces = find(tmp_path / "code", path=[str(tmp_path / "lib")])

    assert {"../lib/m.py: function f()", "../lib/k.py: function g()"} <= pieces


def test_installed_packages_on_the_path_are_not_the_project_s(tmp_path: Path):
    write(tmp_path / "code", {"wf.py": "import m\ndef node(): return m.f()\n"})
    write(tmp_path / "site-packages", {"m.py": "def f(): return 1\n"})

    assert find(tmp_path / "code", path=[str(tmp_path / "site-packages")]) == {
        "wf.py: function node()"
    }


def test_virtual_environment_in_the_project_is_not_its_code(tmp_path: Path):
    write(
        tmp_path,
        {
            "wf.py": "import pickle, m\ndef node(d): return pickle.loads(d)\n",
            "venv/pyvenv.cfg": "",
            "venv/lib/site-packages/m.py": "",
            ".hidden/m.py": "",
            "k.py": "",
        },
    )

    widened = {name.partition(" (")[0] for name in find(tmp_path) if "widened" in name}

    assert widened == {"file wf.py", "file k.py"}


def test_compiled_module_counts_as_a_file(tmp_path: Path):
    write(tmp_path, {"wf.py": "import fast\ndef node(): return fast.f()\n"})
    (tmp_path / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")

    assert "file fast.cpython-311-x86_64-linux-gnu.so" in find(tmp_path)


def test_module_that_is_nowhere_counts_for_nothing(tmp_path: Path):
    write(
        tmp_path,
        {
            "wf.py": "try:\n  import nowhere as q\nexcept ImportError:\n  q = None\ndef node(): return q\n"
        },
    )

    assert find(tmp_path) == {"wf.py: function node()", "wf.py: names q"}


def test_stub_files_and_folders_named_like_modules_are_no_modules(tmp_path: Path):
    write(
        tmp_path,
        {"wf.py": "import json\ndef node(): return json.x\n", "json/data.txt": "", "m.pyi": ""},
    )

    assert find(tmp_path) == {"wf.py: function node()"}


def test_two_thousand_files(tmp_path: Path):
    body = "".join(
        f"def f{n}(x, y=A):\n    total = 0\n    for name in NAMES:\n        value = len(name) * x + y\n"
        f"        if value > {n}:\n            total += value\n    return os.path.join('a', str(total))\n\n\n"
        for n in range(10)
    )
    write(
        tmp_path / "code",
        {
            f"m{n}.py": f"import os\nimport m{n + 1}\nA = {n}\nNAMES = ['a']\n{body}"
            f"def go(x): return f1(x), m{n + 1}.go(x)\n"
            for n in range(2000)
        },
    )
    write(tmp_path / "code", {"m2000.py": "def go(x): return x\n"})
    write(tmp_path / "code", {"wf.py": "import m0\ndef node(): return m0.go(1)\n"})

    start = time.process_time()
    first = find(tmp_path / "code", cache=tmp_path / "cache")
    cold = time.process_time() - start
    second = find(tmp_path / "code", cache=tmp_path / "cache")
    warm = time.process_time() - start - cold

    assert first == second
    assert len(first) > 8000
    # about 6 s and 1 s; these bounds are for a slow machine
    assert cold < 40
    assert warm < cold / 3
