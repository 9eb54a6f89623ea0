"""Generate the pictures of the explanation pages with the drawing code of `doit graph`."""

from fftasks.report.diagram import DiagramNode, format_dot, make_diagram, render_dot


def write(folder):
    """Write all pictures into a folder."""
    folder.mkdir(exist_ok=True)
    for name, items in PICTURES.items():
        content = render_dot(format_dot(make_diagram(items)), "svg")
        if (
            not (folder / f"{name}.svg").exists()
            or (folder / f"{name}.svg").read_bytes() != content
        ):
            (folder / f"{name}.svg").write_bytes(content)


def _items(workflow, *rows):
    return [
        DiagramNode(name, function, tuple(needs), workflow, state)
        for name, function, state, *needs in rows
    ]


PICTURES = {
    "stages": _items(
        "stages",
        ("context", "files", "ran"),
        ("image", "base, requirements, code", "ran", "context"),
        ("push", "registry", "ran", "image"),
        ("tasks", "graph", "up to date"),
        ("pins", "image of each node", "ran", "push", "tasks"),
        ("pipeline", "YAML", "ran", "pins", "tasks"),
        ("submit", "run", "ran", "pipeline"),
    ),
    "cutoff": _items(
        "cutoff",
        ("read", "read", "up to date"),
        ("clean", "clean", "ran", "read"),
        ("train", "train", "up to date", "clean"),
        ("report", "report", "up to date", "train"),
    ),
    "descendants": _items(
        "descendants",
        ("read", "read", "cached"),
        ("clean", "clean", "ran", "read"),
        ("train", "train", "ran", "clean"),
        ("plot", "plot", "cached", "read"),
        ("report", "report", "ran", "train", "plot"),
    ),
}
