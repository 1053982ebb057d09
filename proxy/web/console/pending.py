"""Votes given in the console that the store has not got yet, by record: what a person said last is known at once.

Votes go through the spool, so for a second or two, or while the store is away, it knows only what was said before. Who
takes something back then, in another tab, means the latest all the same. What is lost with this process is in the
spool: until ingest has it, a page that waits for it says so by the id that it holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from policies.ballots import FULL_TRUST
from proxy.clock import Clock
from proxy.store.ingest.words import hidden
from proxy.store.tables.values import VoteView
from proxy.web.votes import Vote

__all__ = ["PendingVotes"]

_MOST_RECORDS: Final = 10_000
"""That are remembered; those voted on longest ago go first."""
_KEPT_US: Final = 60_000_000
"""Remembered at least so long: another reader may hold what the store had said before."""


class PendingVotes:
    """Of one controller."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest_us = 0
        self._of: OrderedDict[str, list[VoteView]] = OrderedDict()

    def add(self, record_id: str, votes: Sequence[Vote], fids: Sequence[str]) -> None:
        """These were written down together, under these ids."""
        self._latest_us = max(int(self._clock.now() * 1e6), self._latest_us + 1)
        views = [_view(vote, fid, self._latest_us) for vote, fid in zip(votes, fids, strict=True)]
        self._of.setdefault(record_id, []).extend(views)
        self._of.move_to_end(record_id)
        while len(self._of) > _MOST_RECORDS:
            self._of.popitem(last=False)

    def waiting(self, record_id: str, stored: Sequence[VoteView]) -> list[VoteView]:
        """Those on a record that are not among its `stored` votes."""
        known = {vote.fid for vote in stored}
        kept, now_us = self._of.get(record_id, []), int(self._clock.now() * 1e6)
        kept = [vote for vote in kept if vote.fid not in known or now_us - vote.created_us < _KEPT_US]
        if kept:
            self._of[record_id] = kept
        else:
            self._of.pop(record_id, None)
        return [vote for vote in kept if vote.fid not in known]

    def joined(self, record_id: str, stored: Sequence[VoteView]) -> list[VoteView]:
        """All votes on a record in the order in which they were given, the stored ones and those on their way, with
        the comments that stand."""
        votes = sorted([*stored, *self.waiting(record_id, stored)], key=lambda vote: vote.fid)
        silent = hidden(votes)
        return [replace(vote, comment=None if vote.fid in silent else vote.comment or None) for vote in votes]


def _view(vote: Vote, fid: str, created_us: int) -> VoteView:
    """A vote as it will be stored. As in ingest, a null thumb takes everything back."""
    says = vote.says
    return VoteView(
        fid=fid,
        source=vote.source,
        feedback=says.get("feedback"),
        retracted="feedback" in says and says["feedback"] is None,
        comment=says.get("comment"),
        correction=says.get("correction"),
        quality_score=says.get("quality_score"),
        tags=vote.tags,
        created_us=created_us,
        effective=False,
        trust=FULL_TRUST,
    )
