"""What is stored of a record in tables beside its own: its aliases, and the scores that do not count. Pure, and every
record passes by here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies.kinds import TASK
from proxy.store.tables.keys import alias_hash, task_alias_hash
from proxy.store.tables.values import NewRecord

__all__ = ["alias_columns", "alias_hashes", "score_rows"]


def alias_hashes(record: NewRecord) -> list[int]:
    """A UI's message id stands for a turn, and its title and its tags carry the same one: votes are for the answer."""
    names = record.aliases
    if record.kind == TASK.name:
        return [task_alias_hash(name) for name in names]
    return [alias_hash(name) for name in names]


def alias_columns(records: Sequence[NewRecord]) -> dict[str, Sequence[Any]]:
    """The rows of `aliases`, by column."""
    hashes: list[int] = []
    ids: list[str] = []
    for record in records:
        for hashed in alias_hashes(record):
            hashes.append(hashed)
            ids.append(record.id)
    return {"hash": hashes, "id": ids}


def score_rows(records: Sequence[NewRecord]) -> list[dict[str, Any]]:
    """The rows of `scores`: without the score that counts, which is in the record's own row."""
    rows = []
    for record in records:
        scores, counts = record.scores, record.quality_source
        if len(scores) > (counts in scores):  # of hardly any record there are more
            rows += [
                {"record_id": record.id, "scorer": scorer, "score": score}
                for scorer, score in scores.items()
                if scorer != counts
            ]
    return rows
