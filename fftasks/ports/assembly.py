"""The layers above the requirements, put on by the engine's classic builder.

The builder is given archives, one per layer: it compares one digest to know that a layer is the one
it has made before, and unpacks them as they are, with the times and owners that they carry.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.ports.engine import read_error
from fftasks.ports.log import Log
from fftasks.stages.image import (
    CODE_FOLDER,
    COMMAND,
    RUNTIME_FOLDER,
    Layers,
    Recipe,
    make_environment,
)
from fftasks.stages.layer import TIME, write_layer

if TYPE_CHECKING:
    from docker import APIClient

_SHOWN = 12


def assemble(
    client: APIClient, recipe: Recipe, layers: Layers, below: Mapping[str, Any], log: Log
) -> str:
    """Return the id of the image that has runtime and code above another.

    below: that image's "Id" and "Config".
    """
    image = ""
    with TemporaryFile(dir=log.path.parent) as context:
        dockerfile = make_dockerfile(below, make_environment(recipe))
        _write_context(context, dockerfile, layers, log.path.parent)
        context.seek(0)
        for event in client.build(
            fileobj=context,
            custom_context=True,
            decode=True,
            platform=recipe.platform or None,
            tag=recipe.name or None,
            rm=True,
            forcerm=True,
            use_config_proxy=False,
        ):
            if "error" in event:
                raise ToolError(
                    f"image: docker build failed on base {recipe.base!r}",
                    found=[read_error(event), *log.tail(_SHOWN)],
                    tip="look at what the engine says; `docker system df` if its disk is full",
                )
            log.write(event.get("stream", ""))
            image = (event.get("aux") or {}).get("ID", image)
    if not image:
        raise ToolError("image: the engine ended without an image", found=log.tail(_SHOWN))
    return image


def make_dockerfile(below: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the Dockerfile; the code comes last, so that an edit of it makes one layer."""
    # only where there is one to take away: the builder never finds this step in its cache
    entrypoint = "ENTRYPOINT []\n" if below["Config"].get("Entrypoint") else ""
    settings = " ".join(f"{name}={_quote(value)}" for name, value in environment.items())
    return f"""\
FROM {below["Id"]}
ADD runtime.tar /
ENV PYTHONPATH=/{RUNTIME_FOLDER}${{PYTHONPATH:+:${{PYTHONPATH}}}} {settings}
WORKDIR /{CODE_FOLDER}
{entrypoint}CMD {json.dumps(COMMAND)}
ADD code.tar /
"""


def _quote(value: str) -> str:
    for sign in '\\"$':
        value = value.replace(sign, f"\\{sign}")
    return f'"{value}"'


def _write_context(out: IO[bytes], dockerfile: str, layers: Layers, scratch: Path) -> None:
    # the code's folder is there early: else WORKDIR makes it, in a layer with the time of day
    parts = (
        ("runtime.tar", layers.runtime, RUNTIME_FOLDER, (CODE_FOLDER,)),
        ("code.tar", layers.code, CODE_FOLDER, ()),
    )
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, "Dockerfile", io.BytesIO(dockerfile.encode()))
        for name, entries, root, beside in parts:
            with TemporaryFile(dir=scratch) as layer:
                write_layer(entries, layer, root=root, beside=beside)
                _add(archive, name, layer)


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    info.mtime = TIME
    file.seek(0)
    archive.addfile(info, file)
