"""Read the previews, metrics, documents and pictures of a run on the cluster for its page.

Previews, types and metrics are metadata of artifacts. Texts, pages and pictures are separate artifacts, which
the pod of a node writes if its component declares them; they are downloaded once. Results themselves are
neither downloaded nor unpickled here. If a store cannot be reached, the page says so and shows the rest.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.cluster.account import Account, list_seconds, read_accounts
from fftasks.cluster.bring import bring_known
from fftasks.cluster.details import Executions
from fftasks.cluster.memory import note_run
from fftasks.cluster.run import ClusterRun
from fftasks.errors import FFTasksError, SettingsError
from fftasks.page.documents import (
    LARGEST_FILE,
    Pages,
    choose_numbers,
    draw_classification,
    make_pages,
    read_text,
)
from fftasks.page.local import find_metrics
from fftasks.page.shared import part_html, part_markdown, part_numbers
from fftasks.ports.kfp_metadata import Output, read_executions
from fftasks.ports.mounted_buckets import TooLargeError
from fftasks.ports.object_store import UnreachableError
from fftasks.project import Project
from fftasks.runtime.show import FILES

_OWN = frozenset({"display_name", "store_session_info"})  # properties that are KFP's own
_PREFIX = "metric "  # of a number that no component has declared; see runtime/executor_input.py
_TEXTS = ("markdown", "html")  # outputs that are files to show
_MOST = 40  # files that are brought for one page
_MOST_NAMES = 5
# beginnings of the previews of pictures and figures
_BEGINNINGS = ("<Figure", "<PIL.", "<IPython", r"b'\x89PNG", r"b'\xff\xd8\xff", "b'GIF8")
_UNDECLARED = (
    "Not shown: the pictures that {names} returned, as the components do not declare a page for them;"
    ' write @workflow(shows=["html"]).'
)
_PAUSE_S = 60.0
_NO_WAY = (
    "Results and metrics are not shown: kfp.host does not lead to the metadata store, as the address of"
    " Kubeflow Pipelines' pages does."
)
# a store that did not answer a moment ago is not asked again: the board asks each second
_silent: dict[str, tuple[float, UnreachableError]] = {}
_ended: dict[str, dict[str, dict[str, Output]]] = {}
_latest: dict[str, Executions] = {}  # what the metadata store said last of runs
_large: set[tuple[str, str]] = set()  # runs and URIs of files that are too large to be shown
_noted: set[str] = set()  # runs whose times are known to the next grouping


@dataclass(frozen=True)
class Shown:
    """What is shown of a node: what is told of it, None for nothing, and pages."""

    account: Account | None = None
    pages: Pages = field(default_factory=Pages)


def show_outputs(project: Project, run: ClusterRun) -> tuple[dict[str, Shown], str]:
    """Return what is shown of the nodes of a run, and what the reader must know of what is missing."""
    try:
        outputs = _read(project, run)
    except FFTasksError as error:
        return {}, f"Results and metrics are not shown: {error}"
    if outputs is None:
        return {}, _NO_WAY
    files, notice = _bring_files(project, run, outputs)
    accounts, shown = read_accounts(run, outputs), {}
    if outputs and run.is_over and run.run_id not in _noted:
        note_run(project, run, list_seconds(run, accounts))
        _noted.add(run.run_id)
    for node, task in run.nodes.items():
        given = outputs.get(task.name, {})
        if len(task.nodes) == 1 and given:
            pages = _make_pages(given, files.get(task.name, {}))
            shown[node] = Shown(accounts.get(node), pages)
        elif given and task.nodes[0] == node:
            shown |= _show_all(task.nodes, given, files.get(task.name, {}), accounts)
    return shown, "\n".join(filter(None, [notice, _tell_undeclared(run, outputs, shown)]))


def add_executions(run: ClusterRun) -> ClusterRun:
    """Return a run with what the metadata store has said of its tasks when its outputs were shown."""
    known = _latest.get(run.run_id)
    return run if known is None else dataclasses.replace(run, executions=known)


def list_metrics(project: Project, run: ClusterRun) -> dict[str, float]:
    """Return the metrics of a run, by node and name; none if nobody tells them."""
    try:
        outputs = _read(project, run) or {}
    except FFTasksError:
        return {}
    found = {}
    for task in run.tasks:
        for name, value in _find_numbers(outputs.get(task.name, {})).items():
            found[name if len(task.nodes) > 1 else f"{task.nodes[0]} {name}".strip()] = value
    return found


def _read(project: Project, run: ClusterRun) -> dict[str, dict[str, Output]] | None:
    if not project.settings.report.previews:
        return {}
    if run.run_id in _ended:
        return _ended[run.run_id]
    executions = read_executions(project.settings.kfp, run.run_id)
    if executions is None:
        return None
    _latest[run.run_id] = executions
    outputs = {name: dict(one.outputs) for name, one in executions.items()}
    if run.is_over:
        _ended[run.run_id] = outputs
    return outputs


def _make_pages(given: Mapping[str, Output], files: Mapping[str, str]) -> Pages:
    drawn = (
        draw_classification(given["classification"].properties) if "classification" in given else ""
    )
    pages = make_pages({**files, **({"classification.html": drawn} if drawn else {})})
    return dataclasses.replace(pages, metrics=_find_numbers(given))


def _show_all(
    nodes: Sequence[str],
    given: Mapping[str, Output],
    files: Mapping[str, str],
    accounts: Mapping[str, Account],
) -> dict[str, Shown]:
    """Return what is shown of nodes that share a task."""
    numbers = part_numbers(nodes, _find_numbers(given))
    texts = part_markdown(nodes, files.get(FILES["markdown"], ""))
    pages = part_html(nodes, files.get(FILES["html"], ""))
    drawn = given["classification"].properties if "classification" in given else {}
    shown = {}
    for node in nodes:
        page, *others = pages.get(node, [""])
        own = {FILES["markdown"]: texts.get(node, ""), FILES["html"]: page}
        if drawn.get("display_name") == f"{node} (classification)" and not others:
            others = [draw_classification(drawn)]
        own["classification.html"] = "".join(others)
        found = make_pages({name: text for name, text in own.items() if text})
        account = accounts.get(node)
        metrics = numbers.get(node) or find_metrics(account.preview if account else "")
        shown[node] = Shown(account, dataclasses.replace(found, metrics=metrics))
    return shown


def _find_numbers(given: Mapping[str, Output]) -> dict[str, float]:
    """Return the metrics of a task: those that it declared, and the numbers that its result is."""
    numbers: dict[str, Any] = {}
    if "result" in given:
        properties = given["result"].properties
        numbers |= find_metrics(str(properties.get("preview", "")))
        numbers |= {
            k.removeprefix(_PREFIX): v for k, v in properties.items() if k.startswith(_PREFIX)
        }
    if "metrics" in given:
        numbers |= {k: v for k, v in given["metrics"].properties.items() if k not in _OWN}
    return choose_numbers(numbers)


def _bring_files(
    project: Project, run: ClusterRun, outputs: Mapping[str, Mapping[str, Output]]
) -> tuple[dict[str, dict[str, str]], str]:
    """Return the texts and pages of tasks, by the names of their files, and what keeps some away."""
    wanted = [
        (task.name, kind)
        for task in run.tasks
        for kind in _TEXTS
        if kind in outputs.get(task.name, {})
    ]
    found: dict[str, dict[str, str]] = {}
    refused: list[str] = []
    left = f"{len(wanted) - _MOST} more texts and pages are on the page of Kubeflow Pipelines."
    large: list[str] = []
    for name, kind in wanted[:_MOST]:
        try:
            path = _bring(project, run, name, kind, outputs[name][kind].uri)
        except (UnreachableError, SettingsError) as error:  # noqa: PERF203
            return found, f"Texts, pages and pictures are not shown: {error}"
        except TooLargeError:
            large.append(f"{kind} of {name}")
        except FFTasksError as error:
            refused.append(str(error))
        else:
            found.setdefault(name, {})[FILES[kind]] = read_text(path)
    notices = [f"Not shown, as it is too large: {', '.join(large)}."] if large else []
    notices += [f"A text, page or picture is not shown: {one}" for one in refused[:_MOST_NAMES]]
    if len(refused) > _MOST_NAMES:
        notices.append(f"{len(refused) - _MOST_NAMES} more are not shown either.")
    return found, "\n".join([*notices, *([left] if len(wanted) > _MOST else [])])


def _bring(project: Project, run: ClusterRun, task: str, output: str, uri: str) -> Path:
    """Return the file here that has an output.

    Raises:
        UnreachableError: The store did not answer, now or a moment ago.
        FFTasksError: The output is refused, or missing.
    """
    if (run.run_id, uri) in _large:
        raise TooLargeError(f"{output} of {task} is too large")
    place = uri.partition("://")[0] + repr(project.settings.object_store)
    if place in _silent and time.monotonic() < _silent[place][0]:
        raise _silent[place][1]
    one = next(one for one in run.tasks if one.name == task)
    try:
        return bring_known(project, run, one, output, uri, LARGEST_FILE)
    except TooLargeError:
        _large.add((run.run_id, uri))
        raise
    except UnreachableError as error:
        _silent[place] = (time.monotonic() + _PAUSE_S, error)
        raise


def _tell_undeclared(
    run: ClusterRun, outputs: Mapping[str, Mapping[str, Output]], shown: Mapping[str, Shown]
) -> str:
    """Return a note that names the nodes that returned pictures but declare no HTML output."""
    names = [
        node
        for node, one in shown.items()
        if one.account
        and one.account.preview.startswith(_BEGINNINGS)
        and "html" not in outputs.get(run.nodes[node].name, {})
    ]
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return _UNDECLARED.format(names=", ".join(names[:_MOST_NAMES]) + more)
