"""Never stale: random projects, random edits; an equal digest must mean an equal result.

FFTASKS_PROPERTY: how many projects; FFTASKS_PROPERTY_SEED: of the first one, printed when a test fails.

What is true is found by importing the project anew and calling the function. A case counts if the project
can be imported before and after; one that cannot has no graph, so nothing would be taken from it.
"""

from __future__ import annotations

import builtins
import contextlib
import difflib
import functools
import importlib
import io
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fftasks.api.workflow_graph import calling
from tests.codehash.project_generator import Generator, format_project
from tests.codehash.sample_project import look, write

PROJECTS = int(os.environ.get("FFTASKS_PROPERTY", "140"))
SEED = int(os.environ.get("FFTASKS_PROPERTY_SEED", "0"))
EDITS = 12


def _give_up(*_: object) -> None:
    raise TimeoutError


@contextlib.contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Import from a folder, and leave nothing of it behind."""
    before, environment, given = set(sys.modules), dict(os.environ), set(vars(builtins))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    random.seed(0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1)  # a list that grows while it is iterated over
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            del sys.modules[name]
        for name in set(vars(builtins)) - given:
            delattr(builtins, name)
        os.environ.clear()
        os.environ.update(environment)


def call_node(folder: Path) -> str | None:
    """Return what the node of a project gives; None if the project cannot be imported."""
    with importing(folder):
        try:
            node = importlib.import_module("wf").node.func
        except Exception:
            return None
        try:
            with calling():
                return repr(node(1))
        except Exception as error:
            return f"{type(error).__name__}"


def check_cases(folder: Path, seed: int) -> tuple[int, int]:
    """Check a project and its edits; return how many edits there were, and how many kept the digest."""
    generator = Generator(seed)
    files = generator.make_project()
    write(folder, format_project(files))
    before = call_node(folder)
    if before is None:
        return 0, 0
    digest = look(folder).digest
    kept = 0
    for _ in range(EDITS):
        edited = generator.edit(files)
        write(folder, format_project(edited))
        if edited != files and look(folder).digest == digest:
            after = call_node(folder)
            kept += after is not None
            assert after in (before, None), f"stale: seed {seed}\n{_compare(files, edited)}"
    return EDITS, kept


def _compare(files: dict[str, list[str]], edited: dict[str, list[str]]) -> str:
    lines = []
    for name, statements in files.items():
        old, new = ("\n".join(texts).splitlines() for texts in (statements, edited[name]))
        lines += [f"--- {name}", *(difflib.ndiff(old, new) if old != new else old)]
    return "\n".join(lines)


def test_equal_digest_means_equal_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    request: pytest.FixtureRequest,
):
    request.addfinalizer(
        functools.partial(signal.signal, signal.SIGVTALRM, signal.getsignal(signal.SIGVTALRM))
    )
    signal.signal(signal.SIGVTALRM, _give_up)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    print(f"{PROJECTS} projects from seed {SEED}")

    found = [check_cases(tmp_path / str(n), SEED + n) for n in range(PROJECTS)]

    cases, kept = (sum(counts) for counts in zip(*found, strict=True))
    print(f"{cases} edits, {kept} kept their digest")
    assert cases > PROJECTS * EDITS / 2  # most projects can be imported, else nothing was compared
    assert kept > cases / 10
