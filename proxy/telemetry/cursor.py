"""How far telemetry was sent: four places, one for each walk, kept in the lease's row, so that whoever takes the lease
goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.store.tables.keys import NO_ID, id_floor

__all__ = ["Cursor"]

_KEY: Final = "sent_until"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Everything up to these places was sent, or left out. Instants are Unix microseconds."""

    record: str
    """Id of a quick record."""
    slow: tuple[int, str]
    """End and id of a slow one."""
    vote: str
    """Id of a vote."""
    judged: tuple[int, str, str]
    """When a judge was asked, about which record, and which judge."""

    @classmethod
    def at(cls, at_us: int) -> Cursor:
        """Nothing from before `at_us`."""
        floor = id_floor(at_us)
        return cls(record=floor, slow=(at_us, NO_ID), vote=floor, judged=(at_us, NO_ID, ""))

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> Cursor | None:
        """From a lease's detail; None where nobody has sent anything, or it cannot be read."""
        try:
            record, slow, vote, judged = detail[_KEY]
            return cls(
                record=str(record),
                slow=(int(slow[0]), str(slow[1])),
                vote=str(vote),
                judged=(int(judged[0]), str(judged[1]), str(judged[2])),
            )
        except (KeyError, TypeError, ValueError, IndexError):
            return None

    def detail(self) -> dict[str, Any]:
        """For the lease's row."""
        return {_KEY: [self.record, list(self.slow), self.vote, list(self.judged)]}

    def further(self, other: Cursor) -> Cursor:
        """Of each place the one that is further on: no walk goes back."""
        return Cursor(
            record=max(self.record, other.record),
            slow=max(self.slow, other.slow),
            vote=max(self.vote, other.vote),
            judged=max(self.judged, other.judged),
        )
