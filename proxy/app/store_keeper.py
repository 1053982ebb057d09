"""The store as the controller has it: opened however long that takes, watched, found again when it was replaced.

Whatever a database says is no reason to end: somebody will see to it, and meanwhile records wait in the spool. Files
that are removed are noticed at once, tables that are gone soon, and a database that has less than it had when ingest
asks for positions. `health` is told of all of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from proxy.app.paths import DataDir
from proxy.app.store_health import StoreHealth
from proxy.app.store_health_file import StoreHealthFile
from proxy.app.telemetry import ControllerMetrics
from proxy.app.troubles import Troubles
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import PermanentError, TemporaryError
from proxy.ingest import Gap
from proxy.store.store import Store

__all__ = ["ANSWER_S", "FAILURES", "StoreKeeper", "answer_within", "pause"]

FAILURES: Final = (TemporaryError, PermanentError, OSError)
"""What a database, or the disk, says, in words for a person."""
ANSWER_S: Final = 10.0
_PROOF_S: Final = 30.0
"""Longer than a batch, or a pass of retention, keeps the one connection busy that writes to SQLite."""
_TABLES_S: Final = 2.0
_WATCH_S: Final = 0.5
"""Between two looks at SQLite's files."""
_DELAYS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_MOST_NOTES: Final = 8
_NOTED_S: Final = 86_400.0

_log = logging.getLogger(__name__)


class StoreKeeper:
    """One per controller."""

    def __init__(
        self, config: Config, data: DataDir, metrics: ControllerMetrics, troubles: Troubles, clock: Clock
    ) -> None:
        self._config = config
        self._data = data
        self._metrics = metrics
        self._clock = clock
        self.health = StoreHealth(troubles, StoreHealthFile(data.store_health), metrics.set_store_up, clock)
        self.replaced = asyncio.Event()
        """The database is another one than before: whoever remembers rows of it begins anew, and clears this."""
        self._notes: deque[tuple[float, str]] = deque(maxlen=_MOST_NOTES)
        """What became of the database lately: when (Unix seconds), and a sentence."""

    @property
    def notes(self) -> list[str]:
        """What became of the database within a day: sentences for /status."""
        now = self._clock.now()
        return [f"{_instant(at)}: {text}" for at, text in self._notes if now - at < _NOTED_S]

    async def open(self, stop: asyncio.Event) -> Store | None:
        """The store, however long it takes to come up; None when told to stop first. Tried once in any case.

        Whatever a database says is no reason to end: somebody will see to it, and meanwhile records wait.
        """
        attempt = 0
        while True:
            try:
                store = await self._try_to_open()
            except FAILURES as exc:
                self.health.report("start", exc)
            else:
                return store
            delay_s = _DELAYS_S[min(attempt, len(_DELAYS_S) - 1)]
            attempt += 1
            await pause(stop, delay_s)
            if stop.is_set():
                return None

    async def _try_to_open(self) -> Store:
        settings = self._config.store
        store = await Store.open(
            self._data.store_url(self._config),
            clock=self._clock,
            pool_size=settings.pool_size,
            listen_url=settings.listen_url,
        )
        try:
            async with answer_within(ANSWER_S):
                await store.prove()
        except BaseException:
            await store.close()
            raise
        store.watch(self.health.report_error)
        self.health.opened()
        return store

    def ingest_reported(self, exc: TemporaryError | PermanentError | OSError | None, *, wrote: bool) -> None:
        """How the last round of ingest went."""
        if isinstance(exc, OSError):
            self.health.report("unread", f"part of the spool cannot be read or removed ({exc})")
        elif exc is not None:
            self.health.report("ingest", exc)
        else:
            self.health.resolve("unread")
            self.health.resolve("ingest")
        if wrote:
            self.health.report_write()

    async def watch(self, store: Store) -> None:
        """Notice files that are gone at once, and tables that are gone soon; have both again."""
        looked_at = float("-inf")
        while True:
            lost = store.lost_file()
            if lost is not None or self._clock.monotonic() - looked_at >= _TABLES_S:
                if lost is not None:
                    self.health.report("files", f"{lost} was removed or replaced; opening the new file")
                looked_at = self._clock.monotonic()
                if wrong := await store.mend():
                    self._metrics.store_replaced()
                    self._note(f"{wrong}; it was created again and refilled from the spool")
                    self.replaced.set()
                self.health.resolve("files")
            await asyncio.sleep(_WATCH_S)

    def went_back(self, gap: Gap) -> None:
        """The database has less than it had: say what is fed again, and what cannot be."""
        text = "the database has lost records, as after a failover or a restored backup: " \
               f"{gap.again:,} requests and votes are stored again from the spool"  # fmt: skip
        if gap.lost:
            since = f" (from {_instant(gap.since_us / 1e6)} on)" if gap.since_us else ""
            text += f"; {gap.lost:,}{since} are lost: their segments are no longer in the spool (spool.keep_seconds)"
        self.health.report("again", text)
        self._note(text)
        self.replaced.set()

    def _note(self, text: str) -> None:
        _log.warning("store: %s", text)
        self._notes.append((self._clock.now(), text))

    async def prove(self, store: Store) -> None:
        """Where nothing was written for a while, or something is wrong: see whether writing works."""
        if self.health.needs_proof:
            async with self.answer(_PROOF_S):
                await store.prove()
            self.health.report_write()

    @asynccontextmanager
    async def answer(self, seconds: float) -> AsyncIterator[None]:
        """A database that says nothing is as good as gone, and that is a trouble. Raises TemporaryError."""
        try:
            async with answer_within(seconds):
                yield
        except TemporaryError as exc:
            self.health.report_error(exc)
            raise


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, unless told to stop meanwhile."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncIterator[None]:
    """A database that says nothing is as good as gone. Raises TemporaryError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise TemporaryError(f"store: no answer within {seconds:g} s", retry_after_s=1.0) from exc
