"""What stands on a page, and what never does."""

import json

import pytest

from fftasks.report.diagram import DiagramNode
from fftasks.report.local_run_content import parse_preview_metrics
from fftasks.report.page_content import (
    PageRun,
    PageTask,
    Phase,
    Privacy,
    find_critical_path,
    make_page_content,
    measure_critical_path,
)
from fftasks.report.web_page import format_page, format_page_data

RUN = PageRun("r", "ran", 0.0, 9.0, parameters={"n": "7"}, metrics={"a": 1.0})


def task(name, begin=0.0, end=1.0, *upstream, **more):
    return PageTask(name, "ran", begin=begin, end=end, upstream=upstream, **more)


def make(*tasks, **more):
    return make_page_content("t", RUN, tasks, items=(), render=lambda _: "", **more)


def test_the_longest_path_goes_back_over_what_was_waited_for():
    tasks = [
        task("a", 0, 1),
        task("b", 0, 3),
        task("c", 3, 4, "a", "b"),
        task("d", 1, 2, "a"),
        task("e", 4, 9, "c", "d"),
    ]

    assert find_critical_path(tasks) == ["b", "c", "e"]


def test_a_path_begins_where_what_is_needed_was_there_already():
    assert find_critical_path([task("b", 2, 3, "a")]) == ["b"]
    assert find_critical_path([PageTask("a", "up to date")]) == []


def test_the_time_of_the_longest_path_is_parted_by_what_it_was_for():
    tasks = [
        task("image", 0, 5, stage="image"),
        task("a", 7, 12, "image", phases=(Phase("driver", 7, 8), Phase("queue", 8, 10))),
        task("b", 11, 14, "a", phases=(Phase("queue", 11, 13),)),
    ]

    spent = measure_critical_path(tasks, ["image", "a", "b"])

    assert spent == {"image": 5, "between": 2, "driver": 1, "queue": 3, "run": 3}
    assert sum(spent.values()) == 14


def test_between_its_phases_a_task_is_at_work():
    phases = (Phase("driver", 0, 1), Phase("queue", 3, 5))

    assert measure_critical_path([task("a", 0, 8, phases=phases)], ["a"]) == {
        "driver": 1,
        "run": 5,
        "queue": 2,
    }


def test_a_circle_of_times_ends():
    assert find_critical_path([task("a", 0, 1, "b"), task("b", 0, 0, "a")])


@pytest.mark.parametrize(
    "where", ["reason", "preview", "error", "log", "line", "function", "link", "place", "name"]
)
def test_a_secret_is_in_no_text(where):
    secret = "hunter2secret"
    values = {"name": "n", where: f"x {secret} ghp_{'a1B2c3D4e5F6' * 3}"}

    content = make(PageTask(state="ran", **values), privacy=Privacy((secret,)))

    assert "hunter2secret" not in json.dumps(content)
    assert "a1B2c3D4e5F6" not in json.dumps(content)
    assert "x ••• •••" in json.dumps(content, ensure_ascii=False)


def test_values_are_left_out_where_they_are_not_wanted():
    full = task(
        "a", reason="constant rate: 17 -> 18", preview="17", error="raised ValueError\n17", log="17",
        arguments={"rate": "17"}, metrics={"": 17}, pictures=("data:image/png;base64,17",),
    )  # fmt: skip

    (shown,) = make(full, privacy=Privacy(previews=False))["tasks"]

    assert "17" not in json.dumps({**shown, "begin": 0, "end": 0})
    assert shown["reason"] == "constant rate changed"
    assert shown["error"] == "raised ValueError"
    assert make(full, privacy=Privacy(previews=False))["run"]["parameters"] == {}


def test_long_texts_are_cut_at_the_end_that_says_less():
    (shown,) = make(task("a", log="b" + "x" * 70_000 + "e", error="b" + "x" * 70_000))["tasks"]

    assert shown["log"].endswith("xe")
    assert shown["error"].startswith("bx")
    assert "characters more" in shown["log"]
    assert len(shown["log"]) < 61_000


def test_nothing_in_the_data_can_end_the_script():
    page = format_page(
        make(task("</script><script>alert(1)</script><!--", reason="{script}{title}"))
    )

    assert page.count("</script>") == 2
    assert "<!--" not in page
    assert page.count("{script}{title}") == 1


def test_the_page_fetches_nothing():
    page = format_page(make(task("a")))

    assert "src=" not in page.partition("<script>")[0]
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert "<link" not in page


def test_data_are_json_again():
    content = make(task("a", phases=(Phase("queue", 0.0, 0.5),), preview="<&>\u2028"))

    assert json.loads(format_page_data(content)) == json.loads(json.dumps(content))


def test_the_picture_is_drawn_of_the_items_and_folds_families():
    items = [DiagramNode(f"n{i}", "f", (), "w", "ran") for i in range(100)]
    content = make_page_content(
        "t", RUN, (), items=items, render=lambda dot: f"<svg>{len(dot) > 10}</svg>"
    )

    assert content["graph"]["svg"] == "<svg>True</svg>"
    assert content["graph"]["note"].startswith("100 nodes, drawn as 1:")
    assert len(content["graph"]["shapes"]["n0"]) == 100


def test_a_picture_that_cannot_be_drawn_is_said_on_the_page():
    items = [DiagramNode("a", "f", (), "w", "ran")]

    graph = make_page_content("t", RUN, (), items=items, render=lambda _: "")["graph"]

    assert "`doit graph` shows the reason" in graph["note"]


@pytest.mark.parametrize(
    ("preview", "metrics"),
    [
        ("0.5", {"": 0.5}),
        ("{'mean': 2, 'max': 3.5}", {"mean": 2, "max": 3.5}),
        ("Metrics({'accuracy': 0.85})", {"accuracy": 0.85}),
        ("True", {}),
        ("{'a': 'text'}", {}),
        ("{}", {}),
        ("[1, 2]", {}),
        ("<object>", {}),
        ("{'a': 1, ...}", {}),
    ],
)
def test_numbers_are_metrics(preview, metrics):
    assert parse_preview_metrics(preview) == metrics
