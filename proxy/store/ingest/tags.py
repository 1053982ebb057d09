"""Which tags of an experiment have sums of their own; the rest of a name's values count as its "other".

Values come from clients, so none may use up the room of others: each name has room for MOST_COUNTED values, a unit of
evidence (a user, or the cluster of those who only claim to be one) brings at most MOST_OF_ONE of them, and records
without a user, of which each is a unit, bring values only until half of the room is taken.

A vote that comes later has to find the sums that its record is in. So a tag once counted stays so, and a unit that had
a value counted as "other" has all that is new from it counted there: nobody knows any more which value it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.kept import KeptStatement
from proxy.store.ingest.facts import RecordFacts
from proxy.store.tables.schema import tag_arms, tag_users

__all__ = ["MOST_COUNTED", "MOST_OF_ONE", "OTHER", "TagNames", "names_of"]

MOST_COUNTED: Final = 50
"""Values of each name in one experiment."""
MOST_OF_ONE: Final = 10
"""Values of each name that one unit of evidence may be the first to have."""
OTHER: Final = "other"
"""The value that stands for all others of its name."""
_CHUNK: Final = 500
_KNOWN: Final = KeptStatement(
    lambda given: (
        sa.select(tag_arms.c.experiment_id, tag_arms.c.tag)
        .where(given.among("experiments", tag_arms.c.experiment_id))
        .distinct()
    )
)
_OF_UNITS: Final = KeptStatement(
    lambda given: (
        sa.select(tag_users.c.experiment_id, tag_users.c.user_key, tag_users.c.tag)
        .where(given.among("experiments", tag_users.c.experiment_id), given.among("units", tag_users.c.user_key))
        .distinct()
    )
)


class TagNames:
    """The tags that are counted, as `name=value`, by experiment. New ones are added while there is room."""

    def __init__(self, known: Iterable[tuple[int, str]], of_units: Iterable[tuple[int, int, str]]) -> None:
        """Experiment and tag; experiment, unit and tag."""
        self._known = set(known)
        own = ((experiment_id, *_parts(tag)) for experiment_id, tag in self._known)
        self._counts = Counter((experiment_id, name) for experiment_id, name, value in own if value != OTHER)
        self._of_units: dict[tuple[int, int], set[str]] = {}
        for experiment_id, unit, tag in of_units:
            self._of_units.setdefault((experiment_id, unit), set()).add(tag)

    def of(self, record: RecordFacts) -> Iterator[str]:
        """As what the tags of a record of an experiment count; each once."""
        assert record.experiment_id is not None
        mine = self._of_units.setdefault((record.experiment_id, record.unit), set())
        for name, value in (record.tags or {}).items():
            tag, other = f"{name}={value}", f"{name}={OTHER}"
            if tag not in mine and (other in mine or not self._has_room(record, name, tag, mine)):
                tag = other
            mine.add(tag)
            if (key := (record.experiment_id, tag)) not in self._known:
                self._known.add(key)
                self._counts[record.experiment_id, name] += tag != other
            yield tag

    def _has_room(self, record: RecordFacts, name: str, tag: str, mine: set[str]) -> bool:
        """Whether the tag is counted, or may be from now on."""
        assert record.experiment_id is not None
        if (record.experiment_id, tag) in self._known:
            return True
        nobody = record.user_hash is None and not record.claimed
        room = MOST_COUNTED // 2 if nobody else MOST_COUNTED
        brought = sum(_parts(one)[0] == name for one in mine)
        return brought < MOST_OF_ONE and self._counts[record.experiment_id, name] < room


def _parts(tag: str) -> tuple[str, str]:
    name, _, value = tag.partition("=")
    return name, value


async def names_of(connection: AsyncConnection, counting: Iterable[RecordFacts]) -> TagNames | None:
    """What is known of the experiments of these records; None where none of them has a tag."""
    tagged = [record for record in counting if record.tags and record.experiment_id is not None]
    if not tagged:
        return None
    experiments = {record.experiment_id for record in tagged if record.experiment_id is not None}
    known = [(row[0], row[1]) for row in await _KNOWN.rows(connection, experiments=sorted(experiments))]
    units = sorted({record.unit for record in tagged})
    of_units: list[tuple[int, int, str]] = []
    for start in range(0, len(units), _CHUNK):
        some = units[start : start + _CHUNK]
        rows = await _OF_UNITS.rows(connection, experiments=sorted(experiments), units=some)
        of_units += [(row[0], row[1], row[2]) for row in rows]
    return TagNames(known, of_units)
