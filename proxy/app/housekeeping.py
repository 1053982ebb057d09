"""What the controller does now and then with what is old: archive finished days, then forget what may be forgotten.

The archive comes first. Where one is configured, retention asks it about every day before the day goes, so an archive
that cannot be reached costs disk and no data. A pass is made when another day has ended, or when retention met a day
that had news; several controllers may try, one pass runs at a time (a lease).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.clock import Clock
from proxy.config.storage import StoreConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.store.store import Store

if TYPE_CHECKING:
    from proxy.store.archive import Archiver

__all__ = ["Housekeeping"]

_log = logging.getLogger(__name__)


class Housekeeping:
    """Archiving and retention of one store."""

    def __init__(self, config: StoreConfig, store: Store, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._archiver: Archiver | None = None
        self._archived_until: int | None = None
        """The first day that the last pass left alone."""

    async def run_once(self) -> None:
        """Archive, then prune. Raises TemporaryError while the store is away; a missing archive is only logged."""
        if self._config.archive.url is None:
            pruned = await self._store.prune(self._config.retention)
        else:
            await self._archive(self._config.archive.url)
            pruned = await self._store.prune(self._config.retention, self._holds)
        if pruned.bodies or pruned.records:
            _log.info("retention (%s): %d bodies, %d records, %d votes dropped",
                      pruned.reason, pruned.bodies, pruned.records, pruned.votes)  # fmt: skip

    async def _archive(self, url: str) -> None:
        try:
            archiver = self._archiver = self._archiver or self._open(url)
            until = archiver.unfinished_day
            if until == self._archived_until:
                return
            written = [day for day in await archiver.run() if day.state != "unchanged"]
        except (TemporaryError, PermanentError, OSError) as exc:
            _log.error("the archive is not up to date, and retention keeps what is not in it: %s", exc)
            return
        self._archived_until = until
        _log.info("archive: %d days written, %d records", len(written), sum(day.records for day in written))

    def _open(self, url: str) -> Archiver:
        try:
            from proxy.store.archive import Archiver, Place
        except ImportError as exc:
            raise PermanentError(f"store.archive.url needs more libraries ({exc}): 'ratchet-proxy[archive]'") from exc
        return Archiver(self._store, Place(url), self._clock, settle_s=self._config.archive.settle_hours * 3600)

    async def _holds(self, day: int) -> bool:
        if self._archiver is None:
            return False
        try:
            held = await self._archiver.holds(day)
        except (TemporaryError, PermanentError, OSError) as exc:
            _log.error("retention keeps what the archive cannot be asked about: %s", exc)
            return False
        if not held:
            self._archived_until = None  # late records or votes: another pass, next time
        return held
