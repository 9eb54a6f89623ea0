"""What a check has found, and how checks are run: each one, also when another has failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fftasks.errors import FFTasksError
from fftasks.project import Project

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, how it is, what was found, and what to do about it."""

    check: str
    level: str
    found: str
    cure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


Check = Callable[[Project], Iterator[Finding]]


def run_checks(project: Project, checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Yield what the checks find; what stops one is a finding, too, and stops no other."""
    for name, check in checks.items():
        yield from _run(project, name, check)


def _run(project: Project, name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check(project)
    except FFTasksError as error:
        yield make_failure(name, error)
    except Exception as error:  # noqa: BLE001 - the others are to be run
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}"
        found = f"the check itself went wrong: {type(error).__name__}: {error} ({where})"
        yield Finding(name, FAIL, found, "this is a bug of fftasks: report it with this line")


def make_failure(check: str, error: FFTasksError, level: str = FAIL) -> Finding:
    """Return the finding that an error is."""
    found = "; ".join([error.attempted, *error.found])
    return Finding(check, level, " ".join(found.split()), error.tip)
