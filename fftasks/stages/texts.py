"""Refuse texts of a node's settings that KFP or Kubernetes would change on their way into a container."""

from __future__ import annotations

from fftasks.errors import SettingsError
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.placeholder import REASON, is_carried


def check_texts(node: str, settings: NodeSettings, *names: str) -> None:
    """Raise SettingsError for a text that would not arrive as it is.

    Args:
        node: Name of the node, for the message.
        settings: What the node ends up with.
        names: Settings to look at; all of them if none is given.
    """
    for key, value in settings.to_json().items():
        if (not names or key in names) and not is_carried(value):
            origins = sorted({o for k, o in settings.origins.items() if k.partition(".")[0] == key})
            raise SettingsError(
                f"{key} of node {node!r} would not arrive as it is",
                found=[", ".join(origins), REASON],
                tip="put it into a config map: config_map_env",
            )
