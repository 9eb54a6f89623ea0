"""Keep secrets out of everything that leaves this machine but the image, for which the secret gate does it.

Kubeflow Pipelines stores pipelines, runs and their names in plain text, and shows them to all its users. So
before anything is built, arguments of nodes, run parameters, names and settings are looked through; and once
more the files and names themselves when they are written or sent.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fftasks.errors import WorkflowError
from fftasks.project import Project
from fftasks.record import Record
from fftasks.settings.nodes import DEFAULT_PATTERN
from fftasks.settings.secrets import list_secret_settings, list_secret_variables
from fftasks.stages.arguments import Examiner
from fftasks.stages.secret import hide_tokens

_SHORTEST = 8  # of a setting: a shorter value may be part of any text
_SHOWN = 20
# settings that are sent with a run, or are names in its image
_SENT = (
    "kfp.run_name", "kfp.experiment", "kfp.labels", "kfp.namespace", "kfp.service_account",
    "kfp.pipeline_root", "registry.repository", "image.base", "image.tag",
)  # fmt: skip


class Secret(NamedTuple):
    """A secret in what would be sent.

    Attributes:
        name: What kfp.allow_tokens takes: "fetch.options", "parameter alpha", "kfp.run_name".
        where: File and line, or setting.
        place: What it is found in, in words.
        kind: Kind of the token, or what the value is of.
        node: Name of the node, "" if it is in none.
        text: The secret itself, or "" where the process that imports the file has found it.
    """

    name: str
    where: str
    place: str
    kind: str
    node: str = ""
    text: str = ""


def check_secrets(project: Project) -> None:
    """Raise WorkflowError, with all places, if a secret would be sent to Kubeflow Pipelines."""
    found = [one for one in list_secrets(project) if not is_allowed(project, one)]
    if found:
        raise _refuse(list({one[:4]: one for one in found}.values()))


def check_outgoing(project: Project, what: str, *values: Any) -> None:
    """Raise WorkflowError if what is about to be written or sent has a secret in it.

    check_secrets says it earlier and better; this is for what it does not know of.

    Args:
        project: The project.
        what: Name of the values, for the message.
        values: Texts and other values.
    """
    examiner = make_examiner(project)
    allowed = {_strip(one.text) for one in list_secrets(project) if is_allowed(project, one)}
    texts = [one if isinstance(one, str) else json.dumps(one, default=str) for one in values]
    for text in texts:
        for kind, secret in examiner.find_in_text(text):
            if _strip(secret) not in allowed:
                raise WorkflowError(
                    f"{what} would hold a secret in plain text: {kind}",
                    tip="take it out of the workflow's file and of config/; if it is of an older version of"
                    " the workflow, `doit forget tasks pipeline components` and run again",
                )


def list_secrets(project: Project) -> list[Secret]:
    """Return the secrets in arguments, run parameters, names and settings of a project."""
    examiner = make_examiner(project)
    return [
        *_list_recorded(project),
        *_list_values(project, examiner),
        *_list_parameters(project, examiner),
        *_list_settings(project, examiner),
    ]


def warn_of_arguments(project: Project) -> list[str]:
    """Return a sentence about secrets in arguments, for runs on this machine; none if there are none."""
    found = [one for one in _list_recorded(project) if not is_allowed(project, one)]
    if not found:
        return []
    first, more = found[0], f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    said = f"{first.where}: a secret in {first.place}: {first.kind}{more}; `doit submit` refuses it"
    return [f"{said}: read it from the environment inside the function, and use secret_env"]


def is_allowed(project: Project, secret: Secret) -> bool:
    """Tell whether kfp.allow_tokens names a place."""
    patterns = project.settings.kfp.allow_tokens
    return any(secret.name == one or fnmatchcase(secret.name, one) for one in patterns)


def make_examiner(project: Project) -> Examiner:
    """Return what finds tokens, and the values of secret settings and variables of this process."""
    known = {
        value: f"the value of {name}" for name, value in list_secret_variables(os.environ).items()
    }
    for key, value in list_secret_settings(project.settings):
        if len(value) >= _SHORTEST:
            known[value] = f"the value of setting {key}"
    return Examiner(known)


def _list_recorded(project: Project) -> Iterator[Secret]:
    """Yield what the process has found that imports the file, which alone has all values."""
    for graph in project.graphs:
        for identity, argument, place, kind in graph["secrets"]:
            yield _place(graph, graph["nodes"][identity], argument, f"{argument}{place}", kind)


def _list_values(project: Project, examiner: Examiner) -> Iterator[Secret]:
    """Yield what is in constants that would be in the pipeline, and in names."""
    for graph in project.graphs:
        for node in graph["nodes"].values():
            for argument in node["arguments"]:
                value, name = argument.get("value"), argument["name"]
                for found in examiner.find(value, name) if value is not None else ():
                    place = f"{name}{found.place}"
                    yield _place(graph, node, name, place, found.kind, found.text)
            for kind, text in examiner.find_in_text(node["name"]):
                yield _place(graph, node, "name", "", kind, text)
        for name, workflow in graph["workflows"].items():
            texts = {"name": name}
            texts |= {f"help of {n}": p["help"] for n, p in workflow["parameters"].items()}
            for what, text in texts.items():
                for kind, secret in examiner.find_in_text(text):
                    where, place = f"{graph['file']}:{workflow['line']}", f"a workflow's {what}"
                    yield Secret(f"workflow.{what}", where, place, kind, "", secret)


def _list_parameters(project: Project, examiner: Examiner) -> Iterator[Secret]:
    for workflow in project.workflows:
        for name, value in project.list_values(workflow).items():
            for found in examiner.find(value, name):
                where = "command line" if name in project.given else "its default"
                place = f"run parameter {name}{found.place}"
                yield Secret(f"parameter {name}", where, place, found.kind, "", found.text)


def _list_settings(project: Project, examiner: Examiner) -> Iterator[Secret]:
    for workflow, graph in project.workflows.items():
        for identity, settings in project.list_settings(workflow).items():
            for key, value in settings.to_json().items():
                for item, text in value.items() if isinstance(value, dict) else [("", value)]:
                    named = examiner.find(text, item) if key == "env" else []
                    by_name = [(one.kind, one.text) for one in named]
                    for kind, secret in dict.fromkeys([*_find(examiner, item, text), *by_name]):
                        name = f"{key}.{item}" if item else key
                        origins = settings.origins
                        place = origins.get(name) or origins.get(key, "config/")
                        node = graph["nodes"][identity]["name"]
                        shown = f"node {hide_tokens(node)!r}, setting {hide_tokens(name)}"
                        yield Secret(f"{node}.{name}", place, shown, kind, node, secret)
    for key in _SENT:
        section, _, leaf = key.partition(".")
        for kind, secret in _find(examiner, getattr(getattr(project.settings, section), leaf)):
            yield Secret(key, project.settings.origin(key), f"setting {key}", kind, "", secret)


def _find(examiner: Examiner, *values: Any) -> Iterator[tuple[str, str]]:
    for value in values:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield from examiner.find_in_text(text)


def _place(  # noqa: PLR0913, PLR0917 - a secret has as many
    graph: Record, node: Record, argument: str, place: str, kind: str, text: str = ""
) -> Secret:
    """Return a secret of a node; place: "" for one in its name."""
    name = hide_tokens(node["name"])
    what = f"node {name!r}, argument {place}" if place else f"a node's name, {name!r}"
    where = f"{graph['file']}:{node['line']}"
    return Secret(f"{node['name']}.{argument}", where, what, kind, node["name"], text)


def _strip(secret: str) -> str:
    """Return a secret without what differs where it stands in quotes: line breaks and escapes."""
    return re.sub(r"\\[nrt]?|\s", "", secret)


def _refuse(found: list[Secret]) -> WorkflowError:
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
    allowed = json.dumps(hide_tokens(found[0].name), ensure_ascii=False)
    return WorkflowError(
        f"submit: {what} would be stored in Kubeflow Pipelines in plain text",
        found=lines,
        tip=f'read os.environ["{variable}"] inside the function, and let the cluster set it: {snippet}'
        f" in config/default.yaml; if it is no secret: kfp.allow_tokens: [{allowed}]",
    )
