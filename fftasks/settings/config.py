"""What the files in config/ set: which are read, and the values of the settings in them.

Which settings there are stands in tree.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fftasks.errors import SettingsError, find_near
from fftasks.settings.document import Node, compose, is_nothing, list_items, read_value
from fftasks.settings.rule import MissingVariableError, Rules, Spot, Value, suggest

DEFAULT = "config/default.yaml"
NODES = "nodes"  # the section whose keys are patterns; see patterns.py


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
    root = compose(_read_text_of(folder, name), name)
    if root is None:
        tip = "write `workflows: [my_workflow.py]`, or begin with `fftasks init`"
        if name != DEFAULT:
            tip = f"write what differs from {DEFAULT}, or remove it"
        raise SettingsError(f"{name} is empty", tip=tip)
    return root


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
        nearest = find_near(name, [one.rpartition(".")[2] for one in there])
        near = [one for one in there if nearest and one.rpartition(".")[2] == nearest]
        near += [one for one in rules if not section and one.rpartition(".")[2] == name]
        tip = f"did you mean {near[0]}?" if near else ""
    return SettingsError(
        f"{origin}: there is no setting {key}",
        found=[f"there are: {', '.join(there)}"],
        tip=tip or "config/default.yaml of `fftasks init` shows them all",
    )
