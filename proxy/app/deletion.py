"""One host's part of a deletion: its spool, and the folders of datasets and trainings that lie on its disks.

The database tells of deletions (`proxy.store.retention.forgotten`). The controller looks for new ones every few
seconds; where no controller runs, `ratchet records delete` does the same in its place. First all is stored that the
spool contained when the deletion was heard of, so that what is the user's is refused there, and then the stored bytes
are overwritten.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.app.heartbeat import replica_id
from proxy.app.paths import DataDir
from proxy.clock import Clock
from proxy.ingest.ingestor import REJECTED_FILE
from proxy.loop.dataset.deletion import (
    FolderReport,
    dataset_folders,
    delete_users,
    is_unfinished,
    read_document,
    remove_unfinished,
    remove_untold,
)
from proxy.spool import SpoolReader
from proxy.store.retention.forgotten import Announced, HostReport, PlaceReport
from proxy.store.store import Store

__all__ = ["HostDeletion"]

_EVERY_S: Final = 2.0
_DRAIN_S: Final = 0.1

_log = logging.getLogger(__name__)


class HostDeletion:
    """Clears the places of this host."""

    def __init__(self, data: DataDir, training_dir: Path, store: Store, clock: Clock) -> None:
        self._data = data
        self._roots = (training_dir, data.root)
        self._store = store
        self._clock = clock
        self._reader = SpoolReader(data.spool)
        self._host = socket.gethostname()
        self.id: Final = replica_id(data.replica_id)
        self.spool: Final = data.spool

    async def run(self) -> None:
        """Answer every deletion, for ever. Raises TemporaryError while the store is away."""
        seen: tuple[int, int] | None = None
        while True:
            newest = await self._store.forgotten.newest()
            if newest != seen:
                pending = await self.pending()
                if pending:
                    await self.answer(pending, self._await_stored)
                seen = newest
            await asyncio.sleep(_EVERY_S)

    async def pending(self) -> list[Announced]:
        """Deletions that this host has not answered."""
        return [each for each in await self._store.forgotten.all() if self.id not in each.answered_by]

    async def answer(self, pending: Sequence[Announced], drain: Callable[[], Awaitable[None]]) -> HostReport:
        """Clear all places and leave a report. `drain` is awaited first: it stores what is in the spool."""
        users = {each.user_hash for each in pending}
        runs = {run for each in pending for run in each.runs}
        await drain()
        places = [await self._spool(users)]
        places += await self._folders(users, runs)
        report = HostReport(
            id=self.id, host=self._host, at_us=max(each.at_us for each in pending), places=tuple(places)
        )
        await self._store.forgotten.report(pending, report)
        _log.info("deletion: %d users' data is gone from this host", len(users))
        return report

    async def _await_stored(self) -> None:
        """Return once all is stored that is in the spool now."""
        ends = await asyncio.to_thread(self._reader.ends)
        while True:
            if self._reader.reached(ends, await self._store.spools.positions()):
                return
            await asyncio.sleep(_DRAIN_S)

    async def _spool(self, users: set[int]) -> PlaceReport:
        """Overwrite what is stored, and drop what was set aside and is the users', or nobody knows whose."""
        try:
            positions = await self._store.spools.positions()
            wiped = await asyncio.to_thread(self._reader.wipe, positions)
            found = await asyncio.to_thread(self._reader.drop_aside, REJECTED_FILE, users)
        except OSError as exc:
            return _unreachable("spool", exc)
        return PlaceReport(place="spool", found=wiped + found, removed=wiped + found)

    async def _folders(self, users: set[int], runs: set[str]) -> list[PlaceReport]:
        """Of datasets, and of `runs`, which had data of theirs."""
        now = self._clock.now()
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        try:
            done = await asyncio.to_thread(_clear_folders, self._roots, users, at, now)
            untold = await asyncio.to_thread(lambda: sum(remove_untold(self._roots[0] / run) for run in runs))
        except OSError as exc:
            return [_unreachable("training data", exc)]
        for folder in done:
            if folder.lines:
                manifest = await asyncio.to_thread(read_document, folder.folder / "manifest.json")
                await self._store.runs.correct(folder.folder.name, manifest)
        changed = [folder.folder.name for folder in done if folder.lines]
        words = sum(folder.words for folder in done) + await self._store.deletion.forget_words(changed)
        lines, files = sum(folder.lines for folder in done), sum(folder.strangers for folder in done)
        remains = [f"{files} files that trainings wrote in {', '.join(changed)}: look at them"] if files else []
        if untold:
            remains.append(f"{untold} files without a lineage were removed whole: their users are unknown")
        found = lines + untold
        return [
            PlaceReport(place="training data", found=found, removed=found, remains="; ".join(remains)),
            PlaceReport(place="what trainings said", found=words, removed=words),
        ]


def _clear_folders(roots: Sequence[Path], users: set[int], at: str, now: float) -> list[FolderReport]:
    done = []
    for folder in dataset_folders(*roots):
        if is_unfinished(folder, now):
            remove_unfinished(folder)
        done.append(delete_users(folder, users, at))
    return [folder for folder in done if folder.lines or folder.words]


def _unreachable(place: str, exc: OSError) -> PlaceReport:
    where = f"{exc.filename}: " if exc.filename else ""
    return PlaceReport(place=place, remains=f"{where}{exc.strerror or exc}", failed=True)
