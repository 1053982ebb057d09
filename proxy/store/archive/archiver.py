"""One pass of the archive: every finished day as it is now known.

A day is written again when records or votes came in late, or when a user in it was deleted. Then what is archived and
what is stored are merged by id: the store knows better, but what it no longer has stays. One pass runs at a time (a
lease); each day is published whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from proxy.clock import Clock
from proxy.store.archive.location import ArchiveStore, DayManifest, date_of
from proxy.store.archive.source import archived_records
from proxy.store.archive.writer import PART_BYTES, DayWriter
from proxy.store.control.leases import HeldError
from proxy.store.reading.days import DayCounts, day_bounds
from proxy.store.store import Store
from proxy.store.tables.control import Lease
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.partitions import DAY_S
from proxy.store.tables.values import RecordView
from proxy.version import __version__

__all__ = ["PASS_KEEPS_S", "ArchivedDay", "Archiver"]

_BATCH: Final = 200
_LEASE: Final = "archive"
PASS_KEEPS_S: Final = 120.0
"""So long after its last sign of life a pass that was killed keeps others away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedDay:
    """What a pass did with one day."""

    date: str
    state: Literal["written", "rewritten", "unchanged"]
    records: int
    bytes: int
    forgotten: int = 0
    """Records of deleted users that were taken out."""


class Archiver:
    """Brings the archive at `place` up to date with `store`."""

    def __init__(
        self, store: Store, place: ArchiveStore, clock: Clock, *, settle_s: float = 3600.0, part_bytes: int = PART_BYTES
    ) -> None:
        """A day is finished `settle_s` seconds after its end (UTC): by then the spools have been read."""
        self._store = store
        self._place = place
        self._clock = clock
        self._settle_s = settle_s
        self._part_bytes = part_bytes
        self._holder = f"{platform.node()}-{os.getpid()}"
        self._renew_at = 0.0

    async def run(self, on_day: Callable[[ArchivedDay], None] = lambda _: None) -> list[ArchivedDay]:
        """One pass, oldest day first; `on_day` hears of each as it is done.

        Raises TemporaryError while the archive or the store cannot be reached, HeldError while another pass runs.
        """
        lease = await self._hold()
        try:
            deleted = await self._store.days.deleted_users()
            done = []
            for day in await self._days():
                done.append(await self._day(day, deleted))
                on_day(done[-1])
            return done
        finally:
            await self._store.leases.release(lease)

    async def forget(self, users: Collection[int]) -> list[ArchivedDay]:
        """Take these users, who have been deleted from the store, out of every day that holds them; returns those days.

        Raises as `run`.
        """
        lease = await self._hold()
        try:
            await asyncio.to_thread(self._place.tidy)
            deleted = await self._store.days.deleted_users()
            done = []
            for date in await asyncio.to_thread(self._place.dates):
                day = _day_of(date)
                await self._hold()
                before = await asyncio.to_thread(self._place.manifest, date)
                held = 0 if before is None else await asyncio.to_thread(self._place.records_of, before, list(users))
                if held:
                    after = await self._write(day, before, await self._store.days.counts(day), deleted)
                    done.append(
                        ArchivedDay(
                            date=date, state="rewritten", records=after.records, bytes=after.bytes, forgotten=held
                        )
                    )
            return done
        finally:
            await self._store.leases.release(lease)

    async def holds(self, day: int) -> bool:
        """Whether everything that the store has of `day` is archived. Raises TemporaryError as `run` does."""
        counts = await self._store.days.counts(day)
        if not counts.records:
            return True
        manifest = await asyncio.to_thread(self._place.manifest, date_of(day))
        if manifest is None:
            return False
        return not counts.grew_since(DayCounts(records=manifest.store_records, votes=manifest.store_votes))

    @property
    def unfinished_day(self) -> int:
        """The first day (counted from the Unix epoch) that a pass would leave alone now."""
        return int((self._clock.now() - self._settle_s) // DAY_S)

    async def _days(self) -> list[int]:
        """Finished days in the store, and those archived."""
        end = self.unfinished_day
        dates = await asyncio.to_thread(self._place.dates)
        days = set(map(_day_of, dates))
        day = await self._store.days.next(0)
        while day is not None and day < end:
            days.add(day)
            day = await self._store.days.next(day + 1)
        return sorted(days)

    async def _day(self, day: int, deleted: dict[int, int]) -> ArchivedDay:
        await self._hold()
        date = date_of(day)
        counts = await self._store.days.counts(day)  # before reading: what comes in meanwhile is late
        before = await asyncio.to_thread(self._place.manifest, date)
        forgotten_us = max(deleted.values(), default=0)
        if before is None:
            after = await self._write(day, None, counts, deleted)
            return ArchivedDay(date=date, state="written", records=after.records, bytes=after.bytes)
        stored = DayCounts(records=before.store_records, votes=before.store_votes)
        gone = [user for user, at_us in deleted.items() if at_us > max(before.forgotten_us, day * DAY_S * 1_000_000)]
        held = await asyncio.to_thread(self._place.records_of, before, gone) if gone else 0
        if held or counts.grew_since(stored):
            after = await self._write(day, before, counts, deleted)
            return ArchivedDay(date=date, state="rewritten", records=after.records, bytes=after.bytes, forgotten=held)
        if counts != stored or gone:
            compared = replace(
                before,
                store_records=counts.records,
                store_votes=counts.votes,
                forgotten_us=max(forgotten_us, before.forgotten_us),
            )
            with tempfile.TemporaryDirectory(prefix="ratchet-archive-") as scratch:
                await asyncio.to_thread(self._place.publish, compared, Path(scratch))
        return ArchivedDay(date=date, state="unchanged", records=before.records, bytes=before.bytes)

    async def _write(
        self, day: int, before: DayManifest | None, counts: DayCounts, deleted: dict[int, int]
    ) -> DayManifest:
        now, date = self._clock.now(), date_of(day)
        with tempfile.TemporaryDirectory(prefix="ratchet-archive-") as folder:
            scratch = Path(folder)
            writer = DayWriter(self._place, date, f"{int(now * 1000):x}-{os.getpid():x}", scratch, self._part_bytes)
            async with aclosing(self._merged(day, before)) as views:
                await self._copy(views, writer, deleted)
            files = await asyncio.to_thread(writer.finish)
            manifest = DayManifest(
                date=date,
                files=files,
                records=writer.records,
                bodies=writer.bodies,
                votes=writer.votes,
                store_records=counts.records,
                store_votes=counts.votes,
                forgotten_us=max(deleted.values(), default=before.forgotten_us if before is not None else 0),
                written_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
                version=__version__,
            )
            await self._hold()
            await asyncio.to_thread(self._place.publish, manifest, scratch)
        return manifest

    async def _copy(self, views: AsyncIterator[RecordView], writer: DayWriter, deleted: dict[int, int]) -> None:
        batch: list[RecordView] = []
        async for view in views:
            user = view.row.user_hash
            if user is not None and id_time_us(view.row.id) <= deleted.get(user, -1):
                continue
            batch.append(view)
            if len(batch) == _BATCH:
                await asyncio.to_thread(writer.add, batch)
                batch = []
                if self._clock.now() >= self._renew_at:
                    await self._hold()
        await asyncio.to_thread(writer.add, batch)

    async def _merged(self, day: int, before: DayManifest | None) -> AsyncGenerator[RecordView]:
        """The day's records, archived and stored, in order of their ids."""
        after_id, before_id = day_bounds(day)
        stored = aiter(self._store.records.iter(after_id=after_id, before_id=before_id, chunk=_BATCH))
        archived = aiter(archived_records(self._place, before) if before is not None else _nothing())
        new, old = await anext(stored, None), await anext(archived, None)
        while new is not None or old is not None:
            if old is None or (new is not None and new.row.id < old.row.id):
                assert new is not None
                yield new
                new = await anext(stored, None)
            elif new is None or old.row.id < new.row.id:
                yield old
                old = await anext(archived, None)
            else:
                yield _known(new, old)
                new, old = await anext(stored, None), await anext(archived, None)

    async def _hold(self) -> Lease:
        """Take or keep the lease."""
        lease = await self._store.leases.acquire(_LEASE, self._holder, ttl_s=PASS_KEEPS_S)
        if lease is None:
            other = await self._store.leases.get(_LEASE)
            raise HeldError(f"another pass of the archive is running ({other.holder if other else 'unknown'})")
        self._renew_at = self._clock.now() + PASS_KEEPS_S / 4
        return lease


def _day_of(date: str) -> int:
    """Days from the Unix epoch to the date."""
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) // DAY_S


def _known(stored: RecordView, archived: RecordView) -> RecordView:
    """One record, seen from both sides: the body may be gone from the store."""
    if stored.body is not None or archived.body is None:
        return stored
    row = replace(stored.row, query=archived.row.query, response_text=archived.row.response_text)
    return replace(stored, row=row, body=archived.body)


async def _nothing() -> AsyncIterator[RecordView]:
    return
    yield
