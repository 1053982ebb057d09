"""Votes that the controller itself writes down: those of people who look at the console.

They go the way of all votes, through this host's spool and its ingest: so they are counted once, in the order in which
they were given, and are there again where the database has to be fed anew. The writer is made for the first vote: who
never votes here has no spool for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policies.ballots import FULL_TRUST
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.ids import RecordIds
from proxy.spool import SpoolWriter
from proxy.web.ballot_box import BallotBox, Entries
from proxy.web.responses import ApiError
from proxy.web.votes import Vote

if TYPE_CHECKING:
    from proxy.cleaning.cleaner import Cleaner

__all__ = ["OwnVotes"]

_CLEANED_S: Final = 2.0

_log = logging.getLogger(__name__)


class OwnVotes:
    """Of one controller. They are believed as those of the token's holders are, and no record is too old for them."""

    def __init__(self, config: Config, spool: Path, ids: RecordIds, clock: Clock) -> None:
        """`spool` is the folder of this host's spool."""
        self._config = config
        self._root = spool
        self._clock = clock
        self._writer: SpoolWriter | None = None
        self._cleaner: Cleaner | None = None
        self._closed = False
        ages = replace(config.feedback, max_age_days=inf)
        self._cleans = config.capture.redaction.cleans
        self._box = BallotBox(ages, self, ids, self, clock, self._clean if self._cleans else None)

    async def write(self, votes: Sequence[Vote]) -> list[str]:
        """Write them down together; returns their ids. Raises ApiError where they cannot be kept."""
        await self._refuse_covered_names({vote.source for vote in votes})
        groups: list[Entries] = []
        for checked in await self._box.check(votes, FULL_TRUST):
            if isinstance(checked, ApiError):
                raise checked
            groups.append(checked)
        return await self._box.keep(groups)

    async def _refuse_covered_names(self, sources: set[str]) -> None:
        """Redacted, several people's names may be one: the votes of one would take the place of another's."""
        if not self._cleans:
            return
        for source in sources:
            if await self._clean([source]) not in (None, [source]):
                message = "capture.redaction covers this name; take one that it leaves alone, like your first name"
                raise ApiError(422, message, field="who")

    def append_synced(self, frame: bytes) -> bool:
        """As a spool; it begins with the first frame."""
        if self._closed:
            return False
        if self._writer is None:
            self._writer = SpoolWriter(self._root, self._config.spool, clock=self._clock)
        return self._writer.append_synced(frame)

    def add(self, name: str, amount: float = 1.0) -> None:
        """As counters: those of requests, of which these votes are none."""

    async def _clean(self, texts: Sequence[str]) -> list[str] | None:
        if self._cleaner is None:
            from proxy.cleaning.cleaner import Cleaner

            redaction = self._config.capture.redaction
            self._cleaner = Cleaner(redaction, self._lost, most_decoded=self._config.capture.max_decoded_bytes)
        return await self._cleaner.texts(texts)

    def _lost(self, slot: str) -> None:
        _log.warning("the words of a vote given in the console could not be redacted (%s): it was refused", slot)

    async def close(self) -> None:
        """Sync what is written and let the spool go, so that its rest can be stored. Further votes are refused."""
        self._closed = True
        if self._cleaner is not None:
            await self._cleaner.close(_CLEANED_S)
        if self._writer is not None:
            self._writer.close()
