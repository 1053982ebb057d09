"""Votes that the controller itself writes down: those of people who look at the console.

They go the way of all votes, through this host's spool and its ingest: so they are counted once, in the order in which
they were given, and are there again where the database has to be fed anew. The writer is made for the first vote: who
never votes here has no spool for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from policies.ballots import FULL_TRUST
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import TemporaryError
from proxy.ids import RecordIds
from proxy.spool import SpoolWriter
from proxy.spool.frames import KIND_FEEDBACK, encode_frame
from proxy.web.votes import Vote, redacted

if TYPE_CHECKING:
    from proxy.cleaning.cleaner import Cleaner

__all__ = ["OwnVotes"]

_RETRY_S: Final = 5.0
_CLEANED_S: Final = 2.0

_log = logging.getLogger(__name__)


class OwnVotes:
    """Of one controller. They name their record by its UUID, and count in all that they say."""

    def __init__(self, config: Config, spool: Path, ids: RecordIds, clock: Clock) -> None:
        """`spool` is the folder of this host's spool."""
        self._config = config
        self._root = spool
        self._ids = ids
        self._clock = clock
        self._writer: SpoolWriter | None = None
        self._cleaner: Cleaner | None = None
        self._closed = False

    async def write(self, votes: Sequence[Vote]) -> list[str]:
        """Write them down together; returns their ids. Raises TemporaryError where they cannot be kept now."""
        now = self._clock.now()
        entries = [self._entry(vote, now) for vote in votes]
        try:
            await self._clean(entries)
        except TimeoutError as exc:
            raise TemporaryError(str(exc), retry_after_s=_RETRY_S) from exc
        for entry, vote in zip(entries, votes, strict=True):
            entry["source"] = vote.source  # a name that somebody gave to this console, as every order has it
        frame = encode_frame(KIND_FEEDBACK, {"t": int(now * 1e6), "votes": entries})
        if self._closed or not self._open().append_synced(frame):
            message = "the vote cannot be saved now (the disk is full or failing, or Ratchet is ending); try again"
            raise TemporaryError(message, retry_after_s=_RETRY_S)
        return [entry["fid"] for entry in entries]

    def _entry(self, vote: Vote, now: float) -> dict[str, Any]:
        said: dict[str, Any] = {**vote.says, "tr": int(FULL_TRUST)}
        if vote.tags:
            said["tags"] = dict(vote.tags)
        return {"fid": self._ids.new_uuid(now), "id": vote.record_id, "alias": None, **said}

    async def _clean(self, entries: list[dict[str, Any]]) -> None:
        redaction = self._config.capture.redaction
        if not redaction.cleans:
            return
        if self._cleaner is None:
            from proxy.cleaning.cleaner import Cleaner

            self._cleaner = Cleaner(redaction, self._lost, most_decoded=self._config.capture.max_decoded_bytes)
        await redacted(entries, self._cleaner.texts)

    def _lost(self, slot: str) -> None:
        _log.warning("the words of a vote given in the console could not be redacted (%s): it was refused", slot)

    def _open(self) -> SpoolWriter:
        if self._writer is None:
            self._writer = SpoolWriter(self._root, self._config.spool, clock=self._clock)
        return self._writer

    async def close(self) -> None:
        """Sync what is written and let the spool go, so that its rest can be stored. Further votes are refused."""
        self._closed = True
        if self._cleaner is not None:
            await self._cleaner.close(_CLEANED_S)
        if self._writer is not None:
            self._writer.close()
