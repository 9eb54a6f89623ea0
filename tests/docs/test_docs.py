"""The documentation: every command and every snippet in it is run, and its site is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.page import is_as_told, list_commands, read_steps

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    path for part in ("tutorial", "how-to", "explanation") for path in (DOCS / part).glob("*.md")
)
MARK = "<!-- services: cluster"
OWN_MARK = f"{MARK}, a project of its own"
ALONE = [path for path in PAGES if MARK not in path.read_text()]
ON_CLUSTER = [path for path in PAGES if MARK in path.read_text()]
WITH_OWN_PROJECT = [path for path in ON_CLUSTER if OWN_MARK in path.read_text()]


class Reader:
    """Somebody who types what a page says, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.home = self.folder = folder
        self.environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def follow(self, page: Path) -> None:
        self.home = self.folder
        for step in read_steps(page):
            place = f"{page.name}:{step.line}"
            if step.kind == "file":
                path = self.home / step.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.text)
            elif step.kind == "python":
                self.type(f"{sys.executable} - <<'END'\n{step.text}END", place)
            else:
                for command, told in list_commands(step.text):
                    output = self.type(command, place)
                    assert is_as_told(told, output), f"{place}: {command}\n{output}"

    def type(self, command: str, place: str) -> str:
        if command.startswith("cd "):
            self.folder /= command[3:]
            return ""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {command}\n{done.stdout}"
        return done.stdout


@pytest.mark.parametrize("page", ALONE, ids=lambda path: path.stem)
def test_what_a_page_tells_is_what_happens(page, tmp_path):
    Reader(tmp_path).follow(page)


@pytest.fixture
def reader(tmp_path, registry, kfp_cluster, base_image, cluster):
    """Give somebody who has a cluster and a registry."""
    reader = Reader(tmp_path)
    reader.environ |= {
        "FFTASKS_KFP__HOST": kfp_cluster.url,
        "FFTASKS_REGISTRY__SERVER": registry.server,
        "FFTASKS_REGISTRY__USERNAME": registry.credentials["username"],
        "FFTASKS_IMAGE__BASE": base_image,
        "FFTASKS_OBJECT_STORE__MOUNT": f"{cluster.folder}/bucket/minio",
        "REGISTRY_PASSWORD": registry.credentials["password"],
    }
    return reader


def test_what_pages_tell_of_the_cluster_is_what_happens(reader):
    # the tutorial, and then what goes on with its project
    for page in sorted(set(ON_CLUSTER) - set(WITH_OWN_PROJECT), reverse=True):
        reader.follow(page)


@pytest.mark.parametrize("page", WITH_OWN_PROJECT, ids=lambda path: path.stem)
def test_what_a_page_with_a_project_of_its_own_tells_of_the_cluster_is_what_happens(page, reader):
    reader.follow(page)


def test_the_site_builds_without_a_warning(tmp_path):
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]

    done = subprocess.run(
        [*sphinx, "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    settings = (tmp_path / "site/reference/settings.html").read_text()
    assert "kfp.host" in settings
    assert "memory_limit" in settings
    assert "http" not in "".join(line for line in settings.splitlines() if "<script src" in line)


@pytest.mark.parametrize(
    ("told", "output", "is_it"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\nc\n", True),
        ("...\nb\n", "b\n", True),
        ("x ... z\n", "x y z\n", True),
        (".  run:a  0.01 s\n.  run:b  0.02 s\n", ".  run:b  1.50 s\n.  run:a  0.00 s\n", True),
        ("(a)\n", "a\n", False),
    ],
)
def test_what_counts_as_told(told, output, is_it):
    assert is_as_told(told, output) is is_it


@pytest.mark.parametrize(
    "text", ["    indented\n", "```ruby\nx\n```\n", "```{code-block} yaml\nx: 1\n```\n"]
)
def test_a_block_that_nobody_can_run_is_an_error(tmp_path, text):
    (tmp_path / "page.md").write_text(f"# Page\n\n{text}")

    with pytest.raises(ValueError, match=r"page.md:3"):
        read_steps(tmp_path / "page.md")
