"""What the controller does now and then with what is old: archive finished days, then forget what may be forgotten.

The archive comes first. Where one is configured, retention asks it about every day before the day goes, so an archive
that cannot be reached costs disk and no data. A pass is made when another day has ended, or when retention met a day
that had news; several controllers may try, one pass runs at a time (a lease).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.clock import Clock
from proxy.config.storage import ArchiveConfig, StoreConfig
from proxy.errors import PermanentError
from proxy.store.control.leases import HeldError
from proxy.store.store import Store
from proxy.store.tables.partitions import DAY_S

if TYPE_CHECKING:
    from proxy.store.archive import Archiver

__all__ = ["ArchiveMetrics", "Housekeeping"]

_log = logging.getLogger(__name__)


_CAME_TO_NOTHING: Final = ("failed", "cancelled", "too_small")
"""States of runs whose data nobody waits for."""


class ArchiveMetrics(Collector):
    """How the archive fares, where there is one: while it is behind nothing is dropped, and the disk fills."""

    def __init__(self, registry: CollectorRegistry, config: ArchiveConfig, clock: Clock) -> None:
        self._settle_s = config.settle_hours * 3600
        self._clock = clock
        self._until: int | None = None
        self._failures = 0
        if config.url is not None:
            registry.register(self)

    def went_well(self, until: int) -> None:
        """All days before `until` (counted from the Unix epoch) are archived."""
        self._until = until

    def failed(self) -> None:
        """The archive could not be written, or not be asked."""
        self._failures += 1

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        failures = CounterMetricFamily("ratchet_archive_failures", "Failed attempts to read or write the archive.")
        failures.add_metric([], self._failures)
        yield failures
        if self._until is not None:
            behind = GaugeMetricFamily("ratchet_archive_behind_days", "Finished days that are not archived yet.")
            behind.add_metric([], max(0, int((self._clock.now() - self._settle_s) // DAY_S) - self._until))
            yield behind


class Housekeeping:
    """Archiving and retention of one store."""

    def __init__(
        self,
        config: StoreConfig,
        store: Store,
        clock: Clock,
        metrics: ArchiveMetrics | None = None,
        *,
        training_dir: Path | None = None,
    ) -> None:
        """`training_dir`: where the runs' folders are; None leaves them alone."""
        self._config = config
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._training_dir = training_dir
        self._archiver: Archiver | None = None
        self._archived_until: int | None = None
        """The first day that the last pass left alone."""

    async def run_once(self) -> None:
        """Archive, then prune. Raises TemporaryError while the store is away; a missing archive is only logged."""
        if self._config.archive.url is None:
            pruned = await self._store.retention.prune(self._config.retention)
        else:
            await self._archive(self._config.archive.url)
            pruned = await self._store.retention.prune(self._config.retention, self._archived)
        if pruned.bodies or pruned.records:
            _log.info("retention (%s): %d bodies, %d records, %d votes dropped",
                      pruned.reason, pruned.bodies, pruned.records, pruned.votes)  # fmt: skip
        await self._drop_failed_runs()
        if await self._store.deletion.retire_dictionary():
            _log.info("bodies are compressed again, without the dictionary of an earlier version")

    async def _drop_failed_runs(self) -> None:
        """Remove the folders of trainings that came to nothing, some time after their end."""
        keep_days = self._config.retention.failed_runs_days
        if self._training_dir is None or keep_days <= 0:
            return
        before_us = int((self._clock.now() - keep_days * DAY_S) * 1e6)
        gone = 0
        for folder in await asyncio.to_thread(_folders, self._training_dir):
            run = await self._store.runs.get(folder.name)
            if run is None or run.state not in _CAME_TO_NOTHING or run.result is not None:
                continue  # with a result there is a model, and `ratchet deploy` may want it
            if (run.ended_us or before_us) < before_us:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                gone += 1
        if gone:
            _log.info("retention: %d folders of failed runs removed", gone)

    async def _archive(self, url: str) -> None:
        try:
            archiver = self._archiver = self._archiver or self._open(url)
            until = archiver.unfinished_day
            if until == self._archived_until:
                return
            written = [day for day in await archiver.run() if day.state != "unchanged"]
        except HeldError as exc:  # a replica's, or one that was started by hand: afterwards ours finds little to do
            _log.info("archive: %s", exc)
            return
        except Exception as exc:  # noqa: BLE001 - the driver of a bucket is an edge, and raises what it likes
            self._failed("the archive is behind; retention deletes nothing that is not archived", exc)
            return
        self._archived_until = until
        if self._metrics is not None:
            self._metrics.went_well(until)
        _log.info("archive: %d days written, %d records", len(written), sum(day.records for day in written))

    def _open(self, url: str) -> Archiver:
        try:
            from proxy.store.archive import Archiver, ArchiveStore
        except ImportError as exc:
            raise PermanentError(
                f"store.archive.url needs more libraries ({exc}): pip install 'ratchet-proxy[archive]'"
            ) from exc
        return Archiver(self._store, ArchiveStore(url), self._clock, settle_s=self._config.archive.settle_hours * 3600)

    def _failed(self, what: str, exc: Exception) -> None:
        _log.error("%s: %s", what, str(exc) or type(exc).__name__)
        if self._metrics is not None:
            self._metrics.failed()

    async def _archived(self, day: int) -> bool:
        if self._archiver is None:
            return False
        try:
            archived = await self._archiver.holds(day)
        except Exception as exc:  # noqa: BLE001 - as above
            self._failed("the archive cannot be read; retention deletes nothing until it can", exc)
            return False
        if not archived:
            self._archived_until = None  # late records or votes: another pass, next time
        return archived


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
