"""A one-line edit until the image is in the registry, beside `docker build` and `docker push`."""

from __future__ import annotations

import functools
import gzip
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from fftasks.records import read_record
from tests.benchmarks.measure import Cost, alternate, doit
from tests.benchmarks.services import Services, apart, start_services
from tests.benchmarks.table import Row

TITLE = "one-line edit until the image is in the registry; 20 MB"

_BYTES = 20_000_000
_CODE = """\
from fftasks import Workflow, workflow

@workflow
def step():
    return {value}

Workflow(step(), name="w")
"""
_DOCKERFILE = "FROM {base}\nWORKDIR /ffrun\nCOPY . /ffrun\n"


def measure(folder: Path) -> Iterator[Row]:
    """Yield the time by the number of files, what is sent, and a push with nothing to do."""
    with start_services(folder) as services:
        for count in (10, 1000, 10_000):
            yield from apart(functools.partial(_measure, folder / str(count), services, count))


def _measure(folder: Path, services: Services, count: int) -> Iterator[Row]:
    plain = _write_files(folder / "plain", count)
    (plain / "Dockerfile").write_text(_DOCKERFILE.format(base=services.base))
    projects = {
        name: _make_project(folder / name, services, count, name) for name in ("docker", "oci")
    }
    for project in projects.values():
        doit(project, "push")
    values = itertools.count(1)
    _push_plain(plain, services, next(values))
    reference, docker, oci = alternate(
        3,
        lambda: _push_plain(plain, services, next(values)),
        lambda: _push(projects["docker"], next(values)),
        lambda: _push(projects["oci"], next(values)),
    )
    words = "docker build, push"
    yield Row(f"{count} files, docker", docker.wall, words, reference.wall, 1.2)
    yield Row(f"{count} files, oci", oci.wall, words, reference.wall, 1 / 3)
    (nothing,) = alternate(5, lambda: doit(projects["oci"], "push"))
    yield Row(f"{count} files, nothing to do", nothing.wall, "0.3 s", 0.3, 1)
    yield from _measure_bytes(projects, services, next(values))


def _measure_bytes(projects: dict[str, Path], services: Services, value: int) -> Iterator[Row]:
    for name, project in projects.items():
        before = _list_layers(project, services)
        _push(project, value)
        after = _list_layers(project, services)
        sent = sum(size for digest, size in after.items() if digest not in before)
        changed = len(gzip.compress((project / "wf.py").read_bytes()))
        yield Row(f"  sent by {name}", sent, "the changed file, gzip", changed, None, "kB")


def _write_files(folder: Path, count: int) -> Path:
    (folder / "data").mkdir(parents=True)
    source = random.Random(1)
    for k in range(count):
        # half of it does not compress, as data do
        noise = source.randbytes(_BYTES // count // 2)
        (folder / "data" / f"{k}.bin").write_bytes(noise + b"0,1,2,3\n" * (len(noise) // 8))
    (folder / "wf.py").write_text(_CODE.format(value=0))
    return folder


def _make_project(folder: Path, services: Services, count: int, builder: str) -> Path:
    project = _write_files(folder, count)
    (project / "dodo.py").write_text("from fftasks.tasks import *\n")
    (project / "config").mkdir()
    settings = make_settings(services, builder, str(count))
    (project / "config" / "default.yaml").write_text(settings)
    return project


def make_settings(services: Services, builder: str, name: str) -> str:
    """Return the settings of a project of one file, wf.py."""
    registry = services.registry
    return f"""\
workflows: [wf.py]
context: {{ignore: [config/, benchmark.log]}}
image: {{base: "{services.base}", builder: {builder}}}
registry:
  server: {registry.server}
  repository: benchmarks/{builder}-{name}
  username: {registry.username}
  password: {registry.password}
"""


def _push(project: Path, value: int) -> Cost:
    (project / "wf.py").write_text(_CODE.format(value=value))
    return doit(project, "push")


def _push_plain(folder: Path, services: Services, value: int) -> Cost:
    (folder / "wf.py").write_text(_CODE.format(value=value))
    name = f"{services.registry.server}/benchmarks/{folder.parent.name}"
    built = services.docker(folder, "build", "-q", "-t", name, ".")
    pushed = services.docker(folder, "push", "-q", name)
    return Cost(built.wall + pushed.wall)


def _list_layers(project: Path, services: Services) -> dict[str, int]:
    record = read_record(project / ".fftasks" / "push.json")
    assert record is not None
    repository = record["inputs"]["repository"].partition("/")[2]
    manifest = services.registry.get_manifest(repository, record["output"])
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}
