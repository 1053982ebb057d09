"""What one dataset has that another has not: records by their lineages, counts, reasons and settings side by side.

Two lineages of a million records each are compared in several passes, each over a share of the ids, so that a few tens
of megabytes do.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.web.datasets.folder import DatasetFolder

__all__ = ["EXAMPLES", "RecordSets", "changed_settings", "compare_counts", "compare_records"]

EXAMPLES: Final = 20
"""Records that are named of each set; the newest."""
_PER_PASS: Final = 200_000
_ROW_BYTES: Final = 64
"""About what a row of a lineage weighs, at least."""


@dataclass(slots=True)
class RecordSets:
    """Records of two datasets: how many are new, gone and the same, and the newest of each."""

    new: int = 0
    gone: int = 0
    same: int = 0
    examples: dict[str, list[str]] = field(default_factory=lambda: {"new": [], "gone": [], "same": []})


def compare_records(former: DatasetFolder, later: DatasetFolder, passes: int | None = None) -> RecordSets | None:
    """By lineage; None where one of them has none. `passes`: how often both are read; by their sizes as a rule."""
    try:
        sizes = [(folder.path / "lineage.csv").stat().st_size for folder in (former, later)]
        passes = passes or 1 + max(sizes) // (_PER_PASS * _ROW_BYTES)
        found = RecordSets()
        for share in range(passes):
            before, after = (set(_share(folder.record_ids(), share, passes)) for folder in (former, later))
            for name, ids in (("new", after - before), ("gone", before - after), ("same", before & after)):
                setattr(found, name, getattr(found, name) + len(ids))
                newest = heapq.nlargest(EXAMPLES, (record_id.decode("ascii", "replace") for record_id in ids))
                found.examples[name] = heapq.nlargest(EXAMPLES, [*found.examples[name], *newest])
    except OSError:
        return None
    return found


def _share(ids: Iterable[bytes], share: int, of: int) -> Iterator[bytes]:
    """Every `of`-th of the ids, by the random end of a UUID."""
    return (record_id for record_id in ids if of == 1 or hash(record_id) % of == share)


def compare_counts(former: Mapping[str, Any], later: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of two mappings side by side: those of the later one first, in its order."""
    names = [*later, *(name for name in former if name not in later)]
    rows = [{"name": name, "former": former.get(name), "later": later.get(name)} for name in names]
    return [row for row in rows if row["former"] is not None or row["later"] is not None]


def changed_settings(former: Mapping[str, Any], later: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings that are not the same, by path; those of the training data first."""
    before, after = dict(_flat(former)), dict(_flat(later))
    paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    paths.sort(key=lambda path: (not path.startswith("generator_config."), path))
    return [{"name": path, "former": before.get(path), "later": after.get(path)} for path in paths]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
