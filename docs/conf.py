"""Configure Sphinx, which `doit docs` runs to build the documentation."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pictures
import reference

project = "fftasks"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["changes", "examples"]
smartquotes = False  # quotes in options, settings and messages stay as they are typed
html_theme = "furo"
html_title = "fftasks"
html_copy_source = False
myst_heading_anchors = 3
add_module_names = False
autodoc_member_order = "bysource"
napoleon_use_ivar = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
pictures.write(Path(__file__).parent / "pictures")


def setup(app):
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", format_docstring, priority=400)  # napoleon has 500


def fill(_app, docname, source):
    """Replace {{ settings }}, {{ commands }}, ... in the reference pages by the generated text."""
    for name, make in reference.PARTS.items():
        mark = "{{ " + name + " }}"
        if mark in source[0] and docname.startswith("reference/"):
            source[0] = source[0].replace(mark, make())


def format_docstring(_app, _what, _name, documented, _options, lines):
    """Turn a docstring, which is plain text with `code`, into reStructuredText for napoleon."""
    if lines and lines[0].startswith("Alias for field number"):  # Python's own, for named tuples
        lines.clear()
    text = "\n".join(_mark_arguments(documented, lines))
    text = re.sub(r"(?<!`)`([^`]+)`(?![`_])", r"``\1``", text)
    pieces = re.split(r"(``.+?``)", text, flags=re.DOTALL)
    # `*args:` in a section "Args:" is left to napoleon
    pieces[::2] = [
        re.sub(r"(?<![*\\])\*(?!\*?\w+( \(.*\))?:)", r"\\*", piece) for piece in pieces[::2]
    ]
    lines[:] = "".join(pieces).split("\n")


def _mark_arguments(documented, lines):
    """Yield the lines of a docstring; add the missing title to a paragraph about arguments."""
    title = ""
    for before, line in zip(["", *lines], lines, strict=False):
        name = re.match(r"([a-z]\w*)(, \w+)*: ", line)
        if not before and name:
            title = reference.find_title(documented, name[1])
            yield from [title] if title else []
        title = title if line else ""
        yield f"    {line}" if title else line
