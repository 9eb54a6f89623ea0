"""KFP's message classes, without kfp: what documents are parsed with before they are written.

JSON values as YAML, in blocks, sorted: what PyYAML writes, in a tenth of its time.

A pipeline of a thousand nodes is 70,000 scalars, and PyYAML's emitter, also the one in C, looks at each for
all that YAML can be. Here a text is plain if it can be nothing else in YAML 1.1 (PyYAML) and 1.2 (KFP's
server), and else in double quotes, as in JSON.

Documents of Kubeflow Pipelines: a pipeline, or a component as a pipeline of one task, as it reads them.

Placeholders of Kubeflow Pipelines and Kubernetes: what seems to hold one does not arrive as it is.

Refuse texts of a node's settings that KFP or Kubernetes would change on their way into a container.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.errors import SettingsError


@cache
def load_pipeline_spec_module() -> ModuleType:
    """Load the messages of a pipeline.

    The package kfp-pipeline-spec puts its one module into the namespace of kfp, so importing it the usual
    way executes kfp/__init__.py, the whole SDK (0.4 s and more). Its file needs protobuf only. Protobuf
    keeps one class per message, so it does not matter whether kfp is imported before or afterwards.
    """
    import importlib.util

    path = locate_module("kfp-pipeline-spec", "kfp/pipeline_spec/pipeline_spec_pb2.py")
    spec = importlib.util.spec_from_file_location("fftasks.pipeline._pipeline_spec_pb2", path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file always has both
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locate_module(distribution: str, path: str) -> Path:
    """Return where a file of an installed distribution is."""
    import importlib.metadata

    return Path(str(importlib.metadata.distribution(distribution).locate_file(path)))


_PLAIN = re.compile(r"(?:--?[A-Za-z]|[A-Za-z_/])[\w./@+-]*(?::[\w./@+-]+)*", re.ASCII)
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
# what YAML does not take as it is: controls, line and paragraph separators, byte order marks, no characters
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def format_yaml(value: Mapping[str, Any]) -> str:
    """Return a JSON object as a YAML document that every YAML parser reads alike.

    Raises ValueError for a number that JSON has not.
    """
    lines: list[str] = []
    _write_mapping(value, "", "", lines)
    return "\n".join([*(lines or ["{}"]), ""])


def _write_mapping(value: Mapping[str, Any], first: str, indent: str, lines: list[str]) -> None:
    """Write the items of a mapping; first: what stands before the first one, instead of the indent."""
    for key in sorted(value):
        _write(f"{first}{_format_text(key)}:", value[key], indent, lines)
        first = indent


def _write(head: str, value: Any, indent: str, lines: list[str]) -> None:
    if isinstance(value, str):
        lines.append(f"{head} {_format_text(value)}")
    elif isinstance(value, Mapping) and value:
        lines.append(head)
        _write_mapping(value, f"{indent}  ", f"{indent}  ", lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _write_list(value, indent, indent, lines)
    else:
        lines.append(f"{head} {_format_other(value)}")


def _write_list(value: list[Any], first: str, indent: str, lines: list[str]) -> None:
    for item in value:
        if isinstance(item, Mapping) and item:
            _write_mapping(item, f"{first}- ", f"{indent}  ", lines)
        elif isinstance(item, list) and item:
            _write_list(item, f"{first}- ", f"{indent}  ", lines)
        else:
            text = _format_text(item) if isinstance(item, str) else _format_other(item)
            lines.append(f"{first}- {text}")
        first = indent


@lru_cache(maxsize=4096)  # a document has few texts, often
def _format_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return _UNPRINTABLE.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _format_other(value: Any) -> str:
    if not isinstance(value, float):
        return json.dumps(value)
    text = json.dumps(value, allow_nan=False)
    # without a point it is a text in YAML 1.1
    return text if "." in text else text.replace("e", ".0e", 1)


Document = dict[str, Any]

MAX_DESCRIPTION = (
    1024  # characters, also of a name to show; see PipelineInfo in KFP's pipeline_spec.proto
)
_CONTINUED = "\n#              "  # how KFP's SDK writes and reads further lines of a description


def check_document(document: Document) -> None:
    """Parse a pipeline document as strictly as KFP's server does.

    Raises google.protobuf.json_format.ParseError; that is a bug of ours, not the user's.
    """
    from google.protobuf import json_format

    messages = load_pipeline_spec_module()
    # a Struct in PipelineSpec, which may be anything, parsed by the server only when the run starts
    rest = {key: value for key, value in document.items() if key != "deploymentSpec"}
    json_format.ParseDict(rest, messages.PipelineSpec())
    json_format.ParseDict(document["deploymentSpec"], messages.PipelineDeploymentConfig())


def make_info(name: str, shown: str, description: str) -> Document:
    """Return the pipelineInfo of a document; KFP's server has known its three fields since release 2.0.

    Args:
        name: Name that KFP's metadata and cache know the pipeline by.
        shown: Name to show, shortened to what KFP takes.
        description: Text to show; "" for none.
    """
    info = {"name": name, "displayName": _clean(shown)[:MAX_DESCRIPTION]}
    text = "\n".join(map(_clean, description.splitlines()))[:MAX_DESCRIPTION]
    return {**info, "description": text} if text else info


def format_document(document: Document, description: str, platform: Document | None = None) -> str:
    """Return a document as YAML, sorted, that every YAML parser reads alike.

    Args:
        document: Pipeline document.
        description: Text for the comment at the top, in whose third line KFP's SDK looks for it.
        platform: Second document, with the settings for Kubernetes; None or {} if there are none.
    """
    name = document["pipelineInfo"]["name"]
    said = _CONTINUED.join(map(_clean, description.splitlines()))
    head = f"# PIPELINE DEFINITION\n# Name: {name}\n# Description: {said}\n"
    second = f"---\n{format_yaml(platform)}" if platform else ""
    return f"{head}{format_yaml(document)}{second}"


def _clean(line: str) -> str:
    """Return a line without what YAML takes nowhere, comments included: controls and lone surrogates."""
    return "".join(c if c.isprintable() else " " for c in line)


def parse_documents(text: str) -> tuple[Document, Document]:
    """Return the pipeline in a text of format_document, and what is for Kubernetes ({} for nothing)."""
    import yaml

    # the parser in Python takes seconds for some hundred tasks
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document, *platform = yaml.load_all(text, Loader=loader)
    return document, platform[0] if platform else {}


PLACEHOLDER_REASON = "Kubernetes and KFP replace {{, $( and $$"

# KFP's launcher replaces {{...}} wherever it stands, and Kubernetes reads $(NAME) and $$ in everything that
# becomes an argument of a container, which a task with all its constants does (it is the driver's --task)
_PLACEHOLDER = re.compile(r"\{\{|\$\(|\$\$")


def is_passed_unchanged(value: Any) -> bool:
    """Tell whether a value reaches a container as it is, with all texts in it."""
    return is_text_passed_unchanged(_flatten(value))


def is_text_passed_unchanged(text: str) -> bool:
    """Tell whether a text reaches a container as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and not _PLACEHOLDER.search(text)


def _flatten(value: Any) -> str:
    # not the JSON: it escapes what is no text, and "{{" are also the braces of an empty dict in a dict
    if isinstance(value, Mapping):
        return "\n".join([*value, *map(_flatten, value.values())])
    if isinstance(value, list):
        return "\n".join(map(_flatten, value))
    return value if isinstance(value, str) else ""


def check_setting_placeholders(node: str, settings: NodeSettings, *names: str) -> None:
    """Raise SettingsError for a text that would not arrive as it is.

    Args:
        node: Name of the node, for the message.
        settings: What the node ends up with.
        names: Settings to look at; all of them if none is given.
    """
    for key, value in settings.to_json().items():
        if (not names or key in names) and not is_passed_unchanged(value):
            origins = sorted({o for k, o in settings.origins.items() if k.partition(".")[0] == key})
            raise SettingsError(
                f"{key} of node {node!r} would not arrive as it is",
                found=[", ".join(origins), PLACEHOLDER_REASON],
                tip="put it into a config map: config_map_env",
            )
