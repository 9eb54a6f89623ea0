"""A base image with Python and pip, made here: tests can pull none from anywhere.

What takes long (a Debian tree, once per machine) is kept as a tar file in a cache folder.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.missing import ServiceMissingError, find_program

if TYPE_CHECKING:
    import docker

NAME = "fftasks-test/base:bookworm"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-pip", "ca-certificates")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

# Nothing at run time needs these; without them the first push to a registry takes half the time.
# EXTERNALLY-MANAGED is Debian's refusal of `pip install`, which images made for Python do not have.
_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./usr/lib/python3*/EXTERNALLY-MANAGED",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
)
_LABEL = "fftasks-test.recipe"


def ensure_base_image(engine: docker.DockerClient, cache: Path) -> str:
    """Return the name of the base image in the engine; make it from the cached tree where it is not.

    Raises ServiceMissingError where the tree is not cached and cannot be made here.
    """
    environment = _list_environment()
    recipe = _digest(SUITE, *PACKAGES, *_LEFT_OUT, _read_authorities())
    wanted = _digest(recipe, *environment)
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / "lock"):
        if not _is_there(engine, wanted):
            tree = cache / f"base-{SUITE}-{recipe}.tar"
            if not tree.exists():
                make_tree(tree)
            _import(engine, tree, [*environment], wanted)
    return NAME


def make_tree(target: Path) -> None:
    """Make target: a tar file of a minimal Debian with Python and pip; needs root, takes a minute."""
    program = find_program("debootstrap", package="debootstrap")
    if os.geteuid() != 0:
        raise ServiceMissingError("the base image is not cached, and only root can run debootstrap")
    with tempfile.TemporaryDirectory(prefix="fftasks-base-") as folder:
        tree = Path(folder, "tree")
        include = "--include=" + ",".join(PACKAGES)
        mirror = _find_mirror()
        _run([program, "--variant=minbase", include, SUITE, str(tree), *mirror], what="debootstrap")
        if AUTHORITIES.exists():
            shutil.copyfile(AUTHORITIES, tree / AUTHORITIES.relative_to("/"))
        pack_tree(tree, target)


def pack_tree(tree: Path, target: Path) -> None:
    """Pack a Debian tree without what no container needs; target appears when it is whole."""
    unfinished = target.with_suffix(".unfinished")
    without = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    order = ["--sort=name", "--numeric-owner", "--wildcards"]
    _run(["tar", *order, *without, "-C", str(tree), "-cf", str(unfinished), "."], what="tar")
    unfinished.replace(target)


def _import(engine: docker.DockerClient, tree: Path, environment: list[str], recipe: str) -> None:
    changes = [*(f"ENV {pair}" for pair in environment), f"LABEL {_LABEL}={recipe}"]
    # the engine's own message decides: docker-py's import_image_from_file does not look at it
    answer = engine.api.import_image_from_file(
        str(tree), *NAME.split(":"), changes=[*changes, 'CMD ["python3"]']
    )
    lines = [json.loads(line) for line in answer.splitlines()]
    errors = [line["error"] for line in lines if "error" in line]
    if errors:
        raise ServiceMissingError(f"docker import of {tree} failed: {errors[0]}")


def _is_there(engine: docker.DockerClient, recipe: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        return engine.images.get(NAME).labels.get(_LABEL) == recipe
    except ImageNotFound:
        return False


def _list_environment() -> list[str]:
    """Return NAME="value" pairs that let pip in a container reach what the machine's pip reaches."""
    pairs = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    if AUTHORITIES.exists():
        pairs["PIP_CERT"] = str(AUTHORITIES)
    for option, text in _read_pip_options().items():
        # a file: index is a folder of this machine, which a container does not see
        values = [word for word in text.split() if not word.startswith("file:")]
        if values and option in {"index-url", "extra-index-url", "trusted-host"}:
            pairs["PIP_" + option.upper().replace("-", "_")] = " ".join(values)
    return [f'{name}="{value}"' for name, value in pairs.items()]


def _read_pip_options() -> dict[str, str]:
    """Return the options that pip finds in its files and environment, the strongest last."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(?:global|:env:)\.([a-z-]+)=(.*)$", answer, flags=re.MULTILINE)
    options = {}
    for name, value in sorted(found, key=lambda pair: pair[0]):
        options[name] = ast.literal_eval(value)
    return options


def _find_mirror() -> list[str]:
    """Return the machine's own source of the suite's packages; none leaves debootstrap its default."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return []
    rows = [line.split() for line in answer.splitlines()]
    return [row[1] for row in rows if row[:1] == [SUITE]][:1]


def _read_authorities() -> str:
    return AUTHORITIES.read_text() if AUTHORITIES.exists() else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run(command: list[str], *, what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ServiceMissingError(f"{what} failed with exit code {done.returncode}:\n{tail}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one session of tests at a time make the image."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
