"""Names for files and components, made from names that users choose.

A node may be called anything ("circles, Nearest Neighbors-model"); a slug is what a file system,
doit and Kubeflow accept: lower-case letters, digits and "-", at most 50 characters.
"""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DIGEST = re.compile(r"_[0-9a-f]{12}")
_MAX_LENGTH = 50


def make_slug(name: str) -> str:
    """Return the slug of a name; different names have different slugs.

    name              slug
    node1             node1
    load_data_0000    load-data-0000
    Load data         load-data-0f3c51d0a2b4
    ../up             up-52b0e1a8f6c3

    A plain name (lower-case words joined by single underscores) only swaps "_" for "-", which can
    be undone. Any other name gets 12 hex digits of its sha256 behind what can be read of it.
    """
    if _PLAIN.fullmatch(name) and len(name) <= _MAX_LENGTH and not _ends_with_digest(name):
        return name.replace("_", "-")
    # surrogatepass: any str is legal, also one that utf-8 alone would refuse
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: _MAX_LENGTH - 14].strip("-")
    if not readable[:1].isalpha():
        readable = f"n-{readable}".strip("-")
    return f"{readable}-{digest}"


def _ends_with_digest(name: str) -> bool:
    # else the plain name "x_0123456789ab" could have the slug of a name that got that digest
    return _DIGEST.fullmatch(name[-13:]) is not None
