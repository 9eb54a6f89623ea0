"""Write, check and read pipeline documents, the intermediate representation (IR) YAML of Kubeflow Pipelines.

The YAML writer formats JSON values in block style, with sorted keys, as PyYAML does, in a tenth of its time.
A pipeline of a thousand nodes has 70,000 scalars, and PyYAML's emitter, also the one in C, checks each for
all forms of YAML. Here a string is plain if it can be nothing else in YAML 1.1 (PyYAML) and 1.2 (KFP's
server); other strings are in double quotes, as in JSON.
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

Document = dict[str, Any]

PLACEHOLDER_REASON = "Kubernetes and KFP replace {{, $( and $$"
# Maximum length in characters, also of a display name; see PipelineInfo in KFP's pipeline_spec.proto.
MAX_DESCRIPTION = 1024

_CONTINUED = "\n#              "  # how KFP's SDK writes and reads further lines of a description
_PLAIN = re.compile(r"(?:--?[A-Za-z]|[A-Za-z_/])[\w./@+-]*(?::[\w./@+-]+)*", re.ASCII)
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
# Characters that YAML does not accept unescaped: controls, line and paragraph separators, surrogates, byte
# order marks, noncharacters.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# KFP's launcher replaces {{...}} everywhere, and Kubernetes replaces $(NAME) and $$ in all arguments of a
# container. A task with all its constants is such an argument (the driver's --task).
_PLACEHOLDER = re.compile(r"\{\{|\$\(|\$\$")


@cache
def load_pipeline_spec_module() -> ModuleType:
    """Load the module with the protobuf messages of a pipeline, without kfp.

    The package kfp-pipeline-spec installs its module into the namespace of kfp, so a usual import executes
    kfp/__init__.py, the whole SDK (0.4 s and more). The file itself needs protobuf only. Protobuf keeps one
    class per message, so it does not matter whether kfp is imported before or afterwards.
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
    """Return the path of a file of an installed distribution."""
    import importlib.metadata

    return Path(str(importlib.metadata.distribution(distribution).locate_file(path)))


def format_yaml(value: Mapping[str, Any]) -> str:
    """Return a JSON object as a YAML document that every YAML parser reads alike.

    Raises:
        ValueError: The object contains NaN or an infinite number, which JSON does not have.
    """
    lines: list[str] = []
    _write_mapping(value, "", "", lines)
    return "\n".join([*(lines or ["{}"]), ""])


def _write_mapping(value: Mapping[str, Any], first: str, indent: str, lines: list[str]) -> None:
    """Write the items of a mapping.

    Args:
        value: The mapping.
        first: Text before the first item, instead of the indent.
        indent: Blanks before the other items.
        lines: Lines of the document; changed in place.
    """
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


@lru_cache(maxsize=4096)  # A document repeats few different strings.
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
    # YAML 1.1 reads a number with an exponent and without a point as a string.
    return text if "." in text else text.replace("e", ".0e", 1)


def check_document(document: Document) -> None:
    """Parse a pipeline document as strictly as KFP's server does.

    Raises:
        google.protobuf.json_format.ParseError: fftasks wrote an invalid document; this is a bug of fftasks.
    """
    from google.protobuf import json_format

    messages = load_pipeline_spec_module()
    # In PipelineSpec, deploymentSpec is a Struct without a schema. The server parses it when the run starts.
    rest = {key: value for key, value in document.items() if key != "deploymentSpec"}
    json_format.ParseDict(rest, messages.PipelineSpec())
    json_format.ParseDict(document["deploymentSpec"], messages.PipelineDeploymentConfig())


def make_info(name: str, shown: str, description: str) -> Document:
    """Return the pipelineInfo of a document, whose three fields KFP's server reads since release 2.0.

    Args:
        name: Name of the pipeline in KFP's metadata store and cache.
        shown: Display name, truncated to the maximum length.
        description: Description in the web UI of KFP, truncated to the maximum length; "" for none.
    """
    info = {"name": name, "displayName": _clean(shown)[:MAX_DESCRIPTION]}
    text = "\n".join(map(_clean, description.splitlines()))[:MAX_DESCRIPTION]
    return {**info, "description": text} if text else info


def format_document(document: Document, description: str, platform: Document | None = None) -> str:
    """Return a pipeline document as YAML with sorted keys that every YAML parser reads alike.

    Args:
        document: Pipeline document.
        description: Description for the comment at the top; KFP's SDK reads it from the third line.
        platform: Second document, with the settings for Kubernetes; None or {} if there are none.
    """
    name = document["pipelineInfo"]["name"]
    comment = _CONTINUED.join(map(_clean, description.splitlines()))
    head = f"# PIPELINE DEFINITION\n# Name: {name}\n# Description: {comment}\n"
    second = f"---\n{format_yaml(platform)}" if platform else ""
    return f"{head}{format_yaml(document)}{second}"


def _clean(line: str) -> str:
    """Return a line with blanks instead of controls and surrogates, which YAML forbids even in comments."""
    return "".join(c if c.isprintable() else " " for c in line)


def parse_documents(text: str) -> tuple[Document, Document]:
    """Return the two documents in a text of format_document; the one for Kubernetes is {} if missing."""
    import yaml

    # The parser in Python takes seconds for some hundred tasks.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document, *platform = yaml.load_all(text, Loader=loader)
    return document, platform[0] if platform else {}


def is_passed_unchanged(value: Any) -> bool:
    """Return whether KFP and Kubernetes pass a JSON value to a container without changing its strings."""
    return is_text_passed_unchanged(_flatten(value))


def is_text_passed_unchanged(text: str) -> bool:
    """Return whether KFP and Kubernetes pass a string to a container without changing it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and not _PLACEHOLDER.search(text)


def _flatten(value: Any) -> str:
    """Return all strings in a JSON value, joined by line breaks."""
    # Searching the JSON would be wrong: it escapes characters, and nested dictionaries contain "{{" too.
    if isinstance(value, Mapping):
        return "\n".join([*value, *map(_flatten, value.values())])
    if isinstance(value, list):
        return "\n".join(map(_flatten, value))
    return value if isinstance(value, str) else ""


def check_setting_placeholders(node: str, settings: NodeSettings, *names: str) -> None:
    """Check that KFP and Kubernetes pass the settings of a node to its container without changing them.

    Args:
        node: Name of the node, for the message.
        settings: Effective settings of the node.
        names: Names of the settings to check; all settings if none is given.

    Raises:
        SettingsError: A string contains a placeholder, a NUL character or a surrogate.
    """
    for key, value in settings.to_json().items():
        if (not names or key in names) and not is_passed_unchanged(value):
            origins = sorted({o for k, o in settings.origins.items() if k.partition(".")[0] == key})
            raise SettingsError(
                f"{key} of node {node!r} would not arrive as it is",
                found=[", ".join(origins), PLACEHOLDER_REASON],
                tip="put it into a config map: config_map_env",
            )
