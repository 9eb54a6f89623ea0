"""Requirements of an image without an engine: unpack wheels for its platform and Python with uv.

pip can do this too, but it evaluates the markers of requirements (python_version, platform_machine) for the
Python that it runs in, so packages that only the image needs would be missing.
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
from fftasks.image.recipe import ImageRecipe, LayerContents, describe_build_env, make_install_error
from fftasks.image.requirements import check_index_urls
from fftasks.records import digest_file, digest_json
from fftasks.runner.start import make_command

WHEELS_VERSION = 1
REQUIREMENTS_FOLDER = "opt/requirements"

_MACHINES = {
    name: machine
    for machine, architecture in ARCHITECTURES.items()
    for name in (machine, architecture)
}
# pip's variables and the corresponding ones of uv, which accept the same values
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
# options of this machine's pip configuration that determine how packages are downloaded
_PIP_CONFIG_KEYS = ("index-url", "extra-index-url", "trusted-host", "cert")
# files that contain times and folders of this machine
_LEFT_OUT = ("direct_url.json", "uv_cache.json", "uv_build.json", ".lock")
_SHEBANG = re.compile(rb"#!.*python.*")
_NO_WHEEL = "no usable wheels|building source distributions is disabled|no wheels|no compatible"


@dataclass(frozen=True)
class WheelTarget:
    """The image that wheels are selected for.

    Attributes:
        base: Id of the base.
        platform: "os/architecture[/variant]".
        python: Version of Python, such as "3.11".
        musl: Whether its C library is musl instead of glibc.
    """

    base: str
    platform: str
    python: str
    musl: bool = False


def find_wheel_layer(
    recipe: ImageRecipe, layers: LayerContents, base: str, blobs: LayerCache
) -> Blob | None:
    """Return the layer that install_wheels() created for the same inputs; None if there is none."""
    return blobs.find(_make_key(recipe, layers, base))


def install_wheels(
    recipe: ImageRecipe,
    layers: LayerContents,
    target: WheelTarget,
    blobs: LayerCache,
    log: BuildLog,
) -> Blob:
    """Return the layer with the packages of the requirements.

    Args:
        recipe: The inputs of the image.
        layers: Its files.
        target: The image that wheels are selected for.
        blobs: Cache for the layer.
        log: Receives the output of uv.

    Raises:
        ToolError: A package has no wheel, or uv failed.
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
            raise _make_uv_error(recipe, layers, target, status, log)
        if sys.implementation.cache_tag == f"cpython-{target.python.replace('.', '')}":
            _compile(folder, log)
        entries = list(_list_files(folder))
        key = _make_key(recipe, layers, target.base)
        return blobs.make_layer(entries, root=REQUIREMENTS_FOLDER, key=key)


def make_uv_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return the environment of uv: this process's, pip's configuration and the settings.

    Raises:
        SettingsError: image.ca_cert is not a file, or a password would be sent over plain HTTP.
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
    # like pip: the newest version of all indexes
    ours = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_CONFIG": "1", "UV_LINK_MODE": "copy"}
    return {**os.environ, **ours, **names}


def _read_pip_config() -> dict[str, str]:
    """Return the part of pip's configuration that concerns downloads; {} without pip."""
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
            f"image: cannot install requirements for {target.platform} without an engine",
            tip="set image.builder to docker, or image.requirements to an empty value",
        )
    # 2.28 is the version of glibc in the oldest systems that are still supported
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
    """Compile all modules for their paths in the image, without times."""
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
        log.write("some modules were not compiled: they are for another version of Python\n")


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
            # otherwise the script would start the Python of this machine
            script = _SHEBANG.sub(b"#!/usr/bin/env python3", content, count=1)
            made = make_file_entry(name, script)
            yield LayerEntry(name, script, made.size, made.digest, executable=True)
        else:
            found = path.stat()
            is_program = bool(found.st_mode & 0o100)
            yield LayerEntry(name, path, found.st_size, digest_file(path), executable=is_program)


def _make_uv_error(
    recipe: ImageRecipe, layers: LayerContents, target: WheelTarget, status: int, log: BuildLog
) -> ToolError:
    attempted = (
        f"image: uv could not unpack {recipe.requirements} for Python {target.python}"
        f" on {target.platform} (exit {status})"
    )
    has_no_wheel = re.search(_NO_WHEEL, "\n".join(log.lines), re.IGNORECASE)
    tip = "use a version that has a wheel, or set image.builder to docker" if has_no_wheel else ""
    return make_install_error(attempted, layers, log, tip=tip)
