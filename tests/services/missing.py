"""What to do where a service cannot be had on this machine."""

from __future__ import annotations

import shutil


class ServiceMissingError(Exception):
    """A service that a test needs is not there; the text says which and how to get it."""


def find_program(name: str, *, package: str) -> str:
    """Return the path of a program; package: the Debian package that an error names."""
    path = shutil.which(name)
    if path is None:
        raise ServiceMissingError(f"{name} is not installed (Debian package: {package})")
    return path
