"""The requirements layer without a container: wheels for the image's platform and Python, unpacked.

uv does it. pip would too, but looks at the markers of requirements (python_version, platform_machine)
as of the Python that it runs in: what is needed only in the image would be missing there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fftasks.errors import SettingsError, ToolError
from fftasks.image.base import ARCHITECTURES
from fftasks.image.build_log import BuildLog
from fftasks.image.layers import Blob, LayerCache, LayerEntry, make_file_entry
from fftasks.image.recipe import ImageRecipe, LayerContents, describe_build_env
from fftasks.image.requirements import check_index_urls, explain_pip_failure
from fftasks.records import digest_file, digest_json
from fftasks.runner.start import make_command

WHEELS_VERSION = 1
REQUIREMENTS_FOLDER = "opt/requirements"

_MACHINES = {
    name: machine
    for machine, architecture in ARCHITECTURES.items()
    for name in (machine, architecture)
}
# what pip is told, in uv's words; the two know the same values
_UV_VARIABLES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_CONSTRAINT": "UV_CONSTRAINT",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_TIMEOUT": "UV_HTTP_TIMEOUT",
}
# of this machine's own settings for pip, those that say how packages are reached from here
_PIP_CONFIG_KEYS = ("index-url", "extra-index-url", "trusted-host", "cert")
# they name folders of this machine, and times
_LEFT_OUT = ("direct_url.json", "uv_cache.json", "uv_build.json", ".lock")
_SHEBANG = re.compile(rb"#!.*python.*")
_NO_WHEEL = "no usable wheels|building source distributions is disabled|no wheels|no compatible"
_SHOWN = 12


@dataclass(frozen=True)
class WheelTarget:
    """What wheels must be for.

    base: id of the image below; python: "3.11"; musl: whether its C library is musl, else glibc
    """

    base: str
    platform: str
    python: str
    musl: bool = False


def find_wheel_layer(
    recipe: ImageRecipe, layers: LayerContents, base: str, blobs: LayerCache
) -> Blob | None:
    """Return the layer that install() made before for the same requirements, if it is there."""
    return blobs.find(_make_key(recipe, layers, base))


def install_wheels(
    recipe: ImageRecipe,
    layers: LayerContents,
    target: WheelTarget,
    blobs: LayerCache,
    log: BuildLog,
) -> Blob:
    """Return the layer of what the requirements ask for.

    Raises ToolError if there is no wheel for one of them, or uv fails otherwise.
    """
    with TemporaryDirectory(dir=log.path.parent, prefix=".requirements.") as name:
        folder = Path(name)
        command = [
            _find_uv(), "pip", "install",
            "--requirements", recipe.requirements,
            "--target", str(folder),
            "--python", sys.executable,
            "--python-version", target.python,
            "--python-platform", _name_platform(target),
            "--only-binary", ":all:",
            "--no-progress", "--color", "never",
        ]  # fmt: skip
        log.write(f"uv {' '.join(command[1:])}\n")
        status = _run(command, recipe.folder, make_uv_environment(recipe), log)
        if status:
            raise _explain(recipe, layers, target, status, log)
        if sys.implementation.cache_tag == f"cpython-{target.python.replace('.', '')}":
            _compile(folder, log)
        entries = list(_list_files(folder))
        key = _make_key(recipe, layers, target.base)
        return blobs.make_layer(entries, root=REQUIREMENTS_FOLDER, key=key)


def make_uv_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return uv's environment: this process's, with what pip is told here and in the settings.

    Raises SettingsError if image.ca_cert is no file, and as pip.check_indexes does.
    """
    told = {**_read_pip_config(), **recipe.build_env}
    check_index_urls(told)
    names = {_UV_VARIABLES.get(name, name): value for name, value in told.items()}
    if recipe.ca_cert is not None:
        if not recipe.ca_cert.is_file():
            raise SettingsError(
                f"image: image.ca_cert {str(recipe.ca_cert)!r} cannot be read",
                tip="set it to a file with certificates (PEM)",
            )
        names["SSL_CERT_FILE"] = str(recipe.ca_cert)
    # as pip: the best version that any of the indexes has
    ours = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_CONFIG": "1", "UV_LINK_MODE": "copy"}
    return {**os.environ, **ours, **names}


def _read_pip_config() -> dict[str, str]:
    """Return how pip reaches packages from this machine; nothing where there is no pip."""
    command = [*make_command("pip"), "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    return {f"PIP_{n.upper().replace('-', '_')}": found[n] for n in _PIP_CONFIG_KEYS if n in found}


def _make_key(recipe: ImageRecipe, layers: LayerContents, base: str) -> str:
    decides = {
        "version": WHEELS_VERSION,
        "base": base,
        "platform": recipe.platform,
        "files": [[entry.path, entry.digest] for entry in layers.requirements],
        "build_env": describe_build_env(recipe.build_env),
    }
    return digest_json(decides)


def _find_uv() -> str:
    import uv

    return uv.find_uv_bin()


def _name_platform(target: WheelTarget) -> str:
    system, _, architecture = target.platform.lower().partition("/")
    machine = _MACHINES.get(architecture.partition("/")[0])
    if system != "linux" or machine is None:
        raise SettingsError(
            f"image: requirements for {target.platform} cannot be found without an engine",
            tip="set image.builder to docker, or empty image.requirements",
        )
    # 2.28 is the C library of the oldest systems that are still looked after
    return f"{machine}-unknown-linux-musl" if target.musl else f"{machine}-manylinux_2_28"


def _run(command: list[str], folder: Path, environment: Mapping[str, str], log: BuildLog) -> int:
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            log.write(line)
    log.finish()
    return process.returncode


def _compile(folder: Path, log: BuildLog) -> None:
    """Compile all modules without times, as they will lie in the image."""
    options = [
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(folder),
        "-p",
        f"/{REQUIREMENTS_FOLDER}",
    ]
    command = [*make_command("compileall"), *options, str(folder)]
    if _run(command, folder, {**os.environ, "PYTHONHASHSEED": "0"}, log):
        log.write("some modules are not for this Python, and were not compiled\n")


def _list_files(folder: Path) -> Iterator[LayerEntry]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ToolError(
                f"image: a package installed the symbolic link {name!r}, which leads out of its folder",
                found=[f"it leads to {str(path.resolve())!r} on this machine"],
                tip="remove the package from the requirements, or set image.builder to docker",
            )
        if not path.is_file() or path.name in _LEFT_OUT:
            continue
        if path.name == "RECORD" and path.parent.suffix == ".dist-info":
            lines = path.read_bytes().splitlines(keepends=True)
            gone = tuple(f"/{one},".encode() for one in _LEFT_OUT)
            yield make_file_entry(name, b"".join(s for s in lines if not any(g in s for g in gone)))
        elif name.startswith("bin/") and _SHEBANG.match(content := path.read_bytes()):
            # else it would ask for the Python of this machine
            script = _SHEBANG.sub(b"#!/usr/bin/env python3", content, count=1)
            made = make_file_entry(name, script)
            yield LayerEntry(name, script, made.size, made.digest, executable=True)
        else:
            found = path.stat()
            is_program = bool(found.st_mode & 0o100)
            yield LayerEntry(name, path, found.st_size, digest_file(path), executable=is_program)


def _explain(
    recipe: ImageRecipe, layers: LayerContents, target: WheelTarget, status: int, log: BuildLog
) -> ToolError:
    files = {
        entry.path: entry.content.read_text("utf-8", "replace")
        for entry in layers.requirements
        if isinstance(entry.content, Path) and entry.path.endswith((".txt", ".in"))
    }
    guilty, tip = explain_pip_failure(list(log.lines), files)
    if re.search(_NO_WHEEL, "\n".join(log.lines), re.IGNORECASE):
        tip = "ask for a version that has a wheel for it, or set image.builder to docker"
    return ToolError(
        f"image: uv could not unpack {recipe.requirements} for Python {target.python}"
        f" on {target.platform} (exit {status})",
        found=[*guilty, "the last lines:", *(f"  {line}" for line in log.tail(_SHOWN))],
        tip=tip,
    )
