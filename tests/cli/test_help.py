"""How a newcomer finds the commands: `doit help`, `doit list` on a terminal, `fftasks`."""

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from fftasks.cli.main import main
from tests.sample import Sample


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def test_help_shows_all_commands_and_ours_before_those_of_doit(chain):
    output = chain.doit("help")

    ours, theirs = output.split("Commands of doit")
    own = {e.name for e in entry_points(group="doit.COMMAND") if e.value.startswith("fftasks.")}
    for name in own - {"help", "list", "dumpdb"}:
        assert f"  doit {name:17} " in ours
    assert "  doit submit " in ours
    assert "  doit forget " in theirs


@pytest.mark.parametrize("command", ["help", "list"])
def test_commands_of_doit_have_help_too(chain, command):
    assert chain.doit(command, "--help") == chain.doit("help", command)


def test_a_database_that_doit_cannot_dump_is_an_error_without_a_traceback(chain):
    chain.doit()

    output = chain.doit("dumpdb", code=3)

    assert output.startswith("ERROR: dumpdb: '.doit.db' is not a database in dbm format")


def test_help_of_one_command_and_of_a_task_is_as_before(chain):
    assert " schedule [CRON" in chain.doit("help", "schedule")
    assert "--watch" in chain.doit("help", "submit")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("plna", "'plna'; did you mean 'plan'?"),
        ("submti", "'submti'; did you mean 'submit'?"),
        ("xyzzy", "'xyzzy'; `doit list --all` and `doit help` show them"),
    ],
)
def test_help_of_what_there_is_not_says_so(chain, word, said):
    assert f"unknown command or task {said}" in chain.doit("help", word, code=3)


@pytest.mark.parametrize(
    ("words", "first"),
    [("help", "Workflows on this machine"), ("help plan", "PURPOSE"), ("plan --help", "PURPOSE")],
)
def test_help_goes_at_once_to_who_reads_only_its_first_line(chain, words, first):
    command = f"{sys.executable} -m doit {words} | head -n 1"
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        command, shell=True, check=True, cwd=chain.root, env=environ, capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == (f"{first}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("graph", "--knd", "svg"), "unknown option --knd; did you mean '--kind'?"),
        (("result", "three", "--xyz"), "options: --cluster, --json, --trust, --help"),
        (("submit", "--agian"), "unknown option --agian; did you mean '--again'?"),
    ],
)
def test_a_wrong_option_gets_the_nearest_one(chain, arguments, said):
    output = chain.doit(*arguments, code=3)

    assert said in output
    assert "CmdOption" not in output


@pytest.mark.parametrize("arguments", [("run", "-n", "two"), ("--process=two",)])
def test_a_wrong_value_of_an_option_says_what_it_must_be(chain, arguments):
    output = chain.doit(*arguments, code=3)

    assert output == "ERROR: invalid value 'two' of --process; it must be an integer\n"


def test_list_names_the_commands_to_people_and_not_to_tools(chain):
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, "-m", "doit", "list"], cwd=chain.root, stdout=theirs):
        os.close(theirs)
        shown = read_all(ours)

    assert "`doit help` lists the commands" in shown
    assert "doit help" not in chain.doit("list")


def read_all(descriptor):
    text = b""
    try:
        while piece := os.read(descriptor, 1 << 12):
            text += piece
    except OSError:  # what Linux says at the end of a terminal
        pass
    finally:
        os.close(descriptor)
    return text.decode()


def test_the_command_alone_says_where_to_read_on(capsys):
    assert main([]) == 2
    assert "`doit help` lists all commands" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", [("upload",), ("schedule", "0 0 6 * * *")])
def test_a_workflow_that_is_none_is_named_before_anything_is_built(chain, command):
    output = chain.doit(*command, "nope", code=1)

    assert "unknown workflow 'nope'" in output
    assert "pipeline:" not in output
