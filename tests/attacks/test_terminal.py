"""Control characters in names, errors, logs and answers: a terminal shows them, and obeys none of them."""

import json
import re

import pytest

from fftasks.errors import FFTasksError, escape_controls
from fftasks.terminal import escape_all_but_colours
from tests.attacks.forks import Commands
from tests.sample import Sample
from tests.services.kfp_script import Script
from tests.services.kfp_server import KFPServer
from tests.submitted_project import make_project, submit_project

EVIL = "\x1b]0;pwned\x07 \x1b[2J \x9b31m \x08 \x7f \u202edrawkcab\u202c \u2066x\u2069"
# what fftasks and rich write themselves: colours, and the movements of a progress bar
OURS = re.compile(r"\x1b\[\d{0,2}(?:;\d{1,3})*m|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r(?=\x1b|\n)")
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def commands():
    with Commands() as commands:
        yield commands


def check_text(output):
    assert "pwned" not in output or r"\x1b]0;pwned" in output, output
    found = RAW.search(OURS.sub("", output))
    assert found is None, (ascii(found), output[max(0, found.start() - 80) : found.start() + 20])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("Umlaut ü, 漢字, 👩\u200d👩", "Umlaut ü, 漢字, 👩\u200d👩"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("over\rwritten", r"over\rwritten"),
        ("a\r\nb", "a\nb"),
        ("a\x08b\x7f\x00", r"a\x08b\x7f\x00"),
        ("\u202ea\u2066b\u2028c\u200f", r"\u202ea\u2066b\u2028c\u200f"),
        ("\udc9b", r"\udc9b"),
    ],
)
def test_control_characters_are_spelled_out(text, shown):
    assert escape_controls(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[1;4;91mx\x1b[m", "\x1b[1;4;91mx\x1b[m"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b[8mhidden", r"\x1b[8mhidden"),
        ("\x1b[31;8mhidden", r"\x1b[31;8mhidden"),
        ("\x1b[31\x1b[2Jm", r"\x1b[31\x1b[2Jm"),
        ("\x1b[0m\x9b2J", r"\x1b[0m\x9b2J".replace(r"\x1b[0m", "\x1b[0m")),
    ],
)
def test_only_colours_pass_in_a_log(text, shown):
    assert escape_all_but_colours(text) == shown


def test_an_error_shows_what_came_from_outside():
    check_text(str(FFTasksError(EVIL, found=[EVIL], tip=EVIL)))


LOCAL = """
from fftasks import Workflow, workflow

EVIL = {evil!r}

@workflow
def shout(x):
    print(EVIL)
    return x + EVIL

@workflow
def fail(x):
    print(EVIL)
    raise ValueError(EVIL)

class Odd:
    def __repr__(self):
        return EVIL

@workflow
def odd(x):
    return Odd()

good = shout(EVIL).set_name("good" + EVIL)
Workflow(good, odd(1).set_name("odd"), name="fine")
Workflow(fail(good).set_name("bad" + EVIL), name="poor" + EVIL)
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_no_command_lets_a_local_project_control_the_terminal(tmp_path, commands, terminal):
    evil = "\x1b]0;pwned\x07 \x1b[2J \x9b31m \u202edrawkcab"
    sample = Sample.make(tmp_path, LOCAL.format(evil=evil))
    for words in (
        ("run", "--continue"),
        ("run",),
        ("list", "--all", "--status"),
        ("plan", "-v"),
        ("plan", "submit"),
        ("graph",),
        ("graph", "--output", "-"),
        ("result", "odd"),
        ("result", "good" + evil),
        ("result", "nothing" + evil),
        ("report", "-o", "page.html"),
        ("accept", "good" + evil),
    ):
        done = commands.run(tmp_path, *words, terminal=terminal)
        assert done.code is not None
        if terminal or words[0] not in ("graph", "result"):
            check_text(done.output.replace("\r\n", "\n"))
    sample.edit(
        "wf.py",
        "import Workflow, workflow",
        "import Workflow; raise ValueError(chr(27) + '[2Jbroken')",
    )
    check_text(commands.run(tmp_path, "run", terminal=terminal).output.replace("\r\n", "\n"))


def test_settings_and_file_names_are_shown_as_text(tmp_path, commands):
    sample = Sample.make(tmp_path, "from fftasks import Workflow\n")
    sample.write(
        "config/default.yaml", 'workflows: ["a\\e[2Jb.py"]\nimage: {base: "\\e]0;pwned\\a"}\n'
    )

    for words in (("run",), ("list",), ("plan",), ("doctor",)):
        check_text(commands.run(tmp_path, *words, terminal=True).output.replace("\r\n", "\n"))


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """Give a project whose one run failed on the cluster, and has control characters wherever they fit."""
    log = f"{EVIL}\r\n\x1b[31mred\nValueError: {EVIL}\n"

    def execute(run):
        first, second, _ = run.pipeline.order_tasks()
        steps = [
            (first, "RUNNING"),
            (first, "SUCCEEDED"),
            (second, "RUNNING"),
            (second, "FAILED", EVIL),
        ]
        Script(*steps, logs={second: log})(run)

    with KFPServer(execute) as server:
        name = json.dumps(f"run {EVIL}")
        root = tmp_path_factory.mktemp("project")
        sample = make_project(root, server, kfp=f"  run_name: {name}")
        server.wait(submit_project(sample)[1]["run_id"])
        yield sample


def test_no_command_lets_a_cluster_control_the_terminal(submitted, commands):
    sample, shown = submitted, []
    for words in (
        ("runs",),
        ("status",),
        ("status", "nothing" + EVIL),
        ("logs", "second"),
        ("logs", "second", "--all"),
        ("logs", "secon" + EVIL),
        ("cancel",),
        ("result", "second", "--cluster"),
    ):
        done = commands.run(sample.root, *words, terminal=True)
        assert done.code is not None
        assert "Traceback" not in done.output
        check_text(done.output.replace("\r\n", "\n"))
        shown.append(done.output)
    assert "\x1b[31mred" in shown[3]
    assert all(r"\x1b]0;pwned" in output for output in (shown[0], shown[1], shown[3], shown[4]))


def test_a_log_in_a_pipe_is_what_the_node_printed(submitted, commands):
    output = commands.run(submitted.root, "logs", "second").output

    assert "\x1b]0;pwned\x07 \x1b[2J" in output


def test_json_has_no_raw_control_characters(tmp_path, commands):
    sample = Sample.make(tmp_path, LOCAL.format(evil=EVIL))
    commands.run(sample.root, "run")

    for words in (("plan", "--json"), ("graph", "--json"), ("result", "odd", "--json")):
        output = commands.run(sample.root, *words).output
        assert "pwned" in output
        assert not RAW.search(output)
