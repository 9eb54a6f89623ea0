"""The cluster fingerprint of a node: a digest of all inputs that determine its result on the cluster.

It is computed before a run, so it contains the fingerprints of upstream nodes instead of their results.

piece                value
place                file, workflow and node, which the entry point in the container gets
function             the name of the function, and its file
code                 digest of the code that the function depends on
data                 digest of all data in the context, or
data <path>          digest of a file that the node declares by reads=
surroundings         digest of the image without the project: base, platform, requirements, runtime
version              the user's version=, instead of code, data and surroundings
constant <argument>  digest of an argument, and of the positions of nodes in it
env <name>           digest of an environment variable in the node's settings
input <name>         fingerprint of an upstream node, and the name of its output
after <node>         fingerprint of a node that must run before

Of the runtime, only the syntax of the modules that a pod runs counts (see fftasks.image.runtime). The version
of Python on this machine is not a piece, because the base contains its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fftasks.cache.fingerprint import name_function
from fftasks.config.node_settings import NodeSettings, list_env_pieces
from fftasks.records import Record, digest_json
from fftasks.runner.image_check import PROTOCOL

CLUSTER_FINGERPRINT_VERSION = 2


class ReadableFiles(Protocol):
    """The data that nodes may read in the image; see fftasks.image.project_recipe.ImageFiles."""

    def digest_all(self) -> str:
        """Return one digest of all data, "" if there is none."""

    def digest_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of the files that match patterns, by path; None without a match."""


@dataclass(frozen=True)
class ClusterFingerprint:
    """The fingerprint of one node.

    Attributes:
        digest: "sha256:…"; "" if an input has no stable digest, so that the node is never found in the cache.
        pieces: The pieces by name, see the module.
        parameters: Run parameters that the node or an upstream node gets. They determine the result too.
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
    """Return the fingerprints of the nodes of a workflow, by their ids in the graph record.

    Args:
        graph: The graph record.
        workflow: Name of the workflow.
        contents: The data in the image.
        surroundings: Digest of the image without the project's files.
        settings: Settings of nodes, by id; a missing node has the defaults.
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
