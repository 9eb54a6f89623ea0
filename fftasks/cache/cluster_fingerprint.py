"""Compute the cluster fingerprint of a node: the digest of all inputs that decide its result on the cluster.

It is known before a run, so it contains the fingerprints of upstream nodes instead of their results.

piece                value
place                file, workflow and node: arguments of the entry point in the container
function             the name of the function, and its file
code                 digest of the code that the function needs
data                 digest of all files of the context that nodes may read, or
data <path>          digest of a file that the node says it reads
surroundings         digest of base image, platform, requirements and runtime
version              the user's version=, which replaces code, data and surroundings
constant <argument>  digest of an argument, and of the positions of nodes in it
env <name>           digest of an environment variable that the node's settings set
input <name>         fingerprint of an upstream node, and the name of the output
after <node>         fingerprint of a node that must run before, without an input

The Python version of this machine does not count, because the base image has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fftasks.cache.fingerprint import name_function
from fftasks.config.node_settings import NodeSettings, list_env_inputs
from fftasks.records import Record, digest_json
from fftasks.runner.image_check import IMAGE_CHECK_PROTOCOL

# Part of the fingerprint and not of the format of the state folder: the fingerprints are also stored outside
# of it, in images, in tags of the registry and in the cache keys of KFP. Increase it if their inputs change.
CLUSTER_FINGERPRINT_VERSION = 2


class ReadableFiles(Protocol):
    """Source of the digests of the files that nodes may read in the image."""

    def digest_all(self) -> str:
        """Return the digest of all files; "" if there are none."""

    def digest_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of the files that match patterns; None for a pattern without files."""


@dataclass(frozen=True)
class ClusterFingerprint:
    """The cluster fingerprint of one node.

    Attributes:
        digest: "sha256:…", or "" if an argument has no stable digest, so that the node must always run.
        pieces: Inputs of the digest, by the names in the table of this module.
        parameters: Names of the run parameters that reach the node; they also decide its result.
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
    """Return the cluster fingerprint of each node of a workflow, by its id in the graph record.

    Args:
        graph: Graph record.
        workflow: Name of the workflow.
        contents: Source of the digests of the files in the image.
        surroundings: Digest of base image, platform, requirements and runtime.
        settings: Settings of nodes, by id. A missing node has the default settings.
    """
    found: dict[str, ClusterFingerprint] = {}
    for identity in graph["workflows"][workflow]["nodes"]:
        node = graph["nodes"][identity]
        pieces = {
            "place": digest_json([graph["file"], workflow, node["name"], node["kind"]]),
            "function": name_function(node),
            **_list_own(node, contents, surroundings),
            **_list_constants(node),
            **list_env_inputs(settings.get(identity, NodeSettings())),
            **_list_upstream(node, found),
        }
        above = [found[other] for other in node["upstream"]]
        own = frozenset(parameter["name"] for parameter in node["parameters"].values())
        parameters = own.union(*(f.parameters for f in above))
        known = _is_stable(node) and all(other.digest for other in above)
        digest = (
            digest_json([CLUSTER_FINGERPRINT_VERSION, IMAGE_CHECK_PROTOCOL, pieces])
            if known
            else ""
        )
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
