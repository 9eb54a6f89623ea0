"""The reference pages name every command, option, setting, public name, exception and variable."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
from doit.cmd_base import DodoTaskLoader
from doit.doit_cmd import DoitMain

import fftasks
import fftasks.tasks
from fftasks.errors import FFTasksError

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(fftasks.__file__).parent


class Page:
    """A page of the documentation as the XML tree that Sphinx makes of it."""

    def __init__(self, path: Path) -> None:
        self.root = ElementTree.parse(path).getroot()
        self.text = "".join(self.root.itertext())
        self.ids = {i for element in self.root.iter() for i in element.get("ids", "").split()}

    def find_section(self, name: str) -> ElementTree.Element:
        found = [each for each in self.root.iter("section") if name in each.get("ids", "").split()]
        assert found, f"no section {name}"
        return found[0]

    def list_code(self, name: str) -> set[str]:
        """Return what is marked as code in a section, and in those of its page that it refers to."""
        names, code = [name], set()
        for each in names:
            section = self.find_section(each)
            code |= {"".join(literal.itertext()) for literal in section.iter("literal")}
            refs = {ref.get("refid") for ref in section.iter("reference")} - {None, *names}
            names += [ref for ref in refs if any(ref == i for i in self.ids)]
        return code

    def find_row(self, code: str) -> str:
        """Return the text of the table row whose first cell has a piece of code."""
        for row in self.root.iter("row"):
            literals = row.find("entry").iter("literal")
            if code in ["".join(literal.itertext()) for literal in literals]:
                return " | ".join("".join(entry.itertext()) for entry in row)
        raise AssertionError(f"no row for {code}")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    sphinx = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-b",
        "xml",
        "-D",
        "xml_pretty=0",
        "-d",
        str(folder / "trees"),
    ]
    done = subprocess.run(
        [*sphinx, "-d", folder / "trees", DOCS, folder / "xml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {path.stem: Page(path) for path in (folder / "xml/reference").glob("*.xml")}


def list_commands():
    main = DoitMain(DodoTaskLoader())
    commands = main.get_cmds()
    return [
        commands.get_plugin(name)(task_loader=main.task_loader, cmds=commands, config={})
        for name in commands
    ]


def list_forms(option):
    short, argument = option.short, "" if option.type is bool else option.metavar
    return [
        *([f"-{short} {argument}".strip()] if short else []),
        *([f"--{option.long}{argument and '='}{argument}"] if option.long else []),
        *([f"--{option.inverse}"] if option.inverse else []),
    ] or [option.name]


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: command.name)
def test_every_option_of_a_doit_command_is_in_its_section(pages, command):
    code = pages["commands"].list_code(command.name)
    code |= pages["commands"].list_code("options-of-all-doit-commands")

    for option in command.cmdparser.options:
        assert not set(list_forms(option)) - code
        assert not set(option.choices) - code


@pytest.mark.parametrize("command", list_commands(), ids=lambda command: command.name)
def test_the_section_of_a_command_has_its_usage(pages, command):
    section = pages["commands"].find_section(command.name)

    usage = "".join(section.find("literal_block").itertext())

    assert usage.strip() == f"doit {command.name} [OPTIONS] {command.doc_usage or ''}".strip()


def test_the_default_of_an_option_is_that_of_a_project(pages):
    assert ".fftasks/doit.sqlite3" in pages["commands"].find_row("--db-file=ARG")
    assert "| integer | 8765 |" in pages["commands"].find_row("--port=ARG")
    assert str(os.cpu_count()) not in pages["commands"].find_row("-n ARG").partition("CPUs")[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A new project whose nodes have run, and of which everything was shown that needs no cluster."""
    folder = tmp_path_factory.mktemp("project")
    run("fftasks init .", folder)
    for command in ("run", "run --groups", "plan", "graph", "report", "context tasks"):
        run(f"doit {command}", folder)
    return folder


def run(command: str, folder: Path) -> str:
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command.split(), cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_every_task_is_there_with_its_sentence_and_its_options(pages, project):
    for line in run("doit list", project).splitlines():
        name, _, sentence = line.partition(" ")
        row = pages["commands"].find_row(f"doit {name}")
        assert row.endswith(sentence.strip())
    creators = {
        n: getattr(fftasks.tasks, n) for n in fftasks.tasks.__all__ if n.startswith("task_")
    }
    for name, create in creators.items():
        for option in getattr(create, "_task_creator_params", ()):
            section = f"options-of-the-task-{name.removeprefix('task_')}"
            assert f"--{option['long']}" in pages["commands"].list_code(section)


def test_every_argument_of_the_console_script_is_there(pages, capsys):
    (entry,) = entry_points(group="console_scripts", name="fftasks")
    main, code = entry.load(), pages["commands"].list_code("the-command-fftasks")

    def ask(*words: str) -> set[str]:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        return set(
            re.findall(r"(?<!\S)--?[a-z]+|(?<=^    )[a-z]+", capsys.readouterr().out, re.MULTILINE)
        )

    shown = {word.split()[0] for word in code}
    top = ask()
    commands = {word for word in top if word in ("init", "gc")}
    assert {word for word in top if word.startswith("-")} <= shown
    assert len(commands) == 2
    for command in commands:
        assert "".join(pages["commands"].find_section(f"fftasks-{command}").itertext())
        assert {word for word in ask(command) if word.startswith("-")} <= shown


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "4", "130, 143"])
def test_every_exit_code_is_explained(pages, code):
    section = pages["commands"].find_section("exit-codes")

    firsts = ["".join(row.find("entry").itertext()) for row in section.iter("row")]

    assert code in firsts


@pytest.mark.parametrize("name", fftasks.__all__)
def test_every_public_name_is_there_with_its_methods(pages, name):
    value = getattr(fftasks, name)
    members = vars(value) if isinstance(value, type) else {}
    documented = [
        member
        for member, found in members.items()
        if not member.startswith("_") and (inspect.isfunction(found) or isinstance(found, property))
    ]

    assert {f"fftasks.{name}", *(f"fftasks.{name}.{member}" for member in documented)} <= pages[
        "python"
    ].ids


@pytest.mark.parametrize(
    "member",
    [
        "Query.set",
        "Query.set_plugin",
        "Node.set_name",
        "FileStorage.read_task",
        "RunHandle",
        "Instance.set_name",
    ],
)
def test_classes_of_objects_that_public_functions_return_are_there(pages, member):
    assert any(each.endswith(f".{member}") for each in pages["python"].ids)


def list_exceptions():
    for module in pkgutil.walk_packages(fftasks.__path__, "fftasks."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [FFTasksError]
    for kind in found:
        found += [each for each in kind.__subclasses__() if each not in found]
    return [kind for kind in found if kind.__module__.startswith("fftasks.")]


@pytest.mark.parametrize("kind", list_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_is_there_with_its_exit_code(pages, kind):
    page = pages["exceptions"]

    if kind.__module__ == "fftasks.errors":
        section = page.find_section(kind.__name__.lower())
        assert f"Exit code of commands: {kind.exit_code}" in "".join(section.itertext())
        assert f"fftasks.errors.{kind.__name__}" in page.ids
    else:
        assert f"| {kind.exit_code} |" in page.find_row(kind.__name__)
    tree = "".join(next(page.root.iter("literal_block")).itertext())
    assert kind.__name__ in tree.split()


def list_settings(text: str) -> list[tuple[str, str, str]]:
    """Return section, name and default of each setting in a default.yaml of `fftasks init`."""
    found, section = [], ""
    for line in text.splitlines():
        section = (re.findall(r"^(\w+):", line) or [section])[0]
        setting = re.match(r"  #(?:  )? (?P<name>\w+): (?P<default>.+?)  # ", line)
        if setting:
            found.append((section, setting["name"], setting["default"]))
    return found


def test_every_setting_is_there_with_its_default_and_its_variable(pages, project):
    settings = list_settings((project / "config/default.yaml").read_text())

    assert len(settings) > 70
    assert "FFTASKS_WORKFLOWS" in pages["settings"].find_row("workflows")
    for section, name, default in settings:
        is_node = section == "nodes"
        row = pages["settings"].find_row(name if is_node else f"{section}.{name}")
        assert f"| {default.strip(chr(34)) or 'empty'} |" in row
        assert (f"FFTASKS_{section.upper()}__{name.upper()} |" in row) is not is_node
        if name.endswith("_s"):
            assert "in seconds |" in row


def test_every_environment_variable_that_the_package_reads_is_there(pages):
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    own = set(re.findall(r"\bFF[A-Z]+(?:_[A-Z]+)?\b", sources))
    read = set(re.findall(r"os\.environ(?:\.get\(|\[)\"([A-Z_]+)\"", sources))
    asked = set(re.findall(r"\"([A-Z_]+)\" (?:not )?in os\.environ", sources))

    code = {"".join(each.itertext()) for each in pages["environment"].root.iter("literal")}
    # FFTASKS_KFP and the like are beginnings of the variables of settings
    mentioned = {
        name for name in own if not any(f"{name}__" in line for line in sources.splitlines())
    }

    assert {"FFFUNCTION", "FFTASKS_PROFILE"} <= mentioned
    assert (mentioned | read | asked) - code == {"PATH"}


def test_every_entry_of_the_state_folder_is_there(pages, project):
    rows = pages["files"].root.iter("row")
    patterns = [
        "".join(code.itertext()).rstrip("/")
        for row in rows
        for code in row.find("entry").iter("literal")
    ]
    entries = sorted(path.name for path in (project / ".fftasks").iterdir())

    unknown = [
        name for name in entries if not any(fnmatch.fnmatch(name, each) for each in patterns)
    ]

    assert len(entries) > 10
    assert unknown == []


def test_no_placeholder_is_left_in_a_page(pages):
    for name, page in pages.items():
        assert "%(" not in page.text, name
        assert "{{ " not in page.text, name
