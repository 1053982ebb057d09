"""What one dataset has that another has not: records by their lineages, counts, reasons and settings side by side.

Of a lineage only the hashes of its record ids are kept, eight bytes each, so that two of a million records need no more
than some tens of megabytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge, nlargest
from itertools import groupby, islice
from typing import Any, Final

from proxy.web.datasets.folder import DatasetFolder

__all__ = ["EXAMPLES", "RecordSets", "changed_settings", "compare_counts", "compare_records"]

EXAMPLES: Final = 20
"""Records that are named of each set; the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSets:
    """Records of two datasets: how many are new, gone and the same, and the newest of each."""

    new: int
    gone: int
    same: int
    examples: Mapping[str, list[str]]
    """By `new`, `gone`, `same`."""


def compare_records(former: DatasetFolder, later: DatasetFolder) -> RecordSets | None:
    """By lineage; None where one of them has none."""
    try:
        states = [(folder.path / "lineage.csv").stat() for folder in (former, later)]
        return _compared(former, later, tuple((state.st_mtime_ns, state.st_size) for state in states))
    except OSError:
        return None


@lru_cache(maxsize=8)
def _compared(former: DatasetFolder, later: DatasetFolder, states: object) -> RecordSets:
    """`states` tells the files from what they were: of the same ones, the answer is kept."""
    before, after = _keys(former), _keys(later)
    same = _shared(before, after)
    examples = {
        "new": _newest(later, before, there=False),
        "gone": _newest(former, after, there=False),
        "same": _newest(later, before, there=True),
    }
    return RecordSets(new=len(after) - same, gone=len(before) - same, same=same, examples=examples)


def _keys(folder: DatasetFolder) -> array[int]:
    """64-bit hashes of the record ids, each once, in order: a million of them share one once in forty million times."""
    hashes: array[int] = array("q")
    for ids in folder.record_ids():
        hashes.extend(map(hash, ids))
    return array("q", (key for key, _ in groupby(sorted(hashes))))


def _shared(first: array[int], second: array[int]) -> int:
    """How many keys are in both."""
    return sum(1 for key, several in groupby(merge(first, second)) if len(list(several)) == 2)


def _newest(folder: DatasetFolder, keys: array[int], *, there: bool) -> list[str]:
    """The newest records of the folder that are among the keys, or are not."""
    newest: list[bytes] = []
    for ids in folder.record_ids():
        each = (name for name, _ in groupby(sorted(ids, reverse=True)))
        fitting = (name for name in each if _among(hash(name), keys) is there)
        newest = nlargest(EXAMPLES, {*newest, *islice(fitting, EXAMPLES)})
    return [name.decode("ascii", "replace") for name in newest]


def _among(key: int, keys: array[int]) -> bool:
    at = bisect_left(keys, key)
    return at < len(keys) and keys[at] == key


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
