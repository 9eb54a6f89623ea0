"""Print the tables: `python -m tests.benchmarks [NAME ...]`; all of them take about half an hour."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import (
    array,
    compiling,
    edit,
    first_run,
    fusion,
    growth,
    image,
    no_op,
    start,
    submit,
)
from tests.benchmarks.table import print_table

BENCHMARKS = {
    "compiling": compiling,
    "no_op": no_op,
    "first_run": first_run,
    "edit": edit,
    "array": array,
    "growth": growth,
    "image": image,
    "fusion": fusion,
    "start": start,
    "submit": submit,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all of them; return the exit code."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
        return 2
    # what pip installs is compiled once, as doit is here; without this fftasks would be compiled by each run
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores")
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="fftasks-benchmark-") as folder:
            print_table(BENCHMARKS[name].TITLE, list(BENCHMARKS[name].measure(Path(folder, name))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
