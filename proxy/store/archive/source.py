"""Reading the archive back, with the same calls as the store: a dataset is built from either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from policies.records import Sample
from proxy.store.archive.location import ArchiveStore, DayManifest
from proxy.store.reading.as_samples import judged_of, sample_of
from proxy.store.tables.values import RecordView, StoreSize

__all__ = ["ArchiveSource", "archived_records"]


class ArchiveSource:
    """All archived days as one."""

    def __init__(self, place: ArchiveStore) -> None:
        self.records = ArchivedRecords(place)
        self.samples = ArchivedSamples(place, self.records)


class ArchivedRecords:
    """What a `Store` has as `records`, as far as an archive answers it."""

    def __init__(self, place: ArchiveStore) -> None:
        self._place = place

    async def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        newest_first: bool = False,
        chunk: int = 200,
    ) -> AsyncIterator[RecordView]:
        """Every record between two ids, both exclusive. A row group is in memory at a time, whatever `chunk` is."""
        dates = await asyncio.to_thread(self._place.dates)
        for date in dates[::-1] if newest_first else dates:
            manifest = await asyncio.to_thread(self._place.manifest, date)
            if manifest is None:
                continue
            async for view in archived_records(
                self._place, manifest, after_id=after_id, before_id=before_id, newest_first=newest_first
            ):
                yield view


class ArchivedSamples:
    """What a `Store` has as `samples`, as far as an archive answers it."""

    def __init__(self, place: ArchiveStore, records: ArchivedRecords) -> None:
        self._place = place
        self._records = records

    async def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 500,
    ) -> AsyncIterator[Sample]:
        """As `Store.samples.iter`."""
        walk = self._records.iter(after_id=after_id, before_id=before_id, newest_first=newest_first, chunk=chunk)
        async for view in walk:
            row = view.row
            if min_quality is not None and (row.quality is None or row.quality < min_quality):
                continue
            if min_feedback is not None and (row.feedback is None or row.feedback < min_feedback):
                continue
            sample = sample_of(view)
            if sample is not None:
                yield sample

    async def judged(self, *, before_id: str | None = None, chunk: int = 100) -> AsyncIterator[Sample]:
        """As `Store.samples.judged`, but in one walk, newest first."""
        async for view in self._records.iter(before_id=before_id, newest_first=True, chunk=chunk):
            sample = judged_of(view)
            if sample is not None:
                yield sample

    async def size(self) -> StoreSize:
        """Of all days."""
        dates = await asyncio.to_thread(self._place.dates)
        found = [await asyncio.to_thread(self._place.manifest, date) for date in dates]
        manifests = [manifest for manifest in found if manifest is not None]
        return StoreSize(
            records=sum(manifest.records for manifest in manifests), bytes=sum(manifest.bytes for manifest in manifests)
        )


async def archived_records(
    place: ArchiveStore,
    manifest: DayManifest,
    *,
    after_id: str | None = None,
    before_id: str | None = None,
    newest_first: bool = False,
) -> AsyncIterator[RecordView]:
    """One day's records."""
    batches = place.records(manifest, after_id=after_id, before_id=before_id, newest_first=newest_first)
    while (batch := await asyncio.to_thread(_next, batches)) is not None:
        for view in batch:
            yield view


def _next(batches: Iterator[list[RecordView]]) -> list[RecordView] | None:
    return next(batches, None)
