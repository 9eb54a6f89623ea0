"""The page as one file: markup, style, script and data, with nothing to fetch.

The policy in it names the digest of the one script, so that no markup that came from somewhere else could
run, even if it got in; data are text to the page's script. Documents of results are shown in frames, which
inherit the policy: their styles and pictures are seen, their scripts do not run, and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("table.js", "timeline.js", "page.js")


def format_page(content: Mapping[str, Any]) -> str:
    """Return the HTML of a page with this content; see content.py."""
    style = _read("page.css")
    script = "\n".join(_read(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(str(content["title"])),
        "style": style,
        "data": format_data(content),
        "script": script,
    }
    markup = _read("page.html")
    for name in (
        "policy",
        "title",
        "style",
        "script",
        "data",
    ):  # the data last: it may hold anything
        before, _, after = markup.partition("{" + name + "}")
        markup = f"{before}{parts[name]}{after}"
    return markup


def format_data(content: Mapping[str, Any]) -> str:
    """Return content as JSON that no parser of HTML takes for markup."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return (_ASSETS / name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
