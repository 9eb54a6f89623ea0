"""Program that runs in pip's container with the base's Python, and writes the changed files as a layer.

The layer is an archive on standard output. Its files are sorted and have one fixed time, and modules are
compiled in a reproducible way. The program uses the standard library only, and is copied as one file.
"""

from __future__ import annotations

import json
import os
import py_compile
import sys
import tarfile

_EXCLUDED_FOLDERS = ("/tmp", "/var/tmp", "/run", "/root/.cache", "/dev", "/proc", "/sys")  # noqa: S108


def main(folder: str, time: int) -> None:
    """Pack the files that are named in folder/changes.json, except for temporary files and the folder.

    Args:
        folder: The working folder. changes.json is [[path, kind], ...] as the engine lists the changes; the
            kinds are 0 changed, 1 new, 2 removed.
        time: Time of all files, in seconds since 1970.
    """
    with open(f"{folder}/changes.json", encoding="utf-8") as file:
        changes = [(path, kind) for path, kind in json.load(file) if _is_included(path, folder)]
    gone = [path for path, kind in changes if kind == 2]  # noqa: PLR2004
    # folders with changed files are listed too; they are added as parents of the files that are packed
    paths = {path for path, kind in changes if kind == 1 or not os.path.isdir(path)} - {*gone}
    paths |= {made for path in sorted(paths) for made in _compile(path)}
    for path in [*paths, *gone]:
        paths |= _list_parents(path)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(paths):
            info = archive.gettarinfo(path, path.lstrip("/"))
            info.mtime, info.uname, info.gname = time, "", ""
            _add(archive, info, path)
        for path in sorted(gone):
            parent, _, name = path.rpartition("/")
            info = tarfile.TarInfo(f"{parent}/.wh.{name}".lstrip("/"))
            info.mtime = time
            archive.addfile(info)


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    if info.isreg():
        with open(path, "rb") as file:
            archive.addfile(info, file)
    else:
        archive.addfile(info)


def _compile(path: str) -> list[str]:
    """Compile a module; return the new files. One process compiles all modules in a fixed order."""
    if not path.endswith(".py") or not os.path.isfile(path):
        return []
    try:
        # Python must not compare times, because the time of the source would be that of the build
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        made = py_compile.compile(path, invalidation_mode=mode, doraise=True, quiet=2)
    except (py_compile.PyCompileError, ValueError):
        return []  # packages contain templates, and modules for other versions of Python
    return [made, os.path.dirname(made)] if made else []


def _is_included(path: str, folder: str) -> bool:
    return not any(
        path == top or path.startswith(f"{top}/") for top in (*_EXCLUDED_FOLDERS, folder)
    )


def _list_parents(path: str) -> set[str]:
    parts = path.split("/")[1:-1]
    return {"/" + "/".join(parts[: k + 1]) for k in range(len(parts))}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
