"""How large the workflow object of a run is, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.services.argo import Node
    from tests.services.kfp_run import Run


@dataclass(frozen=True)
class Size:
    """The size of one run's workflow object."""

    run: Run

    def is_compressed(self, nodes: dict[str, Node]) -> bool:
        """Say whether Argo compresses the states of these nodes."""
        return False
