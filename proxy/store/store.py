"""The store as the rest of the program sees it: one object, opened once, closed at the end.

Everything hangs off it by noun: `store.ingest` takes in, `store.records`, `.samples`, `.statistics` and `.traffic` are
read, `.retention` and `.deletion` forget, and the control plane is `.models`, `.journal` and so on. Each of their
methods is one short transaction, or a series of such. What cannot be done now, because the database is locked, full,
down or restarting, raises TemporaryError: nothing was written, try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from proxy.clock import Clock
from proxy.store.control.checks import Checks
from proxy.store.control.commands import Commands
from proxy.store.control.comparison_pages import ComparisonPages
from proxy.store.control.comparisons import Comparisons
from proxy.store.control.credentials import Credentials
from proxy.store.control.experiments import Experiments
from proxy.store.control.install import Configs, Replicas, Secrets
from proxy.store.control.journal import Journal
from proxy.store.control.judgements import Judgements
from proxy.store.control.leases import Leases
from proxy.store.control.models import Models, Runs
from proxy.store.control.outside import OutsideVotes
from proxy.store.control.past_saving import PastSavings
from proxy.store.control.pasts import Pasts
from proxy.store.control.preferences import Preferences
from proxy.store.control.state import StateEntries
from proxy.store.engine.channels import CHANNELS
from proxy.store.engine.database import Database, Heard
from proxy.store.ingest.batch import Ingest
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.ingest.spools import Spools
from proxy.store.move import copy_all, mark_moved, refuse_if_moved
from proxy.store.reading.conversations import ConversationVotes
from proxy.store.reading.days import Days
from proxy.store.reading.finished import Finished
from proxy.store.reading.records import Records
from proxy.store.reading.samples import Samples
from proxy.store.reading.statistics import Statistics
from proxy.store.reading.traffic import Traffic
from proxy.store.retention.deletion import Deletion
from proxy.store.retention.forgotten import Forgotten
from proxy.store.retention.pruning import Retention
from proxy.store.tables.migrate import migrate, refuse_unless_current

__all__ = ["Store"]

_PROOF: Final = "written"
"""Entry of the table `secrets`, which stays behind where a store moves."""


class Store:
    """All that is kept. Safe to use from many tasks of one event loop, and by many processes at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._codec = BodyCodec(database)
        self._mending = asyncio.Lock()
        self.ingest = Ingest(database, self._codec)
        self.records = Records(database, self._codec)
        self.finished = Finished(database, self._codec)
        self.samples = Samples(database, self._codec)
        self.statistics = Statistics(database)
        self.conversations = ConversationVotes(database)
        self.traffic = Traffic(database, clock)
        self.days = Days(database)
        self.retention = Retention(database, clock)
        self.deletion = Deletion(database, self._codec, clock)
        self.forgotten = Forgotten(database)
        self.models = Models(database, clock)
        self.experiments = Experiments(database)
        self.pasts = Pasts(database)
        self.past_savings = PastSavings(database, clock)
        self.checks = Checks(database)
        self.comparisons = Comparisons(database, clock)
        self.judgements = Judgements(database, self._codec, self.ingest, clock)
        self.comparison_pages = ComparisonPages(database)
        self.preferences = Preferences(database, clock)
        self.runs = Runs(database)
        self.journal = Journal(database, clock)
        self.state = StateEntries(database)
        self.leases = Leases(database)
        self.commands = Commands(database, clock)
        self.configs = Configs(database, clock)
        self.outside = OutsideVotes(database)
        self.replicas = Replicas(database)
        self.spools = Spools(database)
        self.secrets = Secrets(database)
        self.credentials = Credentials(database)

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
        self.ingest.forget()

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

    async def move_to(self, target: Store, progress: Callable[[str, int], None] = lambda _table, _rows: None) -> int:
        """Copy everything to the empty `target`; afterwards this one opens no more. Returns the number of records.

        Nobody else may use this store meanwhile. `progress` hears a table's name and its rows so far. Raises
        PermanentError where `target` is not empty; then nothing has changed.
        """
        copied = await copy_all(self._db, target._db, progress)
        await mark_moved(self._db, target._db.name)
        return copied["records"]
