"""What a page without values says of reasons, errors and names."""

import time

import pytest

from fftasks.report.diagram import DiagramNode
from fftasks.report.page_content import PageRun, PageTask, redact_page

RUN = PageRun("r", "ran", 0.0, 1.0, command="doit run:a name submit:w other", where="here")


def show(*tasks, items=(), written=()):
    return redact_page(RUN, tasks, items, [], written)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("never ran", "never ran"),
        ("constant rate: 17 -> 18", "constant rate changed"),
        ("constant rate: a changed -> b; try 2", "constant rate changed; try 2"),
        ("constant secret_key: 1 -> 2", "a constant changed"),
        ("constant more changed", "a constant changed"),
        ("parameter alpha: 'x' -> 'y'", "a run parameter changed"),
        ("env MODE changed", "a variable of its environment changed"),
        ("data file patients/smith.csv changed", "a data file changed"),
        ("data/smith.csv changed", "its inputs changed"),
        ("version: 'x' -> 'y'", "its version changed"),
        ("wf.py: function clean() changed", "wf.py: function clean() changed"),
        ("wf.py: names clean, other_1, ... changed", "wf.py: names clean, other_1, ... changed"),
        ("wf.py: constant RATE is new; try 3", "wf.py: constant RATE is new; try 3"),
        ("wf.py: class Model is not used any more", "wf.py: class Model is not used any more"),
        ("wf.py: statements changed", "wf.py: statements changed"),
        ("wf.py: names smith jones changed", "its code changed"),
        ("wf.py: smith() changed", "its code changed"),
        ("lib/a.py: Model.fit() is used now", "lib/a.py: Model.fit() is used now"),
        ("wf.py: 'smith' changed", "its code changed"),
        ("result of before changed", "result of step #2 changed"),
        ("result of never heard of changed", "a result that it needs changed"),
        ("setting kfp.run_name: x -> y", "a setting changed"),
        ("description of fetch: smith -> jones", "its inputs changed"),
        ("smith is new", "its inputs changed"),
        ("Unschedulable: smith has no room", "not shown"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_reason_says_what_changed_and_no_value(reason, shown):
    before = PageTask("before", "ran", function="step")
    task = PageTask(
        "t",
        "ran",
        reason=reason,
        upstream=("before",),
        arguments={"rate": "17", "secret_key": "1"},
        extra=("secret_key",),
    )

    plain = show(task, before, written=("t", "step", "Model.fit"))

    expected = (
        "its inputs changed" if shown == "not shown" and reason.endswith("changed") else shown
    )
    assert plain.tasks[0].reason == expected


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("run: a name raised ValueError\n  Traceback smith", "raised ValueError"),
        ("run: a name raised ValueError, at the last of 3 tries\n  smith", "raised ValueError"),
        ("ValueError: smith", "raised ValueError"),
        ("my.own.BadRowError: smith", "raised BadRowError"),
        ("run: a name raised BadRowError\n  smith", "raised BadRowError"),
        ("run: a name raised SmithError\n  jones", "raised an exception"),
        ("run: a name raised SmithError, at the last of 3 tries\n", "raised an exception"),
        ("smith.SmithError: jones", "failed"),
        ("ValueErrorSmith: jones", "failed"),
        ("a smith ValueError: jones", "failed"),
        ("run: a name ended its process with exit code 1: x raised smith", "failed"),
        ("run: a name ended its process with exit code 1: smith", "failed"),
        ("smith: no such patient", "failed"),
        ("its command ended with exit status 3\nsmith", "its command ended with exit status 3"),
        ("its command ended with exit status 3 smith", "failed"),
        ("", ""),
    ],
)
def test_of_an_error_only_the_type_is_shown(error, shown):
    plain = show(PageTask("a name", "failed", error=error), written=("BadRowError", "a smith"))

    assert plain.tasks[0].error == shown


def test_computed_names_are_replaced_everywhere_and_stay_different():
    names = ("smith", "jones", "written")
    needs = {"smith": (), "jones": ("smith",), "written": ("smith", "jones")}
    tasks = [
        PageTask(name, "ran", function="f", workflow="w smith", upstream=needs[name])
        for name in names
    ]
    tasks += [PageTask("tasks:w smith", "ran", stage="tasks", workflow="w smith")]
    items = [
        DiagramNode(name, "f", needs[name], "w smith", "ran", chain="smith", group="smith, jones")
        for name in names
    ]

    plain = show(*tasks, items=items, written=("written", "f", "f #1"))

    assert "smith" not in repr(plain)
    assert "jones" not in repr(plain)
    shown = [task.name for task in plain.tasks]
    assert len(set(shown)) == 4
    assert shown[2] == "written"
    assert "f #1" not in shown
    assert list(plain.tasks[2].upstream) == shown[:2]
    assert [item.name for item in plain.items] == shown[:3]
    assert shown[3] == f"tasks:{plain.tasks[0].workflow}"


def test_the_command_keeps_the_words_of_doit():
    assert show().run.command == "doit run submit"


def test_a_function_whose_name_was_computed_has_a_number():
    tasks = [PageTask(name, "ran", function=name) for name in ("smith", "jones", "clean")]
    tasks += [PageTask("tasks", "ran", function="stage tasks", stage="tasks")]
    items = [DiagramNode(name, name, (), "w", "ran") for name in ("smith", "jones", "clean")]

    plain = show(*tasks, items=items, written=("clean", "w"))

    assert "smith" not in repr(plain)
    assert "jones" not in repr(plain)
    shown = [task.function for task in plain.tasks]
    assert len(set(shown)) == 4
    assert shown[2:] == ["clean", "stage tasks"]
    assert [item.function for item in plain.items] == shown[:3]


LONG = {
    "words": "the_largest_number_of_words" * 4000,
    "dots": "a." * 50_000,
    "names": "a, " * 30_000,
    "colons": ": " * 50_000,
    "arrows": " -> " * 30_000,
    "tries": "; try 1" * 20_000,
    "lines": "\n" * 100_000,
    "digits": "1" * 100_000,
    "spaces": " " * 100_000,
}


@pytest.mark.parametrize("end", ["", " changed", "!", ": x", "; try "])
@pytest.mark.parametrize(
    "begin",
    [
        "",
        "wf.py: names ",
        "wf.py: ",
        "constant ",
        "run: t raised ",
        "its command ended with exit status ",
    ],
)
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_texts_take_no_long_time(text, begin, end):
    long = f"{begin}{text}{end}"
    begin_s = time.monotonic()

    show(PageTask("t", "failed", reason=long, error=long, function=long, arguments={long: long}))

    assert time.monotonic() - begin_s < 1
