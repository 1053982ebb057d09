"""Whose scores say how good the answers are: the application's, else a judge's that counts, else the format check's.

What a drop is measured against, and by what, has to be of one kind: scores of a judge and format checks are not alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.loop.look.carriers import EvidenceReader
from proxy.store.store import Store

__all__ = ["QualityReader"]

_DAY_US: Final = 24 * 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReader:
    """Mean scores over time, of one kind of score."""

    store: Store
    clock: Clock
    evidence: EvidenceReader
    scored_by_application: bool = False
    """The settings say where the application's own scores are (`capture.quality_pointers`)."""

    async def source(self) -> str:
        """The scorer of the judge whose scores are meant, "" for those that the records have."""
        judge = await self.evidence.judged()
        if judge is None or not judge.counts or self.scored_by_application:
            return ""
        since_us = round(self.clock.now() * 1e6) - _DAY_US
        return "" if await self.store.judgements.people_score(since_us=since_us) else judge.scorer

    async def window(self, source: str, since_us: int, until_us: int) -> tuple[int, float | None]:
        """(scores, their mean) in the window, in Unix microseconds."""
        if source:
            return await self.store.judgements.window(source, since_us=since_us, until_us=until_us)
        return await self.store.traffic.quality_window(since_us, until_us)

    async def user_hour_means(self, source: str, hour_us: int) -> list[float]:
        """Mean score of each user in the hour that begins at `hour_us`."""
        if source:
            return await self.store.judgements.user_hour_means(source, hour_us)
        return await self.store.traffic.user_hour_means(hour_us)
