"""The cluster fingerprint of a node: a digest of all that decides its result there.

It is known before a run, so it holds the fingerprints of the nodes upstream instead of what they give.

piece                value
place                file, workflow and node: what the entry point in the container is told
function             the name of the function, and the file in which it stands
code                 digest of the code that the function needs
data                 digest of all of the context that nodes may read, or
data <path>          digest of a file that the node says it reads
surroundings         digest of what the code stands on: base, platform, requirements, runtime
version              what the user gave instead of code, data and surroundings
constant <argument>  digest of an argument, and of the places that nodes have in it
env <name>           digest of a variable that the node's settings set
input <name>         fingerprint of an upstream node, and which of its outputs is taken
after <node>         fingerprint of a node that goes before

This machine's Python is none of them: the base has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fftasks.cache.fingerprint import name_function
from fftasks.config.node_settings import NodeSettings, list_env_pieces
from fftasks.records import Record, digest_json
from fftasks.runner.image_check import PROTOCOL

# Part of the fingerprint and not of the format of the state folder: the fingerprints are also stored outside of
# it, in images, in tags of the registry and in the cache keys of KFP. Increase it if their inputs change.
CLUSTER_FINGERPRINT_VERSION = 2


class ReadableFiles(Protocol):
    """Whoever knows what nodes may read in the image; see contents.py."""

    def digest_all(self) -> str:
        """Return the digest of all of it, "" if there is nothing."""

    def digest_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of what patterns name, by path; None for what is not there."""


@dataclass(frozen=True)
class ClusterFingerprint:
    """The fingerprint of one node.

    digest: "sha256:…", or "" if it can never be equal to another one: then nothing is known before a run
    pieces: what it is made of, by name
    parameters: the run parameters that reach the node; they decide its result as well
    """

    digest: str
    pieces: Mapping[str, str]
    parameters: frozenset[str] = frozenset()


def compute_cluster_fingerprints(
    graph: Record,
    workflow: str,
    contents: ReadableFiles,
    surroundings: str,
    settings: Mapping[str, NodeSettings],
) -> dict[str, ClusterFingerprint]:
    """Return the fingerprint of each node of a workflow, by its id in the graph record.

    settings: of nodes, by id; one that is not there has none
    """
    found: dict[str, ClusterFingerprint] = {}
    for identity in graph["workflows"][workflow]["nodes"]:
        node = graph["nodes"][identity]
        pieces = {
            "place": digest_json([graph["file"], workflow, node["name"], node["kind"]]),
            "function": name_function(node),
            **_list_own(node, contents, surroundings),
            **_list_constants(node),
            **list_env_pieces(settings.get(identity, NodeSettings())),
            **_list_upstream(node, found),
        }
        above = [found[other] for other in node["upstream"]]
        own = frozenset(parameter["name"] for parameter in node["parameters"].values())
        parameters = own.union(*(f.parameters for f in above))
        known = _is_stable(node) and all(other.digest for other in above)
        digest = digest_json([CLUSTER_FINGERPRINT_VERSION, PROTOCOL, pieces]) if known else ""
        found[identity] = ClusterFingerprint(digest, pieces, parameters)
    return found


def _list_own(
    node: Mapping[str, Any], contents: ReadableFiles, surroundings: str
) -> dict[str, str]:
    if node["version"]:
        return {"version": node["version"]}
    own = {"code": node["code"], "surroundings": surroundings}
    if node["reads"] is None:
        files = contents.digest_all()
        return {**own, "data": files} if files else own
    named = contents.digest_matching(node["reads"])
    return {**own, **{f"data {path}": digest or "missing" for path, digest in named.items()}}


def _list_constants(node: Mapping[str, Any]) -> dict[str, str]:
    return {f"constant {argument['name']}": argument["digest"] for argument in node["arguments"]}


def _list_upstream(
    node: Mapping[str, Any], found: Mapping[str, ClusterFingerprint]
) -> dict[str, str]:
    inputs = {
        f"input {needed['input']}": f"{found[needed['node']].digest} {needed['output']}"
        for needed in node["inputs"]
    }
    taken = {needed["node"] for needed in node["inputs"]}
    after = {f"after {o}": found[o].digest for o in node["upstream"] if o not in taken}
    return inputs | after


def _is_stable(node: Mapping[str, Any]) -> bool:
    return all(argument.get("stable", True) for argument in node["arguments"])
