"""Sphinx configuration of the documentation; `doit docs` builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pictures
import reference

project = "fftasks"
extensions = ["myst_parser"]
exclude_patterns = ["changes", "examples"]
html_theme = "furo"
html_title = "fftasks"
html_copy_source = False
myst_heading_anchors = 3
pictures.write(Path(__file__).parent / "pictures")


def setup(app):
    app.connect("source-read", fill)


def fill(_app, docname, source):
    """Replace {{ settings }}, {{ commands }} and {{ python }} in reference pages by generated text."""
    for name, make in reference.PARTS.items():
        mark = "{{ " + name + " }}"
        if mark in source[0] and docname.startswith("reference/"):
            source[0] = source[0].replace(mark, make())
