"""Drawings in Mermaid."""

from fftasks.report.diagram import DiagramNode, format_mermaid, make_diagram


def item(name, *upstream, **more):
    return DiagramNode(name, "f", upstream, "w", "ran", **more)


def test_shapes_arrows_and_boxes_in_boxes():
    chain = [item("c", chain="c", group="g"), item("c.add", "c", chain="c", group="g")]

    lines = format_mermaid(make_diagram([*chain, item("x" * 80, "c.add")])).splitlines()

    assert lines[0] == "flowchart LR"
    names = [line.split("[")[0].strip() for line in lines[1:-1]]
    assert names == [
        *("subgraph box_0", "subgraph box_0_0", "n0", "n1", "end", "end", "n2"),
        *("n0 --> n1", "n1 --> n2"),
    ]
    assert "x" * 59 + "…" in lines[7]
    assert lines[-1].startswith("  classDef ran stroke:#")


def test_what_means_something_to_mermaid_or_html_is_an_entity():
    text = format_mermaid(make_diagram([item('"] --> <b>#')]))

    assert "#34;#93; -- #62; #60;b#62;#35;".replace("-- #62;", "--#62;") in text
