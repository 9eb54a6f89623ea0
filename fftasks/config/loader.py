"""Load the settings of a project: files in config/, environment variables, and settings of nodes.

Later places override earlier ones: defaults, config/default.yaml, config/<profile>.yaml, and the variables
FFTASKS_<SECTION>__<KEY>. Each value has the place where it is set, for messages, which never contain the
value of a secret. The settings themselves are declared in tree.py and node_settings.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from fftasks.config.node_settings import DEFAULT_PATTERN, NODE_SETTING_SPECS, SettingOverride
from fftasks.config.specification import (
    MissingVariableError,
    SettingLocation,
    SettingSpecs,
    SettingValue,
    suggest_correction,
)
from fftasks.config.tree import SECTIONS, SETTING_SPECS, Settings
from fftasks.config.yaml_document import (
    YAMLNode,
    is_null,
    list_mapping_items,
    parse_yaml,
    read_setting_value,
)
from fftasks.errors import SettingsError, find_near

DEFAULT_FILE = "config/default.yaml"
NODES_SECTION = "nodes"  # the section whose keys are patterns; see patterns.py


def choose_files(folder: Path, profile: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the files to read, relative to the project's folder; later files override earlier ones.

    The folder config/ is not needed if the variable FFTASKS_WORKFLOWS is set.

    Args:
        folder: Folder of the project.
        profile: Name of the profile; if None, the value of the variable FFTASKS_PROFILE.
        environ: Environment variables.

    Raises:
        SettingsError: A file does not exist; the message lists the existing profiles.
    """
    known = sorted(path.name for path in (folder / "config").glob("*.y*ml"))
    unread = [f"config/{n} is not read: it must end in .yaml" for n in known if n.endswith(".yml")]
    if "default.yaml" in known:
        yield DEFAULT_FILE
    elif "FFTASKS_WORKFLOWS" not in environ:
        tip = "`fftasks init` writes a project that runs; `workflows: [my_workflow.py]` is enough"
        raise SettingsError(f"there is no {DEFAULT_FILE} in {folder}", found=unread, tip=tip)
    source = "" if profile else " of FFTASKS_PROFILE"
    profile = profile or environ.get("FFTASKS_PROFILE") or "default"
    if profile == "default":
        return
    # searched for in a list, because a profile is a name and not a path
    if f"{profile}.yaml" not in known:
        names = [
            n.removesuffix(".yaml") for n in known if n.endswith(".yaml") and n != "default.yaml"
        ]
        raise SettingsError(
            f"there is no profile {profile!r}{source}: config/{profile}.yaml does not exist",
            found=[f"profiles: {', '.join(names) or 'none'}", *unread],
            tip=suggest_correction(profile, names),
        )
    yield f"config/{profile}.yaml"


def read_file(
    root: YAMLNode, name: str, rules: SettingSpecs, environ: Mapping[str, str]
) -> dict[str, SettingValue]:
    """Return what a file sets, by dotted key.

    root: as read_root gives it; name: relative to the project's folder; environ: where ${NAME} is taken from
    Raises:
        SettingsError: A key or a value is invalid. The message has file, line, key, the allowed values and
            the nearest name.
    """
    return {
        key: _read_or_defer_error(SettingLocation(key, rules[key], origin, environ), node)
        for key, origin, node in _list_settings(root, name, rules)
    }


def _read_or_defer_error(spot: SettingLocation, node: YAMLNode) -> SettingValue:
    """Return the value of a setting; for a secret whose variable is not set, an error that is raised later.

    Without the password of the registry, workflows can still run on this machine.
    """
    try:
        return read_setting_value(spot, node)
    except MissingVariableError as error:
        if not spot.rule.secret:
            raise
        return SettingValue(error.with_traceback(None), spot.origin)


def read_root(folder: Path, name: str) -> YAMLNode:
    """Return the root node of a YAML file.

    Args:
        folder: Folder of the project.
        name: Path of the file, relative to the folder.

    Raises:
        SettingsError: The file cannot be read, is empty or is not valid YAML.
    """
    root = parse_yaml(_read_file_text(folder, name), name)
    if root is None:
        tip = "write `workflows: [my_workflow.py]`, or begin with `fftasks init`"
        if name != DEFAULT_FILE:
            tip = f"write what differs from {DEFAULT_FILE}, or remove it"
        raise SettingsError(f"{name} is empty", tip=tip)
    return root


def list_sections(rules: SettingSpecs) -> list[str]:
    """Return the first parts of dotted keys, in order."""
    return list(dict.fromkeys(key.partition(".")[0] for key in rules if "." in key))


def _read_file_text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        problem = error.strerror or str(error)
        raise SettingsError(f"{name} cannot be read", found=[problem]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}:{line}: invalid UTF-8") from None


def _list_settings(
    root: YAMLNode, name: str, rules: SettingSpecs
) -> Iterator[tuple[str, str, YAMLNode]]:
    """Yield the dotted key, the origin and the node of each setting, also inside sections."""
    sections = list_sections(rules)
    for key, origin, node in list_mapping_items(root, name, "the file"):
        if key == NODES_SECTION:
            continue
        if key not in sections:
            if key not in rules or "." in key:
                raise _make_unknown_key_error(key, origin, rules)
            yield key, origin, node
        elif not is_null(node):
            for inner, place, value in list_mapping_items(node, name, key):
                if f"{key}.{inner}" not in rules:
                    raise _make_unknown_key_error(f"{key}.{inner}", place, rules)
                yield f"{key}.{inner}", place, value


def _make_unknown_key_error(key: str, origin: str, rules: SettingSpecs) -> SettingsError:
    section, _, name = key.rpartition(".")
    sections = list_sections(rules)
    if section in sections and key not in rules:
        there = [other for other in rules if other.startswith(f"{section}.")]
    else:
        there = [*(other for other in rules if "." not in other), *sections, NODES_SECTION]
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


_VARIABLE_PREFIX = "FFTASKS_"


def read_environment(environ: Mapping[str, str], rules: SettingSpecs) -> dict[str, SettingValue]:
    """Return what FFTASKS_<SECTION>__<KEY> set, by dotted key.

    A string is used as it is, so that a password needs no quotes for YAML. Lists and mappings are parsed
    as YAML.

    Args:
        environ: Environment variables.
        rules: Specifications by dotted key.

    Raises:
        SettingsError: A variable is invalid, or its name is similar to that of a setting.
    """
    names = {name_variable(key): key for key in rules}
    values = {}
    for name in sorted(environ):
        if name in names:
            origin = f"environment {name}"
            values[names[name]] = _read_variable(
                SettingLocation(names[name], rules[names[name]], origin), environ[name]
            )
        elif name.startswith(_VARIABLE_PREFIX):
            _check_variable(name, list(names))
    return values


def name_variable(key: str) -> str:
    """Return the environment variable of a setting: FFTASKS_KFP__HOST for "kfp.host"."""
    return _VARIABLE_PREFIX + key.upper().replace(".", "__")


def _check_variable(name: str, names: list[str]) -> None:
    """Raise SettingsError if an unknown variable looks like a setting."""
    shorts = [known.removeprefix(_VARIABLE_PREFIX) for known in names]
    # a variable without "__" may belong to another program, unless its name is very similar to a setting
    cutoff = 0.5 if "__" in name else 0.85
    near = find_near(name.removeprefix(_VARIABLE_PREFIX).upper(), shorts, cutoff=cutoff)
    if near or "__" in name:
        raise SettingsError(
            f"environment {name}: there is no setting of this name",
            found=[] if near else [f"there are: {', '.join(names)}"],
            tip=f"did you mean {_VARIABLE_PREFIX}{near}?" if near else "unset it",
        )


def _read_variable(spot: SettingLocation, text: str) -> SettingValue:
    kind = type(spot.rule.default)
    if kind is str:
        return SettingValue(spot.check(text), spot.origin)
    if kind not in (tuple, dict):
        return SettingValue(spot.check(spot.parse(text)), spot.origin)
    node = parse_yaml(text, spot.origin)
    if node is None:
        raise spot.refuse("nothing", "write []" if kind is tuple else "write {}")
    return read_setting_value(spot, node)


_MAX_SUGGESTED_FILES = 2000


def check_workflows(folder: Path, given: SettingValue | None) -> tuple[str, ...]:
    """Return the files that build workflows, relative to the project's folder.

    Args:
        folder: Folder of the project.
        given: Value of the setting `workflows`, or None.

    Raises:
        SettingsError: A file is not a Python file of the project; the message suggests the nearest file.
    """
    if given is None or not given.value:
        tip = "write `workflows: [my_workflow.py]`, or begin with `fftasks init`"
        raise SettingsError(
            f"{given.origin if given else DEFAULT_FILE} names no workflows", tip=tip
        )
    checked: dict[str, str] = {}
    for file, origin in zip(given.value, given.items, strict=True):
        path = _check_workflow(folder, file, origin)
        if path in checked:
            raise SettingsError(
                f"{origin}: workflow {file!r} is named twice", found=[f"before: {checked[path]}"]
            )
        checked[path] = origin
    return tuple(checked)


def _check_workflow(folder: Path, file: str, origin: str) -> str:
    root, path = folder.resolve(), (folder / file).resolve()
    what = f"{origin}: workflow {file!r}"
    if not path.is_relative_to(root):
        raise SettingsError(
            f"{what} is outside the project's folder", tip=_suggest_file(folder, file)
        )
    if path.is_dir():
        raise SettingsError(f"{what} is a folder", tip="name the Python files in it")
    if path.suffix != ".py":
        raise SettingsError(f"{what} is not a Python file", tip=_suggest_file(folder, file))
    if not path.is_file():
        raise SettingsError(f"{what} does not exist", tip=_suggest_file(folder, file))
    plain = Path(os.path.normpath(file))
    # records do not contain absolute paths, and each file must have one name
    return (
        path.relative_to(root) if plain.is_absolute() or ".." in plain.parts else plain
    ).as_posix()


def _suggest_file(folder: Path, file: str) -> str:
    """Return a hint with the nearest Python file of the project."""
    files = list(islice(_list_python_files(folder), _MAX_SUGGESTED_FILES))
    same = [one for one in files if Path(one).name == Path(file).name]
    near = f"did you mean {same[0]}?" if same else suggest_correction(file, files, cutoff=0.5)
    return near or "paths are relative to the folder of dodo.py"


def _list_python_files(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        # skip hidden folders and virtual environments
        folders[:] = sorted(
            f for f in folders if f[0] != "." and not (Path(parent, f) / "pyvenv.cfg").exists()
        )
        for file in sorted(files):
            if file.endswith(".py"):
                yield (Path(parent) / file).relative_to(folder).as_posix()


# variables that fftasks sets when it starts a node
_RESERVED = ("FFFUNCTION", "FFWORKFLOWS", "PYTHONHASHSEED")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL = r"(?a:[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)"
_LABEL_PREFIX = r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
# settings that KFP supports only for a whole run -> hint
_RUN_SETTINGS = {
    "service_account": "kfp.service_account is for the whole run: KFP has none for single nodes",
    "namespace": "kfp.namespace is for the whole run",
}
_SECRET_NAME = re.compile(r"(?i)passw|secret|token|api_?key|private_?key|credential|access_?key")


def read_overrides(
    root: YAMLNode, name: str, environ: Mapping[str, str]
) -> Iterator[SettingOverride]:
    """Yield what a file sets for nodes, in its order.

    root: the file as read_root gives it; name: relative to the project's folder
    Raises:
        SettingsError: A key or a value is invalid. The message has file, line, key, the allowed values and
            the nearest name.
    """
    for key, _, section in list_mapping_items(root, name, "the file"):
        if key != NODES_SECTION or is_null(section):
            continue
        for pattern, origin, values in list_mapping_items(section, name, NODES_SECTION):
            check_pattern(pattern, origin)
            if not is_null(values):
                yield SettingOverride(pattern, _read_values(pattern, values, name, environ), origin)


def check_override(pattern: str, values: Mapping[str, Any], origin: str) -> SettingOverride:
    """Return what the user's code sets for nodes: `query(pattern).set(cpu=2)` at a line of it.

    Raises:
        SettingsError: A name or a value is invalid.
    """
    checked = {
        key: SettingValue(_check_value(key, value, origin), origin) for key, value in values.items()
    }
    return SettingOverride(pattern, checked, origin)


def parse_override(recorded: Mapping[str, Any]) -> SettingOverride:
    """Return the layer of what the user's code sets, as the graph record has it."""
    origin = recorded["origin"]
    values = {
        key: SettingValue(tuple(value) if isinstance(value, list) else value, origin)
        for key, value in recorded["values"].items()
    }
    return SettingOverride(recorded["pattern"], values, origin)


def check_pattern(pattern: str, origin: str) -> None:
    """Raise SettingsError if a pattern is not a valid regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"{origin}: {pattern!r} is not a valid regular expression",
            found=[str(error)],
            tip=f"write {DEFAULT_PATTERN} for all nodes, and a backslash before ( [ * + ? of a name",
        ) from None


def list_env_secret_warnings(layers: Iterable[SettingOverride]) -> list[str]:
    """Return a warning for each plain-text variable that looks like a secret."""
    return [
        f"{origin}: env.{name} looks like a secret, and everybody can read it in the pipeline: "
        f"better secret_env: {{{name}: secret/key}}"
        for layer in layers
        for name, text, origin in _list_env(layer)
        if text and _SECRET_NAME.search(name)
    ]


def _list_env(layer: SettingOverride) -> Iterator[tuple[str, str, str]]:
    if "env" in layer.values:
        env = layer.values["env"]
        yield from zip(env.value, env.value.values(), env.list_origins(), strict=True)


def _read_values(
    pattern: str, node: YAMLNode, name: str, environ: Mapping[str, str]
) -> dict[str, SettingValue]:
    values = {}
    for key, origin, value in list_mapping_items(node, name, f"{NODES_SECTION}.{pattern}"):
        spot = _locate_setting(key, origin)
        values[key] = read_setting_value(
            SettingLocation(spot.key, spot.rule, origin, environ), value
        )
        _check_names(key, values[key].value, values[key].items or (origin,))
    return values


def _locate_setting(key: str, origin: str) -> SettingLocation:
    if key not in NODE_SETTING_SPECS:
        raise SettingsError(
            f"{origin}: there is no setting {key} for nodes",
            found=[f"there are: {', '.join(NODE_SETTING_SPECS)}"],
            tip=_RUN_SETTINGS.get(key)
            or suggest_correction(key, list(NODE_SETTING_SPECS), cutoff=0.5),
        )
    return SettingLocation(key, NODE_SETTING_SPECS[key], origin)


def _check_value(key: str, value: Any, origin: str) -> Any:
    """Check a value that the user's code sets, and convert it to the form that a file has."""
    spot = _locate_setting(key, origin)
    kind = type(spot.rule.default)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(_check_text(spot.narrow(f"[{i}]", origin), v) for i, v in enumerate(value))
    if kind is dict and isinstance(value, Mapping):
        texts = {str(n): _check_text(spot.narrow(f".{n}", origin), v) for n, v in value.items()}
        _check_names(key, texts, (origin,) * len(texts))
        return texts
    if kind is str:
        return _check_text(spot, value)
    is_fit = isinstance(value, kind) or (kind is float and type(value) is int)
    if not is_fit or (kind is int and isinstance(value, bool)):
        raise spot.refuse(repr(value))
    return spot.check(kind(value))


def _check_text(spot: SettingLocation, value: Any) -> str:
    if not isinstance(value, str) and not (spot.rule.form and isinstance(value, int | float)):
        raise spot.refuse(repr(value))
    return str(spot.check(str(value)))


def _check_names(key: str, value: Any, origins: Sequence[str]) -> None:
    """Raise SettingsError for an invalid name of a variable, folder or label."""
    if not isinstance(value, dict):
        return
    for name, origin in zip(value, origins, strict=False):
        if key.endswith("env") and (name in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name)):
            problem = (
                "is set by fftasks" if name in _RESERVED else "is not a valid name of a variable"
            )
            raise SettingsError(f"{origin}: {key}.{name} {problem}", tip="choose another name")
        if key in ("secret_files", "config_map_files", "volumes", "empty_dirs") and name[:1] != "/":
            raise SettingsError(
                f"{origin}: {key}.{name} must be an absolute path in the container",
                found=[NODE_SETTING_SPECS[key].says],
                tip=f"write {NODE_SETTING_SPECS[key].example}",
            )
        if key in ("labels", "node_selector", "annotations"):
            _check_label(key, name, "" if key == "annotations" else value[name], origin)


def _check_label(key: str, name: str, value: str, origin: str) -> None:
    """Raise SettingsError for a label that Kubernetes would reject."""
    prefix, slash, last = name.rpartition("/")
    if not re.fullmatch(_LABEL, last) or (slash and not re.fullmatch(_LABEL_PREFIX, prefix)):
        found = "letters, digits, '-', '_' and '.', at most 63; before them a domain and '/', or nothing"
        raise SettingsError(
            f"{origin}: {key}.{name} is not a valid name in Kubernetes", found=[found]
        )
    if value and not re.fullmatch(_LABEL, value):
        found = "letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends"
        raise SettingsError(f"{origin}: {key}.{name} cannot be {value!r}", found=[found])


def load_settings(
    folder: Path, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of the project in a folder.

    profile: name of config/<profile>.yaml; FFTASKS_PROFILE if None
    environ: the environment; the process's own if None

    Raises:
        SettingsError: A key or a value is invalid. The message has file, line, key, the allowed values and
            the nearest name.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, SettingValue] = {}
    warnings: list[str] = []
    nodes: list[SettingOverride] = []
    for name in choose_files(folder, profile, environ):
        root = read_root(folder, name)
        found = read_file(root, name, SETTING_SPECS, environ)
        warnings += [
            f"{value.origin}: {key} is written in plain text in the file: better ${{NAME}}, or"
            f" {name_variable(key)}"
            for key, value in found.items()
            if value.is_plaintext_secret
        ]
        values |= found
        nodes += read_overrides(root, name, environ)
    warnings += list_env_secret_warnings(nodes)
    values |= read_environment(environ, SETTING_SPECS)
    filled = _make_settings(values, check_workflows(folder, values.get("workflows")))
    return replace(filled, nodes=tuple(nodes), warnings=tuple(warnings))


def _make_settings(values: Mapping[str, SettingValue], workflows: tuple[str, ...]) -> Settings:
    sections = {
        name: kind(
            **{k.partition(".")[2]: v.value for k, v in values.items() if k.startswith(f"{name}.")}
        )
        for name, kind in SECTIONS.items()
    }
    origins = {key: value.origin for key, value in values.items()}
    for key, value in values.items():
        if isinstance(value.value, tuple):
            origins |= {f"{key}[{index}]": origin for index, origin in enumerate(value.items)}
    return Settings(workflows=workflows, **sections, origins=origins)
