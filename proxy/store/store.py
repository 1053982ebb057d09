"""The store as the rest of the program sees it: one object, opened once, closed at the end.

Records, votes and statistics are methods; the control plane hangs off it by noun (`store.models`,
`store.journal`, …). Each method is one short transaction of its own. What cannot be done now, because the
database is locked, full, down or restarting, raises TemporaryError: nothing was written, try again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Self

from policies.estimates import Metric, UserTotals
from policies.experiment import ArmStats
from policies.records import Arm, Sample
from proxy.clock import Clock
from proxy.config.storage import RetentionConfig
from proxy.store.control.commands import Commands
from proxy.store.control.experiments import Experiments
from proxy.store.control.install import Configs, Replicas, Secrets
from proxy.store.control.journal import Journal, transition
from proxy.store.control.leases import Leases
from proxy.store.control.models import Models, Runs, generations
from proxy.store.control.state import StateEntries
from proxy.store.engine.channels import CHANNELS
from proxy.store.engine.database import Database, Heard
from proxy.store.ingest import batch as ingest
from proxy.store.ingest import namesakes, statistics, votes
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.ingest.spools import Spools
from proxy.store.move import copy_all, mark_moved, refuse_if_moved
from proxy.store.reading import earlier, records, rollups, samples
from proxy.store.reading.days import Days
from proxy.store.reading.earlier import Earlier
from proxy.store.reading.replay import Epoch, EpochReplay
from proxy.store.retention import deletion, reasons
from proxy.store.retention import pruning as retention
from proxy.store.retention.forgotten import Forgotten
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.keys import NO_ID
from proxy.store.tables.migrate import migrate, refuse_unless_current
from proxy.store.tables.values import (
    Applied,
    Deleted,
    IngestBatch,
    Page,
    Pruned,
    RecordFilter,
    RecordRow,
    RecordView,
    StoreSize,
    TrafficPoint,
    TrafficTotals,
    VoteCounts,
)

__all__ = ["Store"]

_PROOF: Final = "written"
"""Entry of the table `secrets`, which stays behind where a store moves."""


class Store:
    """All that is kept. Safe to use from many tasks of one event loop, and by many processes at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._codec = BodyCodec(database)
        self._parked_after = NO_ID
        """Votes up to here have been asked about."""
        self._mending = asyncio.Lock()
        self.models = Models(database, clock)
        self.experiments = Experiments(database)
        self.runs = Runs(database)
        self.journal = Journal(database, clock)
        self.state = StateEntries(database)
        self.leases = Leases(database)
        self.commands = Commands(database, clock)
        self.configs = Configs(database, clock)
        self.replicas = Replicas(database)
        self.spools = Spools(database)
        self.days = Days(database)
        self.forgotten = Forgotten(database)
        self.secrets = Secrets(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock,
        pool_size: int = 5,
        busy_timeout_s: float = 5.0,
        listen_url: str | None = None,
        upgrade: bool = True,
    ) -> Self:
        """Connect to `sqlite:///file.db` or `postgresql://…` and bring the schema up to date.

        `busy_timeout_s` is how long a SQLite call waits for another process's write. `listen_url`: where PostgreSQL's
        notifications are heard, if not at `url`. Without `upgrade` a schema that is not up to date is a TemporaryError.
        Raises ConfigError for another kind of url, TemporaryError while the database cannot be used, PermanentError
        where it was written by a newer version.
        """
        database = Database.connect(
            url, clock=clock, pool_size=pool_size, busy_timeout_s=busy_timeout_s, listen_url=listen_url
        )
        try:
            await (migrate(database) if upgrade else refuse_unless_current(database))
            await refuse_if_moved(database)
            database.watch_files()
        except BaseException:
            await database.close()
            raise
        return cls(database, clock)

    async def close(self) -> None:
        """Give back every connection."""
        await self._db.close()

    def lost_file(self) -> Path | None:
        """A file of SQLite's that was removed or replaced under us: what is written now goes nowhere, call `mend`."""
        return self._db.lost_file()

    async def mend(self) -> str:
        """Look whether this is still the database that was opened, with all its tables, and have it so: new files where
        SQLite's are gone, tables where there are none. Returns what was wrong, or "".

        Raises TemporaryError while the database is away, PermanentError where a newer version has been here.
        """
        async with self._mending:
            lost = self._db.lost_file()
            if lost is not None:
                await self._db.reopen()
            emptied = await migrate(self._db)
            if lost is not None:
                self._db.watch_files()
        if lost is not None or emptied:
            self.forget_known()
        if lost is not None:
            return f"{lost} was removed or replaced under the running server"
        return "the database had no tables, or those of an earlier version" if emptied else ""

    def forget_known(self) -> None:
        """The database is not the one it was: remember nothing of it."""
        self._codec.forget()
        self._db.known_days.clear()
        self._parked_after = NO_ID

    @property
    def engine(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._db.dialect

    async def ping(self) -> None:
        """Raises TemporaryError while the database does not answer."""
        await self._db.ping()

    def watch(self, heard: Heard) -> None:
        """Call `heard` for every error from now on that is the database's fault, whoever meets it."""
        self._db.heard = heard

    async def prove(self) -> None:
        """Write something, a few bytes, where nothing else is written: that reading works says little of a disk that is
        full, a standby, or a file that is damaged. Raises TemporaryError, PermanentError."""
        await self.secrets.put(_PROOF, {"at_us": int(self._clock.now() * 1e6)})

    async def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with the channel (`proxy.store.engine.channels`) whenever another replica tells of a change.

        Returns at once on SQLite, else never; raises TemporaryError once the connection is lost, PermanentError where
        no notifications come.
        """
        if self._db.dialect == "postgresql":
            await self._db.listen(CHANNELS, heard)

    # Records and votes

    async def apply(self, batch: IngestBatch) -> Applied:
        """Write a batch and the spool position behind it in one transaction; a batch applied before changes nothing."""
        return await ingest.apply(self._db, self._codec, batch)

    async def join_parked(self, limit: int = 500) -> Applied:
        """Join votes whose record came in meanwhile by another replica; returns what that changed.

        Call it now and then: it looks at `limit` of the votes that wait, and goes on where the last call has stopped.
        """
        applied, self._parked_after = await ingest.join_parked(self._db, self._parked_after, limit)
        return applied

    async def ambiguous(self, aliases: Sequence[str]) -> frozenset[str]:
        """Those of the aliases that several people's records have: a vote by one is for none of them."""
        return await namesakes.ambiguous(self._db, aliases)

    async def get_record(self, name: str) -> RecordView | None:
        """The record with this id (32 hex digits), or the newest with this alias (provider or client id)."""
        return await records.get_record(self._db, self._codec, name)

    async def ids_beginning(self, prefix: str, limit: int = 2) -> list[str]:
        """Ids of records that begin with these lower-case hex digits: at most `limit`, the oldest first."""
        return await records.ids_beginning(self._db, prefix, limit)

    async def rows_of(self, ids: Sequence[str]) -> dict[str, RecordRow]:
        """The records with these ids as lists show them, with their texts; those that are gone are left out."""
        return await records.rows_of(self._db, self._codec, ids)

    async def list_records(
        self, filter: RecordFilter, *, cursor: str | None = None, limit: int = 50, texts: bool = True
    ) -> Page:
        """Newest first. `texts` adds query and response text. Looks at a bounded number of rows a call (see Page)."""
        return await records.list_records(self._db, self._codec, filter, cursor=cursor, limit=limit, texts=texts)

    def iter_records(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        newest_first: bool = False,
        chunk: int = 200,
    ) -> AsyncIterator[RecordView]:
        """Every record between two ids, both exclusive, with bodies, votes and scores, `chunk` of them at a time."""
        return records.iter_records(
            self._db, self._codec, after_id=after_id, before_id=before_id, newest_first=newest_first, chunk=chunk
        )

    def iter_samples(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 500,
    ) -> AsyncIterator[Sample]:
        """Exchanges that may become training data, oldest first unless asked, in constant memory.

        Bounds are record ids, both exclusive (`keys.id_floor` makes one of an instant). `min_quality` and
        `min_feedback` leave out samples without the one or the other.
        """
        return samples.iter_samples(
            self._db,
            self._codec,
            after_id=after_id,
            before_id=before_id,
            min_quality=min_quality,
            min_feedback=min_feedback,
            newest_first=newest_first,
            chunk=chunk,
        )

    def iter_judged(self, *, before_id: str | None = None, chunk: int = 100) -> AsyncIterator[Sample]:
        """Exchanges before an id whose answer people corrected or disliked: corrected ones first, newest first each.

        Also those that may not become training data (`trainable` is then false); one that was both comes twice.
        """
        return samples.iter_judged(self._db, self._codec, before_id=before_id, chunk=chunk)

    async def generations(self) -> dict[str, int]:
        """By name and path, how many trainings of this installation lie behind each model that was trained here."""
        return generations(await self.models.list(), await self.experiments.met())

    async def earlier(self, provider_ids: Sequence[str]) -> dict[str, tuple[Earlier, ...]]:
        """Exchanges whose answers may have these ids at their provider, newest first: what others go on from."""
        return await earlier.earlier(self._db, self._codec, provider_ids)

    async def name_users(self, record_ids: Sequence[str]) -> set[str]:
        """Those of the records whose key is a user, and not what stands in for one (a first message, chance)."""
        return await earlier.name_users(self._db, record_ids)

    async def claimed_clusters(self, limit: int) -> Counter[int]:
        """Of the newest `limit` records those whose user nobody vouches for, by cluster (0: it cannot be told)."""
        return await records.claimed_clusters(self._db, limit)

    # Statistics

    async def arm_stats(self, experiment_id: int, epoch: int) -> dict[Arm, ArmStats]:
        """Sufficient statistics of both arms; an arm without a record has empty ones."""
        return await statistics.arm_stats(self._db, experiment_id, epoch)

    def voters(
        self, experiment_id: int, epoch: int, metrics: Sequence[Metric]
    ) -> AsyncGenerator[tuple[Arm, int, UserTotals, bool]]:
        """The units of evidence with an observation of any of `metrics`: arm, key, totals, whether nobody vouches."""
        return statistics.voters(self._db, experiment_id, epoch, metrics)

    def replay(self, epoch: Epoch, *, chunk: int = 1000) -> EpochReplay:
        """The same as they stood at any moment of the epoch, from the records and votes that are still stored."""
        return EpochReplay(self._db, epoch, chunk)

    async def count_quality_samples(self, since_us: int, min_quality: float | None) -> int:
        """Training samples that arrived since then with at least this score; None counts unscored ones too.

        The score is compared in hundredths, rounded up (0.705 counts from 0.71).
        """
        return await rollups.count_quality_samples(self._db, since_us, min_quality)

    async def count_corrections(self, since_us: int, until_us: int) -> int:
        """Votes with a correction that came in the window, counted by index."""
        return await votes.count_corrections(self._db, since_us, until_us)

    async def quality_window(
        self, since_us: int, until_us: int, model_id: int | None = None
    ) -> tuple[int, float | None]:
        """(scored requests, mean score), by arrival.

        Both ends are rounded down: to the minute where the window begins within the last 47 hours, else to the hour. So
        a window that ends now leaves out the minute or hour under way.
        """
        totals = await rollups.totals(self._db, self._clock, since_us, until_us, model_id)
        return totals.scored, totals.quality

    async def feedback_window(self, since_us: int, until_us: int, model_id: int | None = None) -> VoteCounts:
        """Effective votes on requests that arrived in the window, whose ends are rounded as `quality_window` says."""
        return (await rollups.totals(self._db, self._clock, since_us, until_us, model_id)).votes

    async def totals(
        self, since_us: int = 0, until_us: int | None = None, model_id: int | None = None
    ) -> TrafficTotals:
        """Sums over the window, by default over all that is kept; its ends are rounded as `quality_window` says.

        `until_us` None, and not the present, is how to count what is under way, too.
        """
        return await rollups.totals(self._db, self._clock, since_us, until_us, model_id)

    async def user_hour_means(self, hour_us: int, model_id: int | None = None) -> list[float]:
        """Mean score of each user in the hour that begins at `hour_us`; a keyless request is a user of its own."""
        return await records.user_hour_means(self._db, hour_us, model_id)

    async def duration_quantile(self, model_id: int | None, since_us: int, q: float) -> float | None:
        """Seconds under which the share `q` of a model's (None: of all) whole answers stayed, within ±5 %; None without
        any."""
        return await rollups.duration_quantile(self._db, self._clock, model_id, since_us, q)

    async def traffic(self, since_us: int, until_us: int, step_s: int) -> list[TrafficPoint]:
        """Per step, arm and model, oldest first, empty ones left out.

        `step_s` is a number of whole minutes (kept for 48 hours) or hours, in seconds; else ValueError. Both ends are
        rounded down to whole minutes or hours: pass the end of the step under way, not the present, to have it, too.
        """
        return await rollups.traffic_points(self._db, since_us, until_us, step_s)

    async def size(self) -> StoreSize:
        """Records (an estimate) and bytes on disk."""
        return await rollups.size(self._db)

    # Keeping and forgetting

    async def prune(self, config: RetentionConfig, archived: Callable[[int], Awaitable[bool]] | None = None) -> Pruned:
        """One retention pass in small transactions (SQLite) or by dropping days (PostgreSQL).

        `archived`, where given, says of a day (counted from the Unix epoch) whether the archive has all of it: what it
        does not have is kept, whatever its age and the size of the database.
        """
        return await retention.prune(self._db, self._clock, config, archived)

    async def delete_user(self, user_hash: int, names: Sequence[str] = (), at_us: int | None = None) -> Deleted:
        """Remove a user's rows everywhere, also those still in a spool, and say which models were trained on them.

        `names`: as back ends call the user whose votes they send; on others' records they are taken out of those.
        `at_us`: what is from before then is refused when it comes in; None: now, by this store's clock.
        """
        at_us = int(self._clock.now() * 1e6) if at_us is None else at_us
        return await deletion.delete_user(self._db, self._codec, user_hash, at_us, names)

    async def forget_words(self, run_ids: Sequence[str]) -> int:
        """Blank what these trainings said, wherever the loop wrote it down; returns how many rows had such words."""
        return await reasons.forget_words(self._db, run_ids)

    async def retire_dictionary(self) -> bool | None:
        """Remove the dictionary that an earlier version trained on bodies as they were: True once it is gone, None
        where there was none, False while another host's earlier version may still use it."""
        return await deletion.retire_dictionary(self._db, self._codec)

    async def compact(self) -> str:
        """Have the bytes of what was deleted gone from the database's files; returns what remains, and why, or ""."""
        return await deletion.compact(self._db)

    async def move_to(self, target: Store, progress: Callable[[str, int], None] = lambda _table, _rows: None) -> int:
        """Copy everything to the empty `target`; afterwards this one opens no more. Returns the number of records.

        Nobody else may use this store meanwhile. `progress` hears a table's name and its rows so far. Raises
        PermanentError where `target` is not empty; then nothing has changed.
        """
        copied = await copy_all(self._db, target._db, progress)
        await mark_moved(self._db, target._db.name)
        return copied["records"]

    # The loop

    async def transition(self, change: LoopTransaction) -> None:
        """Write what an action changed in one transaction. Raises PermanentError where the lease has moved on."""
        await transition(self._db, self._clock, change)
