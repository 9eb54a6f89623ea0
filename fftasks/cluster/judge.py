"""Which tasks of a run will be computed, and why: what is made now, beside what is known of earlier runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.cluster.ingredients import Now
from fftasks.cluster.memory import Memory
from fftasks.record import Record, digest_json
from fftasks.settings.nodes import NodeSettings
from fftasks.stages import node as node_stage
from fftasks.stages.image import list_surroundings
from fftasks.stages.keys import Key
from fftasks.stages.reasons import explain_input, list_changed

_STATES = {
    "FAILED": "{it} failed in its last run",
    "CANCELED": "its last run was canceled",
    "DRIVER": "its driver failed in its last run",
    "OVER": "its last run ended before it",
}


@dataclass(frozen=True)
class Outlook:
    """What will become of a node.

    task: which runs it; computes: whether it will be run
    reasons: why, a sentence each; run_id: of the run that has its result, "" if it is computed
    is_kept: its group runs, and takes what it gave from the run before
    """

    node: str
    task: str
    computes: bool
    reasons: tuple[str, ...] = ()
    run_id: str = ""
    is_kept: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        state = {"computes": self.computes, "run_id": self.run_id, "kept": self.is_kept}
        return {"node": self.node, "task": self.task, **state, "reasons": self.reasons}


class Judge:
    """Says of each task whether it is computed, upstream first."""

    def __init__(
        self, now: Now, memory: Memory, keys: Mapping[str, Key], moved: Collection[str]
    ) -> None:
        self._now, self._memory, self._keys, self._moved = now, memory, keys, moved
        self._computed: set[str] = set()
        self._surroundings = list_surroundings(now.recipe)
        self._names = {i: now.graph["nodes"][i]["name"] for i in now.found}
        self._owners = {node: name for name, task in now.tasks.items() for node in task["nodes"]}

    def list_outlooks(self, task: str) -> list[Outlook]:
        """Return what will become of the nodes of a task."""
        key, nodes = self._keys[task], self._now.tasks[task]["nodes"]
        run_id = self._memory.finished.get(key.name, "") if key.asked else ""
        if not key.given and not self._computed.isdisjoint(key.upstream):
            run_id = ""
        if run_id:
            return [Outlook(self._names[node], task, False, (), run_id) for node in nodes]
        self._computed.add(task)
        reasons = {node: list(self._explain(node)) for node in nodes}
        kept = self._list_kept(task)
        blamed = next((n for n in nodes if reasons[n]), "")
        shared = f"shares a pod with {self._names[blamed]}" if blamed else ""
        shared = self._explain_pod(nodes) or shared or self._explain_run(task, key, len(nodes))
        return [
            Outlook(self._names[node], task, False, (shared,), is_kept=True)
            if self._names[node] in kept
            else Outlook(self._names[node], task, True, tuple(reasons[node] or [shared]))
            for node in nodes
        ]

    def _explain(self, node: str) -> Iterator[str]:
        """Yield why a node's task is computed, as far as it is the node's doing."""
        never = self._list_never(node)
        if never:
            yield from never
            return
        before = self._memory.nodes.get(self._names[node])
        if before is not None:
            yield from self._compare(node, before)
        elif self._owners[node] not in self._memory.tasks:
            yield "never ran there"
        elif not self._memory.nodes:
            yield "it ran there as something else, submitted from elsewhere"
        yield from self._list_upstream(node)

    def _list_kept(self, task: str) -> Collection[str]:
        return self._now.kept[task].nodes if task in self._now.kept else ()

    def _list_never(self, node: str) -> list[str]:
        """Return why a node is never taken from the cache, [] if it may be."""
        if not self._now.project.settings.kfp.caching:
            return ["setting kfp.caching is false"]
        if not self._now.settings.get(node, NodeSettings()).cache:
            return ["its setting cache is false"]
        return node_stage.list_unstable(self._now.graph["nodes"][node])

    def _compare(self, node: str, before: Record) -> Iterator[str]:
        now = self._now.describe(node)
        content = {**self._now.graph["nodes"][node], "values": now["values"]}
        pieces = {
            piece: digest
            for _kind, _digest, found in self._now.list_pieces(node)
            for piece, digest in found.items()
        }

        own = {each["name"] for each in content["parameters"].values()}

        def read(kind: str) -> Mapping[str, str] | None:
            return self._now.project.store.read_code(before["inputs"].get(kind, ""))

        for name in list_changed(before["inputs"], now["inputs"]):
            kind, _, rest = name.partition(" ")
            if name == "surroundings":
                yield from self._compare_surroundings()
            elif name == "place":
                yield "its name, file or workflow changed"
            elif kind in ("input", "after"):
                yield from self._compare_input(content, rest)
            elif kind == "parameter" and rest not in own and any(self._list_upstream(node)):
                continue  # it is a reason of theirs
            else:
                yield from explain_input(name, content, before, now["inputs"], pieces, read)

    def _compare_input(self, content: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield what became of an input, unless the node upstream is computed, which is said anyway."""
        sources = {needed["input"]: needed["node"] for needed in content["inputs"]}
        source = sources.get(name, name)
        if source not in self._names:
            yield f"input {name} is gone"
        elif self._owners[source] not in self._computed:
            yield f"upstream {self._names[source]} is not as it was in its last run"

    def _compare_surroundings(self) -> Iterator[str]:
        old = self._memory.surroundings
        names = list_changed(old, self._surroundings)
        words = {"base": "the base image", "build_env": "image.build_env", "runtime": "fftasks"}
        yield from (f"{words.get(name, name)} changed" for name in names)

    def _list_upstream(self, node: str) -> Iterator[str]:
        for other in self._now.graph["nodes"][node]["upstream"]:
            owner, name = self._owners[other], self._names[other]
            if owner in self._computed - {self._owners[node]}:
                is_kept = name in self._list_kept(owner)
                what = f"the pod of upstream {name} will run"
                yield what if is_kept else f"upstream {name} will be computed"

    def _explain_pod(self, nodes: Sequence[str]) -> str:
        """Return why the cache does not know nodes as they share a pod now; "" if they did before."""
        before = [self._memory.nodes.get(self._names[node]) for node in nodes]
        pods = {record.get("pod", "") for record in before if record is not None}
        if not pods or pods == {name_pod(nodes)}:
            return ""
        if len(nodes) == 1:
            changed = "has a pod of its own now"
        else:
            changed = f"shares a pod{'' if pods == {''} else ' with other nodes'} now"
        return f"it {changed}, and the cluster's cache has whole pods"

    def _explain_run(self, task: str, key: Key, count: int) -> str:
        """Return why a task of so many nodes is computed, none of which has changed."""
        if task in self._moved:
            return "its image was removed from the registry"
        if key.name in self._memory.unfinished:
            state = self._memory.unfinished[key.name]
            it = "it" if count == 1 else "its pod"  # in which most may have ended well
            return _STATES.get(state, "{it} has not finished there yet").format(it=it)
        if self._now.project.settings.image.pin == "pipeline":
            return "image.pin is pipeline, and there is another image"
        return "no run is known in which it has finished like this"


def name_pod(nodes: Sequence[str]) -> str:
    """Return a name for the pod that nodes share; "" for that of a node alone. nodes: their ids"""
    return digest_json(sorted(nodes))[7:23] if len(nodes) > 1 else ""
