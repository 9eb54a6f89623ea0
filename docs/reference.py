"""Generate the contents of the reference pages from the commands, the settings, the names and the errors."""

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points
from unittest import mock

from doit.cmd_base import DodoTaskLoader
from doit.cmdparse import CmdOption
from doit.doit_cmd import DoitMain

import fftasks
from fftasks import tasks
from fftasks.errors import FFTasksError
from fftasks.project import NodeSettings, Settings

# ------------------------------------------------------------------------------------------------- settings

# (pattern for the name of a setting, unit of its value)
_UNITS = (
    (r".*_s", "seconds"),
    (r"cpu|cpu_limit", "CPU cores, with `m` in thousandths"),
    (r"memory|memory_limit|shared_memory", "bytes, with a suffix such as `M` or `Gi`"),
    (r"max_size", "bytes, with a suffix such as `MB` or `GB`"),
)
# setting of the project -> setting of a node that narrows it down
_PER_NODE = {"kfp.caching": "cache", "kfp.fuse": "fuse"}


def make_settings():
    """Return tables of all settings."""
    parts = [leaf for leaf in fields(Settings) if not _is_setting(leaf)]
    lines = ["## General", "", *_make_settings_table("", fields(Settings))]
    for part in parts:
        if is_dataclass(part.default_factory):
            lines += ["", f"## {part.name}", "", _get_summary(part.default_factory), ""]
            lines += _make_settings_table(f"{part.name}.", fields(part.default_factory))
    lines += [
        "",
        "## nodes",
        "",
        _NODES,
        "",
        *_make_settings_table("", fields(NodeSettings), is_node=True),
    ]
    return "\n".join(lines)


_NODES = (
    "Settings of single nodes. They are set in `config/` below `nodes:`, under `__default__` or under a"
    " regular expression for whole names of nodes, or in the code with"
    ' `workflow.query("train.*").set(cpu=2)`. If several patterns match a node, the last one wins; mappings'
    " are merged by key. Settings in the code win over those in `config/`. Environment variables cannot set"
    " them."
)


def _is_setting(leaf):
    return bool(leaf.metadata)


def _make_settings_table(prefix, leaves, *, is_node=False):
    title = "setting" if is_node else "setting, environment variable"
    yield from (f"| {title} | type | default | description |", "|---|---|---|---|")
    for leaf in filter(_is_setting, leaves):
        (rule,) = leaf.metadata.values()
        key = f"{prefix}{leaf.name}"
        unit = next((f"; in {unit}" for name, unit in _UNITS if re.fullmatch(name, leaf.name)), "")
        names = [key] if is_node else [key, f"FFTASKS_{key.upper().replace('.', '__')}"]
        notes = [_escape(rule.says)]
        notes += (
            [f"For single nodes: {_code(f'nodes: {_PER_NODE[key]}')}"] if key in _PER_NODE else []
        )
        notes += ["Secret: not shown in messages and records"] if rule.secret else []
        yield _make_row(
            " ".join(map(_code, names)),
            f"{_escape(rule.allowed)}{unit}",
            _format_default(rule.default),
            ". ".join(notes),
        )


# ------------------------------------------------------------------------------------------------- commands

# command of doit -> what a user of fftasks has to know about it
_NOTES = {
    "clean": "The tasks of fftasks have no clean action, so that this command does nothing for them. Use"
    " `fftasks gc` to remove results.",
    "dumpdb": "This command reads only databases of doit's `dbm` backend. It fails for that of fftasks.",
    "forget": "The database only saves file checks. Forgotten tasks stay up to date if their records say so.",
    "ignore": "Nodes that depend on an ignored node are skipped as well, until `doit forget TASK` ends it.",
    "reset-dep": "The tasks of fftasks do not depend on the state that this command resets.",
    "run": "With `--always-execute`, fftasks checks all records again. Nodes and stages whose records are up"
    " to date are still not executed.",
    "strace": "This command traces shell commands. It does not work for nodes and stages, which are Python"
    " functions.",
}
_EVERY_COMMAND = (
    "The following options belong to every `doit` command except `dumpdb`, which has only `--db-file`. The"
    " defaults are those of a `dodo.py` with `from fftasks.tasks import *`. An option without a short or long"
    " form can only be set in `DOIT_CONFIG` in `dodo.py` or in `pyproject.toml`, as described in the"
    " [documentation of doit](https://pydoit.org/configuration.html)."
)
_SEE_COMMON = (
    "The [options of all doit commands](#options-of-all-doit-commands) are valid as well.",
    "",
)
_COMMON = (
    "## Options of all doit commands",
    "",
    _EVERY_COMMAND,
    "",
)


def make_commands():
    """Return the tasks, the commands of doit and of fftasks, and their options."""
    main = DoitMain(DodoTaskLoader())
    commands = main.get_cmds()
    made = {
        name: commands.get_plugin(name)(task_loader=main.task_loader, cmds=commands, config={})
        for name in sorted(commands)
    }
    common = _find_common(made["info"])
    lines = ["## Tasks", "", *_make_tasks()]
    lines += ["## Commands of fftasks", "", *_SEE_COMMON]
    own = {entry.name for entry in entry_points(group="doit.COMMAND") if _is_ours(entry.value)}
    for name, command in made.items():
        if name in own:
            lines += _describe_command(command, common)
    lines += ["## Commands of doit", "", *_SEE_COMMON]
    for name, command in made.items():
        if name not in own:
            lines += _describe_command(command, common)
    lines += [*_COMMON, *_make_options(made["info"].cmdparser.options, only=common), ""]
    lines += ["## The command fftasks", "", *_make_console_script()]
    return "\n".join(lines)


def _is_ours(path):
    return path.partition(".")[0] == "fftasks"


def _find_common(command):
    """Return the names of the options that doit adds to every command."""
    return {option.name for option in command.get_options()} - {
        o["name"] for o in command.cmd_options
    }


def _make_tasks():
    yield (
        "Run a task with `doit TASK [OPTIONS]`, for one workflow with `doit TASK:WORKFLOW`. A task runs the"
        " tasks that it depends on. `doit` alone is `doit run`."
    )
    yield from ("", "| task | description |", "|---|---|")
    creators = {name: getattr(tasks, name) for name in tasks.__all__ if name.startswith("task_")}
    named = {
        {"nodes": "run"}.get(n := name.removeprefix("task_"), n): make
        for name, make in creators.items()
    }
    for name, create in named.items():
        yield _make_row(_code(f"doit {name}"), _escape(_get_summary(create)))
    yield ""
    for name, create in named.items():
        options = [CmdOption(option) for option in getattr(create, "_task_creator_params", ())]
        if options:
            yield from (f"### Options of the task {name}", "", *_make_options(options), "")


def _describe_command(command, common):
    usage = f"doit {command.name} [OPTIONS] {command.doc_usage or ''}".strip()
    yield from (f"### {command.name}", "", f"{_escape(_to_sentence(command.doc_purpose))}", "")
    yield from ("```text", usage, "```", "")
    if command.doc_description:
        text = inspect.cleandoc(command.doc_description).replace("``", "`")
        yield from (*(_escape_prose(text).splitlines()), "")
    if command.name in _NOTES:
        yield from (_NOTES[command.name], "")
    inherited = next((base for base in type(command).__mro__[1:] if _is_command(base)), None)
    skipped = set(common)
    if command.name not in ("run", "list", "help") and inherited:
        skipped |= {option["name"] for option in inherited.cmd_options}
        yield from (
            f"The options of [`{inherited.name}`](#{inherited.name}) are valid as well.",
            "",
        )
    options = [option for option in command.cmdparser.options if option.name not in skipped]
    if command.name == "dumpdb":
        yield from ("Its only option is `--db-file`.", "")
    elif options:
        yield from (*_make_options(options), "")
    else:
        yield from ("It has no options of its own.", "")


def _is_command(cls):
    """Return whether a class is a command of fftasks of its own, and not a base class of commands."""
    return _is_ours(cls.__module__) and "name" in vars(cls)


def _make_options(options, *, only=None):
    yield from ("| option | type | default | description |", "|---|---|---|---|")
    for option in options:
        if only is None or option.name in only:
            kind = "flag" if option.type is bool else _KINDS.get(option.type, option.type.__name__)
            yield _make_row(
                _spell_option(option),
                kind,
                _format_option_default(option),
                _describe_option(option),
            )


_KINDS = {str: "string", int: "integer", float: "number", list: "comma-separated list"}


def _spell_option(option):
    argument = "" if option.type is bool else f" {option.metavar}"
    forms = [f"-{option.short}{argument}"] if option.short else []
    forms += [f"--{option.long}{argument.replace(' ', '=')}"] if option.long else []
    forms += [f"--{option.inverse}"] if option.inverse else []
    return ", ".join(map(_code, forms)) or f"{_code(option.name)} (configuration only)"


def _format_option_default(option):
    """Return the default, with what `from fftasks.tasks import *` sets in DOIT_CONFIG."""
    if option.name == "num_process":
        return "number of usable CPUs"  # a number would depend on the machine that builds the page
    default = tasks.DOIT_CONFIG.get(option.name, option.default)
    if isinstance(default, type):
        return "that of fftasks"
    if default is None or not default:
        return "off" if option.type is bool else _format_default(default)
    if hasattr(default, "write"):
        return "standard output"
    return _format_default(default)


def _describe_option(option):
    text = option.help % {"default": option.default}
    text = re.sub(r"\s*\[default: [^]]*\]", "", text)  # it has its own column
    parts = [_escape(text)]
    if option.choices:
        choices = [
            f"{_code(name)}{said and f' ({_escape(said)})'}"
            for name, said in option.choices.items()
        ]
        parts.append(f"Choices: {', '.join(choices)}.")
    if option.env_var:
        parts.append(f"Environment variable: {_code(option.env_var)}.")
    return ". ".join(part.strip().rstrip(".") for part in parts if part).strip()


class _ParserFound(Exception):
    """Carries the parser of a program that was started."""


def _make_console_script():
    (entry,) = entry_points(group="console_scripts", name="fftasks")
    parser = _find_parser(entry.load())
    yield from (_escape_prose(parser.description), "", *_describe_parser(parser))
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    said = {choice.dest: choice.help for choice in subparsers._choices_actions}
    for name, command in subparsers.choices.items():
        yield from (f"### fftasks {name}", "", _escape_prose(_to_sentence(said[name])), "")
        yield from _describe_parser(command)


def _find_parser(main):
    def catch(parser, *_):
        raise _ParserFound(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", catch):
        try:
            main([])
        except _ParserFound as found:
            return found.args[0]
    raise ValueError("the program does not use argparse")


def _describe_parser(parser):
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    yield from ("```text", usage, "```", "")
    yield from ("| argument | default | description |", "|---|---|---|")
    for action in parser._actions:
        names = [f"{name} {action.metavar or ''}".strip() for name in action.option_strings]
        default = "" if action.default in (None, argparse.SUPPRESS) else _code(str(action.default))
        shown = ", ".join(map(_code, names or [action.metavar or action.dest]))
        said = action.help or "; ".join(
            f"{c.dest}: {c.help}" for c in getattr(action, "_choices_actions", ())
        )
        yield _make_row(shown, default, _escape(said))
    yield ""


# ------------------------------------------------------------------------------------- names, errors


def make_python():
    """Return the public names, and the classes of the objects that they take and return."""
    lines = []
    for name in fftasks.__all__:
        lines += [f"## {name}", "", *_make_directive("fftasks", name, getattr(fftasks, name)), ""]
    lines += ["## Objects of workflows and drop-ins", "", _OBJECTS, ""]
    for cls in _find_classes():
        lines += [
            f"### {cls.__qualname__}",
            "",
            *_make_directive(cls.__module__, cls.__qualname__, cls),
            "",
        ]
    return "\n".join(lines)


_OBJECTS = "The functions and methods above take and return objects of these classes. They are not imported."
# class of a public name's module that no annotation mentions -> the public name
_UNANNOTATED = {"RunHandle": "KFPWorkflow"}


def _make_directive(module, name, value):
    kind = "function"
    options = []
    if isinstance(value, type):
        kind = "exception" if issubclass(value, BaseException) else "class"
        # methods of dict, str and so on are documented by Python
        builtin = [base.__name__ for base in value.__mro__ if base.__module__ == "builtins"]
        foreign = [base for base in builtin if base != "object"]
        options = [":members:", f":inherited-members: {', '.join(foreign)}".strip()]
        options += [":show-inheritance:"] if value.__bases__ != (object,) else []
        options += [":undoc-members:"] if is_dataclass(value) else []
    yield from ("```{eval-rst}", f".. auto{kind}:: {module}.{name}")
    yield from (f"   {option}" for option in options)
    yield "```"


def _find_classes():
    """Return the classes of fftasks that the annotations of public functions and methods name."""
    public = [getattr(fftasks, name) for name in fftasks.__all__]
    found = {}
    for value in public:
        space = vars(sys.modules[value.__module__])
        for function in _list_functions(value):
            for annotation in function.__annotations__.values():
                text = annotation if isinstance(annotation, str) else str(annotation)
                found |= {
                    cls: None for word in re.findall(r"\w+", text) if (cls := space.get(word))
                }
    for name, owner in _UNANNOTATED.items():
        found[vars(sys.modules[getattr(fftasks, owner).__module__])[name]] = None
    classes = [cls for cls in found if isinstance(cls, type) and _is_ours(cls.__module__)]
    return sorted(set(classes).difference(public), key=lambda cls: cls.__name__)


def _list_functions(value):
    if not isinstance(value, type):
        return [inspect.unwrap(value)]
    functions = [
        member.fget if isinstance(member, property) else member
        for name, member in vars(value).items()
        if name == "__init__" or not name.startswith("_")
    ]
    return [function for function in functions if inspect.isfunction(function)]


def find_title(documented, name):
    """Return the title of the section of a docstring that explains a name, "" if it is no argument."""
    try:
        arguments = inspect.signature(documented).parameters
    except (TypeError, ValueError):  # a value, or a built-in class
        arguments = {}
    if name in arguments:
        return "Args:"
    return "Attributes:" if isinstance(documented, type) else ""


def make_exceptions():
    """Return the tree of the exceptions, and each of them with its docstring and exit code."""
    for module in pkgutil.walk_packages(fftasks.__path__, "fftasks."):
        if not module.name.endswith("__main__"):
            importlib.import_module(
                module.name
            )  # a subclass exists only after its module is imported
    tree = list(_walk_exceptions(FFTasksError))
    lines = ["```text", *(f"{'    ' * depth}{kind.__name__}" for depth, kind in tree), "```", ""]
    kinds = list(dict.fromkeys(kind for _, kind in tree))
    home = FFTasksError.__module__
    for kind in (kind for kind in kinds if kind.__module__ == home):
        lines += [f"## {kind.__name__}", "", f"Exit code of commands: {kind.exit_code}", ""]
        lines += [*_make_directive(home, kind.__name__, kind), ""]
    lines += [
        "## Subclasses",
        "",
        _SUBCLASSES,
        "",
        "| exception | bases | exit code | description |",
    ]
    lines.append("|---|---|---|---|")
    for kind in (kind for kind in kinds if kind.__module__ != home):
        bases = ", ".join(_code(base.__name__) for base in kind.__bases__)
        summary = _escape(_get_summary(kind))
        lines.append(_make_row(_code(kind.__name__), bases, str(kind.exit_code), summary))
    return "\n".join(lines)


_SUBCLASSES = (
    "fftasks raises the following subclasses to tell causes apart internally. They are not part of the public"
    " interface: catch the classes above instead."
)


def _walk_exceptions(kind, depth=0):
    yield depth, kind
    for subclass in kind.__subclasses__():
        yield from _walk_exceptions(subclass, depth + 1)


# ------------------------------------------------------------------------------------------------ Markdown


def _get_summary(documented):
    return inspect.getdoc(documented).splitlines()[0]


def _to_sentence(text):
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _format_default(value):
    if value is None or value == "":
        return "none" if value is None else "empty"
    if isinstance(value, bool):
        return _code(str(value).lower())
    if isinstance(value, tuple | list):
        return _code(f"[{', '.join(value)}]")
    return _code(str(value))


def _make_row(*cells):
    return f"| {' | '.join(cells)} |"


def _code(text):
    return "`" + str(text).replace("|", "\\|") + "`"


def _escape(text):
    """Return a text that Markdown shows unchanged in one cell of a table; `code` stays code."""
    return " ".join(_escape_prose(text).split())


def _escape_prose(text):
    pieces = re.split(r"(`[^`]+`)", text)
    pieces[::2] = [re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


PARTS = {
    "settings": make_settings,
    "commands": make_commands,
    "python": make_python,
    "exceptions": make_exceptions,
}
