"""Why a node or a stage runs, is reused or is skipped: the sentences of all commands and pages.

The reasons come from records: `cache.fingerprint` compares the inputs of nodes, and `stage` those of stages.
Commands, the history and pages get them from this module only, so that all use the same words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from fftasks.cache.fingerprint import list_node_reasons
from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.stage import Stage, list_stage_reasons

UP_TO_DATE = "up to date"
UPSTREAM_FAILED = "an upstream task failed"
REUSED_FROM_EARLIER_RUN = "result reused from an earlier run"
REUSED_FROM_LAST_RUN = "result reused from the last run"
REDACTED = "not shown"


def explain_node(project: Project, label: str, inputs: Mapping[str, str]) -> list[str]:
    """Return why a node must run, one sentence each. The result of the node must be missing.

    Args:
        project: Project of the node.
        label: Name of the node.
        inputs: Its current fingerprint inputs.
    """
    node, pieces = project.nodes[label].content, project.list_pieces(label)
    return list_node_reasons(node, inputs, project.store, pieces)


def explain_stage(stage: Stage) -> list[str]:
    """Return why a stage must run, one sentence each; [] if it is up to date.

    An error that prevents the comparison is the reason, because the stage will raise it when it runs.
    """
    try:
        return list_stage_reasons(stage)
    except FFTasksError as error:
        return [error.attempted]


def explain_upstream(names: Iterable[str]) -> list[str]:
    """Return the reasons of a task whose upstream tasks will run."""
    return [f"{name} will run" for name in names]


def explain_reuse(run_id: str = "") -> str:
    """Return why a node on the cluster is not computed.

    Args:
        run_id: ID of the run whose result KFP's cache returns; "" if the result of the last run is reused
            without the cache.
    """
    return f"result reused from run {run_id[:8]}" if run_id else REUSED_FROM_LAST_RUN


def summarize_reasons(reasons: Sequence[str], *, verbose: bool) -> str:
    """Return the first reason and the number of the others, or only the first if verbose lists the others."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 and not verbose else ""
    return f"{reasons[0]}{more}"


# reasons that contain no value, no name and no path
_PUBLIC_REASONS = frozenset({
    UP_TO_DATE, UPSTREAM_FAILED, REUSED_FROM_EARLIER_RUN,
    "never ran", "its result is gone or damaged", "its code changed", "its data changed",
    "the fingerprint algorithm changed", "the algorithm of this stage changed",
    "the base is to be looked at again", "a new run is asked for", "what context.allow lets in changed",
    "the patterns changed", "nobody has tried to import its workflows", "the record is damaged",
})  # fmt: skip
# prefixes of reasons that contain a value, a node or a file, with their replacements
_REASON_PREFIXES = {
    "parameter": "a run parameter changed",
    "env": "a variable of its environment changed",
    "data file": "a data file changed",
    "data": "a data file changed",
    "version": "its version changed",
    "function": "its function changed",
    "python": "Python changed",
    "requirements": "the requirements changed",
    "setting": "a setting changed",
    "constant": "a constant changed",
    "result of": "a result that it needs changed",
    "input": "a result that it needs changed",
}
# prefixes of the names of pieces of code; see codehash/
_CODE_PIECES = ("function ", "class ", "constant ", "names ")
_CODE_CHANGES = (
    " changed", " is used now", " is not used any more", " is new", " is not there any more",
)  # fmt: skip
_REASON_SUFFIXES = ("changed", "is new", "is gone", "was changed or removed")


def redact_reason(  # noqa: PLR0911 - one return for each kind of reason
    reason: str,
    *,
    arguments: Collection[str],
    upstream: Collection[str],
    names: Mapping[str, str],
    written: Collection[str],
) -> str:
    """Return a reason without values of the user, for pages with report.previews: false.

    Args:
        reason: Reason of a node or stage, as in the history; "; try N" may follow.
        arguments: Names of arguments that are in the signature of the function.
        upstream: Names of the upstream nodes.
        names: Name of each node -> name on the page.
        written: Names that are literals in the code.
    """
    text, again, number = reason.rpartition("; try ")
    if again and number.isdecimal():
        again = f"{again}{number}"
    else:
        text, again = reason, ""
    if not text or text in _PUBLIC_REASONS or _is_code_change(text, written):
        return f"{text}{again}"
    argument = text.removeprefix("constant ").partition(":")[0].removesuffix(" changed")
    if text.startswith("constant ") and argument in arguments:
        return f"constant {argument} changed{again}"
    for other in upstream:
        if text == f"result of {other} changed":
            return f"result of {names.get(other, 'a node')} changed{again}"
    for kind, said in _REASON_PREFIXES.items():
        if text.startswith((f"{kind} ", f"{kind}: ")):
            return f"{said}{again}"
    place, colon, _ = text.partition(".py: ")
    if colon and _is_path(place):
        return f"its code changed{again}"
    if " -> " in text.partition(": ")[2] or text.endswith(_REASON_SUFFIXES):
        return f"its inputs changed{again}"
    return REDACTED


def _is_code_change(reason: str, written: Collection[str]) -> bool:
    """Return whether a reason names code alone, such as "wf.py: names first, second changed"."""
    place, _, rest = reason.partition(".py: ")
    ending = next((ending for ending in _CODE_CHANGES if rest.endswith(ending)), "")
    rest = rest.removesuffix(ending)
    if not ending or not _is_path(place):
        return False
    kind = next((kind for kind in _CODE_PIECES if rest.startswith(kind)), "")
    if not kind:  # a function that was created while the graph was built: its name may be computed
        return rest == "statements" or rest.removesuffix("()") in written
    names = rest.removeprefix(kind).removesuffix("()").removesuffix(", ...").split(", ")
    return all(part.isidentifier() for name in names for part in name.split("."))


def _is_path(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "_./-" for letter in text)
