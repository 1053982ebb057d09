"""Which tags of an experiment have sums of their own: the first MOST_COUNTED values; the rest count as "other".

A tag once counted stays so, for a vote that comes later has to find the sums that its record is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.ingest.facts import RecordFacts
from proxy.store.tables.schema import tag_arms

__all__ = ["MOST_COUNTED", "OTHER", "TagNames", "names_of"]

MOST_COUNTED: Final = 50
"""Values, of all names together, of one experiment."""
OTHER: Final = "other"
"""The value that stands for all that came later."""


class TagNames:
    """The tags that are counted, as `name=value`, by experiment. New ones are added while there is room."""

    def __init__(self, known: dict[int, set[str]]) -> None:
        self._known = known

    def of(self, experiment_id: int, tags: Mapping[str, str]) -> Iterator[str]:
        """As what these tags count; each once."""
        known = self._known.setdefault(experiment_id, set())
        for name, value in tags.items():
            tag = f"{name}={value}"
            if tag not in known:
                if len(known) >= MOST_COUNTED:
                    tag = f"{name}={OTHER}"
                known.add(tag)
            yield tag


async def names_of(connection: AsyncConnection, counting: Iterable[RecordFacts]) -> TagNames | None:
    """What is known of the experiments of these records; None where none of them has a tag."""
    tagged = {record.experiment_id for record in counting if record.tags and record.experiment_id is not None}
    if not tagged:
        return None
    query = sa.select(tag_arms.c.experiment_id, tag_arms.c.tag).where(tag_arms.c.experiment_id.in_(tagged)).distinct()
    known: dict[int, set[str]] = {}
    for row in await connection.execute(query):
        known.setdefault(row.experiment_id, set()).add(row.tag)
    return TagNames(known)
