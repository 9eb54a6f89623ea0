"""Keep secrets out of pipelines, runs and names that are sent to Kubeflow Pipelines.

Kubeflow Pipelines stores pipelines, runs and their names in plain text, and shows them to all its users. So
fftasks searches the arguments of nodes, run parameters, names and settings for secrets before it builds
anything, and searches the files and names again when it writes or sends them. The package image checks the
files of the image.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fftasks.config.node_settings import DEFAULT_PATTERN
from fftasks.errors import WorkflowError, suggest_name
from fftasks.project import Project
from fftasks.records import Record
from fftasks.secrets.scanner import hide_tokens
from fftasks.secrets.secret_names import is_secret_name, list_secret_settings, list_secret_variables
from fftasks.secrets.value_scanner import ValueScanner

_SHORTEST = 8  # characters of a setting's value: any text may contain a shorter value by chance
_SHOWN = 20  # secrets in a message
_NAMED = 5  # names in the hint
# Settings that are sent with a run, or are names in its image.
_SENT = (
    "kfp.run_name", "kfp.experiment", "kfp.labels", "kfp.namespace", "kfp.service_account",
    "kfp.pipeline_root", "registry.repository", "image.base", "image.tag",
)  # fmt: skip


class OutgoingSecret(NamedTuple):
    """A secret that would be sent to Kubeflow Pipelines.

    Attributes:
        name: Name that allows it in kfp.allow_tokens: "fetch.options", "parameter alpha", "kfp.run_name".
        where: File and line, or the source of the setting.
        place: Description of the value that contains it.
        kind: Kind of the token, or the name of the variable or setting that has this value.
        node: Name of the node, "" if it does not belong to a node.
        text: The secret itself; "" if the process that imports the file has found it.
    """

    name: str
    where: str
    place: str
    kind: str
    node: str = ""
    text: str = ""


def check_secrets(project: Project) -> None:
    """Raise WorkflowError, with the places of all secrets, if one would be sent to Kubeflow Pipelines."""
    found = [one for one in list_outgoing_secrets(project) if not is_allowed(project, one)]
    if found:
        raise _refuse(list({one[:4]: one for one in found}.values()))


def check_outgoing(project: Project, what: str, *values: Any) -> None:
    """Check values that are about to be written or sent for secrets.

    This is a second check for values that check_secrets() cannot see, such as compiled files.

    Args:
        project: The project.
        what: Description of the values, for the message.
        values: Texts and other values.

    Raises:
        WorkflowError: A value contains a secret that kfp.allow_tokens does not allow.
    """
    examiner = make_project_scanner(project)
    allowed = {
        _strip(one.text) for one in list_outgoing_secrets(project) if is_allowed(project, one)
    }
    texts = [one if isinstance(one, str) else json.dumps(one, default=str) for one in values]
    for text in texts:
        for kind, secret in examiner.find_in_text(text):
            if _strip(secret) not in allowed:
                raise WorkflowError(
                    f"{what} would contain a secret in plain text: {kind}",
                    tip="remove it from the workflow's file and from config/; if an older version of it"
                    " contained the secret, run `doit forget tasks pipeline components` and submit again",
                )


def list_outgoing_secrets(project: Project) -> list[OutgoingSecret]:
    """Return the secrets in arguments, run parameters, names and settings of a project."""
    examiner = make_project_scanner(project)
    return [
        *_list_recorded(project),
        *_list_values(project, examiner),
        *_list_parameters(project, examiner),
        *_list_settings(project, examiner),
    ]


def list_secret_warnings(project: Project) -> list[str]:
    """Return warnings about secrets in arguments, and about unused patterns in kfp.allow_tokens."""
    has_secrets = any(graph["secrets"] for graph in project.graphs)
    arguments = warn_of_secret_arguments(project) if has_secrets else []
    return [*arguments, *find_unused_allowances(project)]


def warn_of_secret_arguments(project: Project) -> list[str]:
    """Return a warning about secrets in arguments, for runs on this machine; [] if there are none."""
    found = [one for one in _list_recorded(project) if not is_allowed(project, one)]
    if not found:
        return []
    first, more = found[0], f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    message = (
        f"{first.where}: a secret in {first.place}: {first.kind}{more}; `doit submit` refuses it"
    )
    return [f"{message}: read it from the environment inside the function, and use secret_env"]


def find_unused_allowances(project: Project) -> list[str]:
    """Return a warning for each pattern in kfp.allow_tokens that matches no name."""
    patterns = project.settings.kfp.allow_tokens
    if not patterns:
        return []
    names = _list_allowable_names(project)
    origin = project.settings.origin("kfp.allow_tokens")
    return [
        f"{origin}: kfp.allow_tokens: no name matches {pattern!r}"
        + (f"; {near}" if (near := suggest_name(pattern, names)) else "")
        for pattern in patterns
        if not any(name == pattern or fnmatchcase(name, pattern) for name in names)
    ]


def _list_allowable_names(project: Project) -> list[str]:
    """Return all names that a pattern in kfp.allow_tokens can match."""
    names = [*_SENT, *(f"parameter {name}" for name in project.parameters)]
    for graph in project.graphs:
        for node in graph["nodes"].values():
            arguments = [one["name"] for one in node["arguments"]]
            for key, value in project.find_node_settings(node).to_json().items():
                inner = [f"{key}.{item}" for item in value] if isinstance(value, dict) else []
                arguments += [key, *inner]
            names += [f"{node['name']}.{one}" for one in (*arguments, "name")]
        for identity, argument, *_ in graph["secrets"]:
            names.append(f"{graph['nodes'][identity]['name']}.{argument}")
        for workflow in graph["workflows"].values():
            helps = (f"workflow.help of {one}" for one in workflow["parameters"])
            names += ["workflow.name", *helps]
    return list(dict.fromkeys(names))


def is_allowed(project: Project, secret: OutgoingSecret) -> bool:
    """Return whether kfp.allow_tokens allows a secret."""
    patterns = project.settings.kfp.allow_tokens
    return any(secret.name == p or fnmatchcase(secret.name, p) for p in patterns)


def make_project_scanner(project: Project) -> ValueScanner:
    """Return a scanner that finds tokens, and the values of secret settings and environment variables."""
    known = {
        value: f"the value of {name}" for name, value in list_secret_variables(os.environ).items()
    }
    for key, value in list_secret_settings(project.settings):
        if len(value) >= _SHORTEST:
            known[value] = f"the value of setting {key}"
    return ValueScanner(known)


def _list_recorded(project: Project) -> Iterator[OutgoingSecret]:
    """Yield the secrets that the child process found when it imported the user's file.

    Only that process sees all values.
    """
    for graph in project.graphs:
        for identity, argument, place, kind in graph["secrets"]:
            yield _describe_node_secret(
                graph, graph["nodes"][identity], argument, f"{argument}{place}", kind
            )


def _list_values(project: Project, examiner: ValueScanner) -> Iterator[OutgoingSecret]:
    """Yield the secrets in names, and in the constants that the pipeline would contain."""
    for graph in project.graphs:
        for node in graph["nodes"].values():
            for argument in node["arguments"]:
                value, name = argument.get("value"), argument["name"]
                for found in examiner.find(value, name) if value is not None else ():
                    place = f"{name}{found.place}"
                    yield _describe_node_secret(graph, node, name, place, found.kind, found.text)
            for kind, text in examiner.find_in_text(node["name"]):
                yield _describe_node_secret(graph, node, "name", "", kind, text)
        for name, workflow in graph["workflows"].items():
            texts = {"name": name}
            texts |= {f"help of {n}": p["help"] for n, p in workflow["parameters"].items()}
            for what, text in texts.items():
                for kind, secret in examiner.find_in_text(text):
                    where, place = f"{graph['file']}:{workflow['line']}", f"a workflow's {what}"
                    yield OutgoingSecret(f"workflow.{what}", where, place, kind, "", secret)


def _list_parameters(project: Project, examiner: ValueScanner) -> Iterator[OutgoingSecret]:
    """Yield the secrets in the values of run parameters."""
    for workflow in project.workflows:
        for name, value in project.list_values(workflow).items():
            for found in examiner.find(value, name):
                where = "command line" if name in project.given else "its default"
                place = f"run parameter {name}{found.place}"
                yield OutgoingSecret(f"parameter {name}", where, place, found.kind, "", found.text)


def _list_settings(project: Project, examiner: ValueScanner) -> Iterator[OutgoingSecret]:
    """Yield the secrets in the settings of nodes, and in settings that are sent with a run."""
    for workflow, graph in project.workflows.items():
        for identity, settings in project.list_settings(workflow).items():
            for key, value in settings.to_json().items():
                for item, text in value.items() if isinstance(value, dict) else [("", value)]:
                    for kind, secret in (
                        *_find_in_values(examiner, item, text),
                        *_find_in_env(key, item, text),
                    ):
                        name = f"{key}.{item}" if item else key
                        origins = settings.origins
                        place = origins.get(name) or origins.get(key, "config/")
                        node = graph["nodes"][identity]["name"]
                        shown = f"node {hide_tokens(node)!r}, setting {hide_tokens(name)}"
                        yield OutgoingSecret(f"{node}.{name}", place, shown, kind, node, secret)
    for key in _SENT:
        section, _, leaf = key.partition(".")
        value = getattr(getattr(project.settings, section), leaf)
        for kind, secret in _find_in_values(examiner, value):
            yield OutgoingSecret(
                key, project.settings.origin(key), f"setting {key}", kind, "", secret
            )


def _find_in_env(key: str, name: str, text: Any) -> Iterator[tuple[str, str]]:
    """Yield a value in nodes.*.env if the name of its variable looks like that of a secret.

    Short values, numbers, paths and Kubernetes references such as $(NAME) are not secrets.
    """
    if key != "env" or not is_secret_name(name) or len(text) < _SHORTEST:
        return
    if not text.isdigit() and not text.startswith(("/", "$(")):
        yield "a value of a variable that is named like a secret", text


def _find_in_values(examiner: ValueScanner, *values: Any) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each secret in strings and JSON values."""
    for value in values:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield from examiner.find_in_text(text)


def _describe_node_secret(  # noqa: PLR0913, PLR0917 - one parameter per field of the record
    graph: Record, node: Record, argument: str, place: str, kind: str, text: str = ""
) -> OutgoingSecret:
    """Return the description of a secret in an argument or in the name of a node.

    Args:
        graph: Graph record that contains the node.
        node: The node.
        argument: Name of the argument, or "name".
        place: Place of the secret in the argument, such as "options['key']"; "" for the node's name.
        kind: Kind of the secret.
        text: The secret itself.
    """
    name = hide_tokens(node["name"])
    what = f"node {name!r}, argument {place}" if place else f"a node's name, {name!r}"
    where = f"{graph['file']}:{node['line']}"
    return OutgoingSecret(f"{node['name']}.{argument}", where, what, kind, node["name"], text)


def _strip(secret: str) -> str:
    """Return a secret without line breaks and escapes, which differ if the secret is in a quoted string."""
    return re.sub(r"\\[nrt]?|\s", "", secret)


def _refuse(found: list[OutgoingSecret]) -> WorkflowError:
    """Return the error that lists secrets and says how to pass them safely, or how to allow them."""
    lines = [f"{one.where}: {one.place}: {one.kind}" for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    node = next((one.node for one in found if one.node), DEFAULT_PATTERN)
    kind = found[0].kind
    variable = kind.rpartition(" ")[2] if kind.startswith("the value of ") else "NAME"
    variable = variable if variable.isidentifier() else "NAME"
    snippet = (
        f"nodes: {{{json.dumps(hide_tokens(node))}: {{secret_env: {{{variable}: SECRET/KEY}}}}}}"
    )
    what = "a secret" if len(found) == 1 else f"{len(found)} secrets"
    names = list(dict.fromkeys(hide_tokens(one.name) for one in found))
    shown = [json.dumps(name, ensure_ascii=False) for name in names[:_NAMED]]
    allowed = f"[{', '.join(shown)}]"
    allowed += f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return WorkflowError(
        f"submit: {what} would be stored in Kubeflow Pipelines in plain text",
        found=lines,
        tip=f'read os.environ["{variable}"] inside the function, and let the cluster set it: {snippet}'
        f" in config/default.yaml; if it is not a secret: kfp.allow_tokens: {allowed}",
    )
