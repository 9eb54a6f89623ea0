"""Parses sizes that users write in settings and on the command line."""

from __future__ import annotations

import re

from fftasks.errors import SettingsError

SIZE_FORM = r"(?i:\s*\d+(\.\d+)?\s*([kmgt]i?)?b?\s*)"
SIZE_EXAMPLE = "500MB, 1.5 GiB or 0"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE | re.ASCII)


def parse_size(text: str, source: str) -> int:
    """Return the number of bytes of a size.

    Upper and lower case are equal, spaces are allowed, and the "B" is optional.

    size                bytes
    500, 500B           500
    5kB, 5KB, 5k        5 * 1000
    5MB                 5 * 1000**2
    1.5GB, 1.5 gb       1.5 * 1000**3
    5TB                 5 * 1000**4
    5KiB, 5Ki           5 * 1024
    5MiB                5 * 1024**2
    5GiB                5 * 1024**3
    5TiB                5 * 1024**4

    Args:
        text: The size.
        source: Setting or option that the user wrote it for, for the error message.

    Raises:
        SettingsError: The text is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise SettingsError(
            f"{source}: invalid size: {text!r}",
            tip="write a number and a unit: B, kB, MB, GB, TB, or KiB, MiB, GiB, TiB, such as 500MB",
        )
    base = 1024 if match[3] else 1000
    exponent = " kmgt".index(match[2].lower() or " ")
    # Only the fraction goes through a float, which cannot represent all integers above 2**53.
    number = match[1]
    return int(float(number) * base**exponent) if "." in number else int(number) * base**exponent
