"""What differs between the contents of two records of the context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("files", "links", "folders")


@dataclass(frozen=True)
class Difference:
    """Paths, in order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def list_sentences(self) -> Iterator[str]:
        """Yield one sentence for each path, in the order of the paths."""
        said = {path: f"{path} is new" for path in self.added}
        said |= {path: f"{path} is gone" for path in self.removed}
        said |= {path: f"{path} changed" for path in self.changed}
        yield from (said[path] for path in sorted(said))


def find_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare files, links and empty folders; raise TypeError or LookupError for what is no record."""
    if all(old[part] == new[part] for part in PARTS):
        return Difference((), (), ())
    before, after = _index(old), _index(new)
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(
            sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
        ),
    )


def _index(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = [*record["files"], *record["links"], *([path] for path in record["folders"])]
    return {row[0]: row[1:] for row in rows}
