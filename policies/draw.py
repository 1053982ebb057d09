"""Which questions a challenger is asked: drawn by chance from all that the champion has answered well, one a user.

Chance is a keyed hash, so that a check that was interrupted draws the same again. Nothing about an answer takes part:
questions chosen by how well the champion did have it look better than it is, and equal challengers worse (regression to
the mean). Of a user one question counts, as several of one user say less than they seem to.
"""

from __future__ import annotations

import heapq
from typing import Final, NamedTuple

from policies.assignment import unit_interval

__all__ = ["Draw", "Drawn"]

_UNITS: Final = b"unit:"
_RECORDS: Final = b"record:"


class Drawn(NamedTuple):
    """A question to ask."""

    place: float
    """In the order of all of them, [0, 1)."""
    record_id: str


class Draw:
    """Sees every candidate once, in any order, and keeps the `most` units that chance puts first; constant memory."""

    def __init__(self, salt: bytes, most: int) -> None:
        """`salt`: at most 64 bytes."""
        self._salt = salt
        self._most = most
        self._places: dict[str, float] = {}
        self._records: dict[str, tuple[float, str]] = {}
        """By unit: chance, and the record that it has chosen among those of the unit."""
        self._last: list[tuple[float, str]] = []
        """A heap of the units, whose first is the one with the highest place."""

    def see(self, record_id: str, user: int | None, conversation: int | None) -> None:
        """A candidate. Its unit is the user, else the conversation, else the record itself."""
        unit = f"u{user}" if user is not None else f"c{conversation}" if conversation is not None else record_id
        mine = (unit_interval(self._salt, _RECORDS + record_id.encode()), record_id)
        if unit in self._records:
            self._records[unit] = min(mine, self._records[unit])
            return
        place = unit_interval(self._salt, _UNITS + unit.encode())
        if len(self._records) < self._most:
            heapq.heappush(self._last, (-place, unit))
        elif self._last and place < -self._last[0][0]:
            _, out = heapq.heapreplace(self._last, (-place, unit))
            del self._records[out], self._places[out]
        else:
            return
        self._records[unit], self._places[unit] = mine, place

    def drawn(self) -> tuple[Drawn, ...]:
        """What is asked, in order."""
        return tuple(sorted(Drawn(self._places[unit], chosen[1]) for unit, chosen in self._records.items()))
