"""Settings: one tree of dataclasses, filled from config/ and from the environment.

Later ones win: default, config/default.yaml, config/<profile>.yaml, FFTASKS_<SECTION>__<KEY>. Each value
knows where it came from. `${NAME}` in a text is taken from the environment; `$${` is a plain `${`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fftasks.errors import SettingsError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_SETTINGS = {"PROFILE", "REQUIRE_SERVICES", "TEST_CACHE", "FOLDER"}
_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list of texts",
    dict: "a mapping of texts to texts",
}


def setting(default: Any, says: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """Declare a field: its default, the sentence that explains it, and what it may be."""
    metadata = {"says": says, "secret": secret, "choices": choices}
    make = (
        {"default_factory": lambda: dict(default)}
        if isinstance(default, dict)
        else {"default": default}
    )
    return field(**make, metadata=metadata, repr=not secret)


@dataclass(frozen=True)
class ContextSettings:
    """What is copied into the image."""

    folder: str = setting(".", "the folder that is copied, relative to the project's")
    ignore: tuple[str, ...] = setting((), "patterns besides those in .dockerignore, in its syntax")


@dataclass(frozen=True)
class ImageSettings:
    """The image that all nodes run in."""

    base: str = setting(
        "python:3.11-slim", "the image to build upon; it needs Python 3.10 or newer"
    )
    requirements: str = setting(
        "requirements.txt", "what pip installs below the code; need not be there"
    )
    platform: str = setting("linux/amd64", "the cluster's operating system and architecture")
    tag: str = setting("latest", "a name for people; runs take the image by its digest")
    build_env: dict[str, str] = setting(
        {}, "environment of pip, such as PIP_INDEX_URL", secret=True
    )
    ca_cert: str = setting("", "certificates that pip trusts, a file; for an index with an own CA")


@dataclass(frozen=True)
class RegistrySettings:
    """Where the image goes."""

    server: str = setting("", "host and port, such as registry.example.com:5000")
    repository: str = setting("fftasks", "the image's name in the registry, such as team/project")
    username: str = setting("", "who pushes; empty takes Docker's own login")
    password: str = setting("", "better ${NAME} than the password itself", secret=True)


@dataclass(frozen=True)
class KFPSettings:
    """Kubeflow Pipelines."""

    host: str = setting("http://localhost:8080", "address of Kubeflow Pipelines")
    namespace: str = setting("", "the user's namespace, on clusters with several users")
    experiment: str = setting(
        "Default", "the experiment that runs are listed under; made if it is missing"
    )
    run_name: str = setting(
        "{workflow}", "name of a run; {workflow} and {pipeline} (digits) are filled in"
    )
    caching: bool = setting(
        True, "let the cluster take results of unchanged nodes from earlier runs"
    )
    token: str = setting("", "bearer token, better ${NAME}", secret=True)
    token_file: str = setting("", "a file that holds the bearer token, read at each submit")
    cookies: str = setting("", "cookies of a session, such as authservice_session=...", secret=True)
    ca_cert: str = setting("", "certificates to trust, a file; for a host with an own CA")
    verify_ssl: bool = setting(True, "check the host's certificate")
    timeout_s: float = setting(30.0, "seconds to wait for an answer")


@dataclass(frozen=True)
class LocalSettings:
    """Runs on this machine."""

    isolation: str = setting(
        "fork",
        "a process per node: fork from a warm one, or a fresh interpreter (slower)",
        choices=("fork", "fresh"),
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a project.

    origins: dotted key -> where its value was set
    warnings: sentences that somebody should see
    """

    workflows: tuple[str, ...] = setting((), "files that build workflows, relative to this project")
    context: ContextSettings = field(default_factory=ContextSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    kfp: KFPSettings = field(default_factory=KFPSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def origin(self, key: str) -> str:
        """Return where a value came from: "config/prod.yaml:3", "environment …" or "default"."""
        return self.origins.get(key, "default")


SECTIONS = ("context", "image", "registry", "kfp", "local")


class _Value(NamedTuple):
    key: str
    value: Any
    origin: str


def load(
    folder: Path, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of the project in a folder.

    profile: name of config/<profile>.yaml; FFTASKS_PROFILE if None
    environ: the environment; the process's own if None

    Raises SettingsError with file, line, key, what is allowed and the nearest name.
    """
    environ = os.environ if environ is None else environ
    profile = profile or environ.get("FFTASKS_PROFILE") or None
    values = [*_read_files(folder, profile, environ), *_read_environment(environ)]
    if not any(value.key == "workflows" and value.value for value in values):
        raise SettingsError(
            "config/default.yaml names no workflows",
            tip="write `workflows: [my_workflow.py]`, or begin with `fftasks init`",
        )
    settings = _fill(values, environ)
    _check_workflows(folder, settings)
    return settings


def list_settings() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield the dotted key and the field of each setting."""
    defaults = Settings()
    for top in dataclasses.fields(Settings):
        if top.name in SECTIONS:
            inner = dataclasses.fields(getattr(defaults, top.name))
            yield from ((f"{top.name}.{leaf.name}", leaf) for leaf in inner)
        elif "says" in top.metadata:
            yield top.name, top


def format_default(workflows: tuple[str, ...]) -> str:
    """Return the text of a config/default.yaml: every setting, with the sentence that explains it."""
    lines = ["# Settings of this project; what is commented out has its default.", ""]
    says = dict(list_settings())["workflows"].metadata["says"]
    lines += [f"# {says}", "workflows:", *(f"  - {file}" for file in workflows)]
    for section in SECTIONS:
        kind = type(getattr(Settings(), section))
        lines += ["", f"# {kind.__doc__}", f"# {section}:"]
        for leaf in dataclasses.fields(kind):
            lines.append(
                f"#   {leaf.name}: {json.dumps(_default(leaf))}  # {leaf.metadata['says']}"
            )
    return "\n".join(lines) + "\n"


def _read_files(folder: Path, profile: str | None, environ: Mapping[str, str]) -> Iterator[_Value]:
    default = folder / "config" / "default.yaml"
    if default.exists():
        yield from _read_file(default, "config/default.yaml")
    elif "FFTASKS_WORKFLOWS" not in environ:
        raise SettingsError(
            f"there is no config/default.yaml in {folder}",
            tip="`fftasks init` writes a project that runs; `workflows: [my_workflow.py]` is enough",
        )
    if profile is None:
        return
    path = folder / "config" / f"{profile}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem != "default")
        raise SettingsError(
            f"there is no profile {profile!r}: config/{profile}.yaml does not exist",
            found=[f"profiles: {', '.join(known) or 'none'}"],
        )
    yield from _read_file(path, f"config/{profile}.yaml")


def _read_file(path: Path, name: str) -> Iterator[_Value]:
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise SettingsError(f"{name}{line}: this is no YAML", found=[str(problem)]) from None
    if root is None:
        return
    yield from _flatten(root, name, "")


def _flatten(node: yaml.Node, name: str, prefix: str) -> Iterator[_Value]:
    """Yield what a mapping holds, sections opened; nodes keep the line that plain values lose."""
    if not isinstance(node, yaml.MappingNode):
        where = f"{name}:{node.start_mark.line + 1}"
        raise SettingsError(
            f"{where}: {prefix.rstrip('.') or 'the file'} must hold `key: value` lines"
        )
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key, where = f"{prefix}{key_node.value}", f"{name}:{key_node.start_mark.line + 1}"
        if key in seen:
            raise SettingsError(f"{where}: {key} is set twice in this file")
        seen.add(key)
        if not prefix and key in SECTIONS:
            if value_node.tag != "tag:yaml.org,2002:null":
                yield from _flatten(value_node, name, f"{key}.")
            continue
        yield _Value(key, _construct(value_node, where), where)


def _construct(node: yaml.Node, where: str) -> Any:
    loader = _LOADER("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: this is no value", found=[str(error)]) from None
    finally:
        loader.dispose()


def _read_environment(environ: Mapping[str, str]) -> Iterator[_Value]:
    for name in sorted(environ):
        key = name.removeprefix("FFTASKS_")
        if key == name or key in _NOT_SETTINGS:
            continue
        dotted = key.lower().replace("__", ".", 1)
        field_ = dict(list_settings()).get(dotted)
        value: Any = environ[name]
        if field_ is not None and not isinstance(_default(field_), str):
            value = _parse(value, name)
        yield _Value(dotted, value, f"environment {name}")


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
    except yaml.YAMLError:
        raise SettingsError(f"environment {name}: this is no YAML value") from None


def _fill(values: list[_Value], environ: Mapping[str, str]) -> Settings:
    known = dict(list_settings())
    filled: dict[str, Any] = {}
    warnings: list[str] = []
    for key, raw, origin in values:
        if key not in known:
            raise _unknown(key, origin, list(known))
        if known[key].metadata["secret"] and _is_written_out(raw) and "environment" not in origin:
            warnings.append(
                f"{origin}: {key} stands in the file: better ${{NAME}}, from the environment"
            )
        filled[key] = _check(key, known[key], _substitute(raw, key, origin, environ), origin)
    sections = {
        name: type(getattr(Settings(), name))(
            **{k.partition(".")[2]: v for k, v in filled.items() if k.startswith(f"{name}.")}
        )
        for name in SECTIONS
    }
    origins = {key: origin for key, _, origin in values}
    return Settings(
        workflows=filled.get("workflows", ()), **sections, origins=origins, warnings=tuple(warnings)
    )


def _check(key: str, field_: dataclasses.Field[Any], value: Any, origin: str) -> Any:
    kind, choices = type(_default(field_)), field_.metadata["choices"]
    if value is None:  # `key:` with nothing behind it
        return _default(field_)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    is_text_map = isinstance(value, dict) and all(
        isinstance(t, str) for kv in value.items() for t in kv
    )
    if type(value) is not kind or (kind is dict and not is_text_map):
        shown = "" if field_.metadata["secret"] else f", not {value!r}"
        raise SettingsError(
            f"{origin}: {key} must be {_KINDS[kind]}{shown}", found=[field_.metadata["says"]]
        )
    if choices and value not in choices:
        raise SettingsError(f"{origin}: {key} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _default(field_: dataclasses.Field[Any]) -> Any:
    return field_.default if field_.default is not dataclasses.MISSING else {}


def _unknown(key: str, origin: str, known: list[str]) -> SettingsError:
    near = difflib.get_close_matches(key, [*known, *SECTIONS], n=1)
    section = key.partition(".")[0]
    same = [name for name in known if name.startswith(f"{section}.")] or ["workflows", *SECTIONS]
    return SettingsError(
        f"{origin}: there is no setting {key}",
        found=[f"there are: {', '.join(same)}"],
        tip=f"did you mean {near[0]}?"
        if near
        else "config/default.yaml of `fftasks init` shows them all",
    )


def _is_written_out(raw: Any) -> bool:
    texts = raw.values() if isinstance(raw, dict) else [raw]
    # an index or a path is no secret; a password in it is
    return any(isinstance(t, str) and t and "${" not in t and _may_be_secret(raw, t) for t in texts)


def _may_be_secret(raw: Any, text: str) -> bool:
    return not isinstance(raw, dict) or re.search(r"://[^/@\s]+@", text) is not None


def _substitute(value: Any, key: str, origin: str, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _substitute(item, key, origin, environ) for name, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, key, origin, environ) for item in value]
    if not isinstance(value, str):
        return value

    def take(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] not in environ:
            raise SettingsError(
                f"{origin}: {key} needs the environment variable {match[1]}, which is not set",
                tip=f"export {match[1]}=..., or write $${{ for a plain ${{",
            )
        return environ[match[1]]

    return re.sub(r"\$\$\{|\$\{(\w+)\}", take, value)


def _check_workflows(folder: Path, settings: Settings) -> None:
    origin = settings.origin("workflows")
    for file in settings.workflows:
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise SettingsError(f"{origin}: workflow {file!r} is outside the project's folder")
        if path.suffix != ".py":
            raise SettingsError(f"{origin}: workflow {file!r} is no Python file")
        if not path.is_file():
            raise SettingsError(
                f"{origin}: workflow {file!r} does not exist", tip=_suggest(folder, file)
            )


def _suggest(folder: Path, file: str) -> str:
    files = [path.relative_to(folder).as_posix() for path in (folder / file).parent.glob("*.py")]
    near = difflib.get_close_matches(file, files, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "paths are relative to the folder of dodo.py"
