"""What config/ and the environment set: values of the right kind, each with the place it is set in.

Which settings there are stands in tree.py. The value of a secret is in no message.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fftasks.errors import SettingsError
from fftasks.settings.rule import (
    MissingVariableError,
    Rules,
    Spot,
    Value,
    has_variable,
    suggest,
)

Node = Any  # of yaml; what tells its kinds apart, `id`, is not in its types

DEFAULT = "config/default.yaml"
NODES = "nodes"  # the section whose keys are patterns; see patterns.py
PREFIX = "FFTASKS_"

_TEXT, _NOTHING = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_MARKS = ("'-'", "','", "':'", "']'", "'}'")
# a text that begins so is something else to YAML, and passwords do
_HINT = "indent with spaces, and put what begins with * & ! % @ ` { [ into quotes"


def choose_files(folder: Path, profile: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the files to read, relative to the project's folder; later ones win.

    profile: FFTASKS_PROFILE if None. FFTASKS_WORKFLOWS alone makes a project, without config/.
    Raises SettingsError for a file that is not there, with those that are.
    """
    known = sorted(path.name for path in (folder / "config").glob("*.y*ml"))
    unread = [f"config/{n} is not read: it must end in .yaml" for n in known if n.endswith(".yml")]
    if "default.yaml" in known:
        yield DEFAULT
    elif "FFTASKS_WORKFLOWS" not in environ:
        tip = "`fftasks init` writes a project that runs; `workflows: [my_workflow.py]` is enough"
        raise SettingsError(f"there is no {DEFAULT} in {folder}", found=unread, tip=tip)
    source = "" if profile else " of FFTASKS_PROFILE"
    profile = profile or environ.get("FFTASKS_PROFILE") or "default"
    if profile == "default":
        return
    # looked up in a list: a profile is a name, and no path
    if f"{profile}.yaml" not in known:
        names = [
            n.removesuffix(".yaml") for n in known if n.endswith(".yaml") and n != "default.yaml"
        ]
        raise SettingsError(
            f"there is no profile {profile!r}{source}: config/{profile}.yaml does not exist",
            found=[f"profiles: {', '.join(names) or 'none'}", *unread],
            tip=suggest(profile, names),
        )
    yield f"config/{profile}.yaml"


def read_file(root: Node, name: str, rules: Rules, environ: Mapping[str, str]) -> dict[str, Value]:
    """Return what a file sets, by dotted key.

    root: as read_tree gives it; name: relative to the project's folder; environ: where ${NAME} is taken from
    Raises SettingsError with file, line, key, what is allowed and the nearest name.
    """
    return {
        key: _read_or_leave(Spot(key, rules[key], origin, environ), node)
        for key, origin, node in _list_settings(root, name, rules)
    }


def _read_or_leave(spot: Spot, node: Node) -> Value:
    """Return the value of a setting; a secret that is not there is an error where it is used.

    Who has no password of the registry may still run the workflow here.
    """
    try:
        return read_value(spot, node)
    except MissingVariableError as error:
        if not spot.rule.secret:
            raise
        return Value(error.with_traceback(None), spot.origin)


def read_tree(folder: Path, name: str) -> Node:
    """Return the root of a file in the project's folder; raise SettingsError if it is empty or no YAML."""
    root = _compose(_read_text_of(folder, name), name)
    if root is None:
        tip = "write `workflows: [my_workflow.py]`, or begin with `fftasks init`"
        if name != DEFAULT:
            tip = f"write what differs from {DEFAULT}, or remove it"
        raise SettingsError(f"{name} is empty", tip=tip)
    return root


def read_environment(environ: Mapping[str, str], rules: Rules) -> dict[str, Value]:
    """Return what FFTASKS_<SECTION>__<KEY> set, by dotted key.

    A text is taken as it is: nobody should have to quote a password for YAML. Lists and mappings are
    YAML. Raises SettingsError for a name that is none, or is nearly one.
    """
    names = {name_variable(key): key for key in rules}
    values = {}
    for name in sorted(environ):
        if name in names:
            origin = f"environment {name}"
            values[names[name]] = _read_variable(
                Spot(names[name], rules[names[name]], origin), environ[name]
            )
        elif name.startswith(PREFIX):
            _check_variable(name, list(names))
    return values


def name_variable(key: str) -> str:
    """Return the environment variable of a setting: FFTASKS_KFP__HOST for "kfp.host"."""
    return PREFIX + key.upper().replace(".", "__")


def list_sections(rules: Rules) -> list[str]:
    """Return the first parts of dotted keys, in order."""
    return list(dict.fromkeys(key.partition(".")[0] for key in rules if "." in key))


def _read_text_of(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        problem = error.strerror or str(error)
        raise SettingsError(f"{name} cannot be read", found=[problem]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}:{line}: this is no text in UTF-8") from None


def _compose(text: str, name: str) -> Node | None:
    """Return the root of a YAML document; nodes keep the lines that plain values lose."""
    import yaml

    try:
        return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", "it is too deep"))
        # what is quoted, but for YAML's own marks, may be a password; so it may be in the cause
        problem = re.sub(
            r"'[^']*'|\"[^\"]*\"", lambda m: m[0] if m[0] in _MARKS else "...", problem
        )
        raise SettingsError(
            f"{_locate(_find_line(error, text), name)}: this is no YAML", found=[problem], tip=_HINT
        ) from None


def _find_line(error: Exception, text: str) -> int:
    """Return the line of an error of yaml, from 0."""
    mark = getattr(error, "problem_mark", None)
    return int(mark.line) if mark else text.count("\n", 0, getattr(error, "position", 0))


def _list_settings(root: Node, name: str, rules: Rules) -> Iterator[tuple[str, str, Node]]:
    """Yield the dotted key, the origin and the value of each setting; sections are opened."""
    sections = list_sections(rules)
    for key, origin, node in list_items(root, name, "the file"):
        if key == NODES:
            continue
        if key not in sections:
            if key not in rules or "." in key:
                raise _refuse_key(key, origin, rules)
            yield key, origin, node
        elif not is_nothing(node):
            for inner, place, value in list_items(node, name, key):
                if f"{key}.{inner}" not in rules:
                    raise _refuse_key(f"{key}.{inner}", place, rules)
                yield f"{key}.{inner}", place, value


def list_items(node: Node, name: str, what: str) -> Iterator[tuple[str, str, Node]]:
    """Yield the key, "<file>:<line>" of the key, and the value of each item of a mapping."""
    if node.id != "mapping":
        origin = _locate(node.start_mark.line, name)
        raise SettingsError(f"{origin}: {what} must hold `key: value` lines")
    seen: dict[str, str] = {}
    for key_node, value_node in node.value:
        origin = _locate(key_node.start_mark.line, name)
        if key_node.id != "scalar":
            raise SettingsError(f"{origin}: a key in {what} must be a text")
        key = key_node.value
        if key in seen:
            full = key if what == "the file" else f"{what}.{key}"
            raise SettingsError(f"{origin}: {full} is set twice", found=[f"before: {seen[key]}"])
        seen[key] = origin
        yield key, origin, value_node


def is_nothing(node: Node) -> bool:
    """Tell whether nothing stands behind a key."""
    return bool(node.tag == _NOTHING)


def _locate(line: int, name: str) -> str:
    return name if _is_variable(name) else f"{name}:{line + 1}"


def _is_variable(name: str) -> bool:
    return name.startswith("environment ")


def _refuse_key(key: str, origin: str, rules: Rules) -> SettingsError:
    section, _, name = key.rpartition(".")
    sections = list_sections(rules)
    if section in sections and key not in rules:
        there = [other for other in rules if other.startswith(f"{section}.")]
    else:
        there = [*(other for other in rules if "." not in other), *sections, NODES]
    if key in rules:
        tip = f"write `{name}:` below `{section}:`"
    else:
        near = difflib.get_close_matches(name, [one.rpartition(".")[2] for one in there], n=1)
        near = [one for one in there if one.rpartition(".")[2] in near]
        near += [one for one in rules if not section and one.rpartition(".")[2] == name]
        tip = f"did you mean {near[0]}?" if near else ""
    return SettingsError(
        f"{origin}: there is no setting {key}",
        found=[f"there are: {', '.join(there)}"],
        tip=tip or "config/default.yaml of `fftasks init` shows them all",
    )


def _check_variable(name: str, names: list[str]) -> None:
    """Raise SettingsError if a variable seems to be meant as a setting; others are not ours to judge."""
    shorts = [known.removeprefix(PREFIX) for known in names]
    # without "__" it may belong to somebody else, unless it is nearly a setting's
    cutoff = 0.5 if "__" in name else 0.85
    near = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), shorts, n=1, cutoff=cutoff)
    if near or "__" in name:
        raise SettingsError(
            f"environment {name}: there is no setting of this name",
            found=[] if near else [f"there are: {', '.join(names)}"],
            tip=f"did you mean {PREFIX}{near[0]}?" if near else "unset it",
        )


def _read_variable(spot: Spot, text: str) -> Value:
    kind = type(spot.rule.default)
    if kind is str:
        return Value(spot.check(text), spot.origin)
    if kind not in (tuple, dict):
        return Value(spot.check(spot.parse(text)), spot.origin)
    node = _compose(text, spot.origin)
    if node is None:
        raise spot.refuse("nothing", "write []" if kind is tuple else "write {}")
    return read_value(spot, node)


def read_value(spot: Spot, node: Node) -> Value:
    """Return the value of a node; `key:` with nothing behind it stands for the default."""
    if is_nothing(node):
        return Value(type(spot.rule.default)(spot.rule.default), spot.origin)
    kind = type(spot.rule.default)
    if kind is tuple:
        return _read_list(spot, node)
    if kind is dict:
        return _read_mapping(spot, node)
    if kind is str:
        text = _read_text(spot, node)
        is_written_out = spot.rule.secret and bool(text) and not has_variable(node.value)
        return Value(spot.check(text), spot.origin, is_written_out=is_written_out)
    # a number in quotes is a text; one from a variable may need them
    if node.id != "scalar" or (node.style in ("'", '"') and not has_variable(node.value)):
        raise spot.refuse(_show(node))
    return Value(spot.check(spot.parse(spot.expand(node.value))), spot.origin)


def _read_list(spot: Spot, node: Node) -> Value:
    if node.id != "sequence":
        raise spot.refuse(_show(node), f"write [{node.value}]" if node.id == "scalar" else "")
    origins = tuple(_locate(item.start_mark.line, _file(spot)) for item in node.value)
    texts = tuple(
        _read_checked(spot.narrow(f"[{index}]", origin), item)
        for index, (origin, item) in enumerate(zip(origins, node.value, strict=True))
    )
    return Value(texts, spot.origin, items=origins)


def _read_mapping(spot: Spot, node: Node) -> Value:
    if node.id != "mapping":
        raise spot.refuse(_show(node), "write {NAME: value}")
    items = list(list_items(node, _file(spot), spot.key))
    texts = {
        name: _read_checked(spot.narrow(f".{name}", origin), value) for name, origin, value in items
    }
    # the address of an index is no secret; a password in it is
    is_written_out = spot.rule.secret and any(
        re.search(r"://[^/@\s]+@", value.value) and not has_variable(value.value)
        for _, _, value in items
    )
    origins = tuple(origin for _, origin, _ in items)
    return Value(texts, spot.origin, origins, is_written_out=is_written_out)


def _read_checked(spot: Spot, node: Node) -> str:
    return str(spot.check(_read_text(spot, node)))


def _read_text(spot: Spot, node: Node) -> str:
    is_plain = spot.rule.form and node.id == "scalar" and not is_nothing(node)
    if not is_plain and (node.id != "scalar" or node.tag != _TEXT):
        raise spot.refuse(_show(node), "write it in quotes" if node.id == "scalar" else "")
    return spot.expand(node.value)


def _file(spot: Spot) -> str:
    return spot.origin if _is_variable(spot.origin) else spot.origin.rpartition(":")[0]


def _show(node: Node) -> str:
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    return repr(node.value) if node.tag == _TEXT else node.value or "nothing"
