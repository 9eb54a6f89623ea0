"""What is drawn of a graph, and the languages it is written in."""

import pytest

from fftasks.report.diagram import DiagramNode, format_dot, format_mermaid, make_diagram, render_dot
from fftasks.task_states import STATES

HOSTILE = '<script>alert(1)</script> "\\N" &amp; \u202e\n}'


def item(name, *upstream, function="f", state="ran", workflow="w", **more):
    return DiagramNode(name, function, upstream, workflow, state, **more)


def fan(count, state="ran"):
    squares = [item(f"s{i}", "values", function="square", state=state) for i in range(count)]
    names = [square.name for square in squares]
    return [item("values", function="load"), *squares, item("sum", *names, function="total")]


def titles(drawing):
    return [shape.title for shape in drawing.shapes.values()]


def test_ten_nodes_are_drawn_by_their_names():
    drawing = make_diagram(fan(8))

    assert titles(drawing) == ["values", *(f"s{i}" for i in range(8)), "sum"]
    assert len(drawing.arrows) == 16


def test_a_thousand_nodes_of_one_function_are_one_shape_with_a_count():
    items = fan(1000)
    items[7] = item("s6", "values", function="square", state="failed")

    drawing = make_diagram(items)

    family = drawing.shapes["n1"]
    assert titles(drawing) == ["values", "square() \N{MULTIPLICATION SIGN} 1,000", "sum"]
    assert (family.state, family.note) == ("failed", "1 failed, 999 ran")
    assert drawing.arrows == (("n0", "n1"), ("n1", "n2"))


def test_only_as_many_families_are_folded_as_it_takes():
    pair = [item("a", "sum"), item("b", "sum")]

    assert titles(make_diagram([*fan(100), *pair]))[-2:] == ["a", "b"]
    assert len(make_diagram([*fan(100), *pair], limit=200).shapes) == 104


def test_nodes_of_one_function_that_need_different_things_are_two_families():
    first = [item(f"a{i}") for i in range(30)]
    second = [item(f"b{i}", f"c{i}") for i in range(30)]
    between = [item(f"c{i}", f"a{i}", function="g") for i in range(30)]

    shapes = make_diagram([*first, *between, *second], limit=3).shapes.values()

    assert [len(shape.names) for shape in shapes] == [30, 30, 30]


def test_calls_of_an_object_and_tasks_of_several_nodes_are_boxes():
    chain = [item("c", chain="c"), item("c.add", "c", chain="c")]
    group = [item("g1", group="g"), item("g2", "g1", group="g")]

    box = make_diagram([item("x"), *chain, *group]).box

    assert [(one.kind, one.title, one.shapes) for one in box.boxes] == [
        ("chain", "c", ("n1", "n2")),
        ("group", "g", ("n3", "n4")),
    ]
    assert box.shapes == ("n0",)


def test_a_chain_within_a_task_is_a_box_in_its_box():
    chain = [item("c", chain="c", group="g"), item("c.add", "c", chain="c", group="g")]

    (group,) = make_diagram([*chain, item("x", "c.add", group="g")]).box.boxes

    assert (group.shapes, [one.shapes for one in group.boxes]) == (("n2",), [("n0", "n1")])


def test_several_workflows_have_a_box_each():
    box = make_diagram([item("a"), item("b", workflow="other")]).box

    assert [(one.kind, one.title, one.shapes) for one in box.boxes] == [
        ("workflow", "w", ("n0",)),
        ("workflow", "other", ("n1",)),
    ]


@pytest.mark.parametrize("word", STATES)
def test_a_state_is_shown_by_its_sign_its_word_and_its_colour(word):
    text = format_dot(make_diagram([item("a", state=word)]))

    assert all(part in text for part in (STATES[word].sign, word, STATES[word].colour))


def test_hostile_names_are_text_in_every_language():
    drawing = make_diagram([item(HOSTILE), item("b", HOSTILE)])

    svg = render_dot(format_dot(drawing), "svg").decode()

    assert "&lt;script&gt;alert(1)&lt;/script&gt; &quot;\\N&quot; &amp;amp;" in svg
    assert "<script>" not in format_mermaid(drawing)
    assert format_mermaid(drawing).count("\n") == 5


def test_equal_graphs_give_equal_pictures():
    first, second = (render_dot(format_dot(make_diagram(fan(5))), "svg") for _ in range(2))

    assert first == second
    assert b"Graphviz" not in first


def test_png_is_an_image():
    assert render_dot(format_dot(make_diagram(fan(2))), "png").startswith(b"\x89PNG")
