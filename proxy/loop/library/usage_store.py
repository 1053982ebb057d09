"""The store behind the library: what was logged gets in here, many calls in one transaction.

Everything in this module runs on the library's own event loop (`EventLoopThread`). It is imported with the first call,
not with the library: SQLAlchemy and what stands on it take longer to import than an application may wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policies.kinds import JSON
from policies.records import Arm, StickySource
from policies.transition import Position
from proxy.clock import Clock
from proxy.errors import PermanentError
from proxy.ids import KEYS_FILE, KeyRing, RecordIds, minted_at
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.routes import route_table
from proxy.loop.library.journal import MANY, JournalFile, LoggedCall, UsageJournal
from proxy.loop.look.position import read_position
from proxy.private import make_folder
from proxy.routes import RouteTable
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["UsageStore", "close_usage_store", "open_usage_store"]

_ROUTES_S: Final = 1.0
"""How long a look at who is challenger is good for; the proxy's workers are as quick."""
_GATHER_S: Final = 0.02
_BETWEEN_S: Final = 1.0
"""From one commit to the next, where calls come one after the other: other processes see them so much later."""
_AGAIN_S: Final = 5.0
_BUSY_S: Final = 30.0
"""How long another process may keep the database to itself."""
_CLOCK_S: Final = 2.0
"""A clock that goes back by so little, while a call waits, makes no other call of it."""
_POISON: Final = (PermanentError, TypeError, ValueError, OverflowError)
"""What a record itself may be refused with; anything else may go well the next time."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class UsageStore:
    """An open store, the keys beside it, what waits to be stored, and what is known of the routes."""

    store: Store
    keys: KeyRing
    ids: RecordIds
    clock: Clock
    journal: UsageJournal
    table: RouteTable | None = None
    position: Position | None = None
    table_at: float = float("-inf")
    model_ids: dict[str, int] = field(default_factory=dict)
    unstored: list[JournalFile] = field(default_factory=list)
    votes: list[tuple[NewVote, asyncio.Future[None]]] = field(default_factory=list)
    one_commit: asyncio.Lock = field(default_factory=asyncio.Lock)
    commit: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    committed_at: float = float("-inf")
    failing: bool = False
    """What was tried last could not be stored."""
    ended: bool = False
    """It is being closed."""
    troubles: ThrottledLog = field(init=False)

    def __post_init__(self) -> None:
        self.troubles = ThrottledLog(_log, self.clock)

    async def routes(self) -> RouteTable | None:
        """Who is champion and challenger, at most a second old; None before the loop's first look."""
        if self.clock.monotonic() - self.table_at > _ROUTES_S:
            position = await read_position(self.store)
            if position is not None:
                self.position = position
                self.table = route_table(position)
            self.table_at = self.clock.monotonic()
        return self.table

    async def model_id(self, name: str) -> int:
        """The row of the model of this name, made where there is none."""
        if name not in self.model_ids:
            self.model_ids[name] = (await self.store.models.add(name)).id
        return self.model_ids[name]

    def wake(self, *, at_once: bool) -> None:
        """Something waits: store it at once, or with what comes until the next commit is due."""
        if at_once:
            self._begin()
        else:
            self._later(max(_GATHER_S, self.committed_at + _BETWEEN_S - asyncio.get_running_loop().time()))

    def _begin(self) -> None:
        self._no_timer()
        if not self.ended and (self.commit is None or self.commit.done()):
            self.commit = spawn(self._in_background(), name="group commit of the usage log")

    def _no_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    async def relieved(self) -> None:
        """Back when less waits: who logs faster than the store takes is slowed to its pace. While it takes nothing,
        nobody is: a file is begun for what comes, so that memory is spared."""
        if self.failing:
            self._put_aside()
            self._later(_AGAIN_S)
        else:
            self._begin()
            if self.commit is not None:
                await asyncio.wait([self.commit])

    def _put_aside(self) -> None:
        if self.journal.full:
            aside = self.journal.take()
            if self.failing:
                aside.forget()
            self.unstored.append(aside)

    async def _in_background(self) -> None:
        """What cannot be stored now stays in its file, and is tried again."""
        try:
            await self.settle()
            while self.votes or self.journal.waiting >= MANY:
                await self.settle()
        except Exception as exc:  # noqa: BLE001 - whoever reads next gets it; nobody waits here
            self.troubles.warning("away", "the usage log cannot be stored now and will be tried again: %s", exc)
        if self.votes or self.journal.waiting:
            self._later(_BETWEEN_S)

    def _later(self, due_s: float) -> None:
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(due_s, self._begin)

    async def settle(self) -> None:
        """Store all that was logged before this call, here and by processes that are gone. Raises what goes wrong; it
        is tried again by itself."""
        async with self.one_commit:
            self._no_timer()
            votes, self.votes = self.votes, []
            try:
                await self._store_all(votes)
            except Exception as exc:
                self.failing = True
                self._later(_AGAIN_S)
                for _, done in votes:
                    if not done.done():
                        done.set_exception(exc)
                raise
            finally:
                self.committed_at = asyncio.get_running_loop().time()
            self.failing = False
            self.troubles.over("away")
            for _, done in votes:
                if not done.done():
                    done.set_result(None)
            await self._adopt()

    async def _store_all(self, votes: Sequence[tuple[NewVote, object]]) -> None:
        """First what could not be stored before. What comes meanwhile shares one file until that is done, and not one
        for each try: every file is an open descriptor."""
        self._put_aside()
        while self.unstored:
            await self._store_oldest([])
        taken = self.journal.take()
        if not taken.calls:
            taken.remove()  # it was begun for a call that the disk did not take
            if votes:
                await self._store(taken, votes)
            return
        self.unstored.append(taken)
        await self._store_oldest(votes)

    async def _store_oldest(self, votes: Sequence[tuple[NewVote, object]]) -> None:
        oldest = self.unstored[0]
        oldest.remember()
        await self._store(oldest, votes)
        self.failing = False  # from here on who logs faster waits again
        self.unstored.pop(0).remove()

    async def _adopt(self) -> None:
        """Store what a killed process had logged."""
        for file in self.journal.orphans():
            try:
                await self._store(file, [])
                file.remove()
                _log.info("stored %d calls that a process had logged before it ended", len(file.calls))
            except Exception as exc:  # noqa: BLE001 - it stays for the next time; this process has nothing to do with it
                _log.warning("%s cannot be stored now: %s", file.path, exc)
            finally:
                file.let_go()

    async def _store(self, file: JournalFile, votes: Sequence[tuple[NewVote, object]]) -> None:
        await self.routes()
        try:
            await self._apply(file, len(file.calls) + 1, file.calls, votes)
        except _POISON:
            if not file.calls:
                raise
            await self._one_by_one(file, votes)

    async def _one_by_one(self, file: JournalFile, votes: Sequence[tuple[NewVote, object]]) -> None:
        """One call that the store refuses keeps no other out."""
        for at, call in enumerate(file.calls, 1):
            try:
                await self._apply(file, at, [call], ())
            except _POISON as exc:
                _log.error("one logged call is left out, for the store refuses it: %s", exc)
        await self._apply(file, len(file.calls) + 1, (), votes)

    async def _apply(
        self, file: JournalFile, end: int, calls: Sequence[LoggedCall], votes: Sequence[tuple[NewVote, object]]
    ) -> None:
        """These of the file's calls, up to its position `end`, in one transaction."""
        batch = IngestBatch(
            writer=file.writer,
            segment=file.number,
            offset=end,
            records=tuple([await self._record(call) for call in calls]),
            votes=tuple(vote for vote, _ in votes),
        )
        await self.store.ingest.apply(batch)

    async def _record(self, call: LoggedCall) -> NewRecord:
        position, table = self.position, self.table  # of one moment
        arm, known = _place(position, table, call.model)
        model_id = await self.model_id(call.model) if known is None else known
        counts = _counts(position, call, self.clock.now())
        took_us = round(call.latency_ms * 1000)
        body = BodyPayload(method="LOG", target="", query=call.query, response_text=call.response, tags=call.tags)
        return NewRecord(
            id=call.record_id,
            user_hash=call.user_hash,
            key_source=StickySource.RANDOM if call.user_hash is None else StickySource.HEADER,
            arm=arm,
            served_by=arm,
            model_id=model_id,
            experiment_id=table.experiment_id if table is not None and counts else None,
            epoch=0 if table is None else table.epoch,
            config_id=0 if table is None else table.config_id,
            kind=JSON.name,
            method=body.method,
            status=200,
            duration_us=took_us,
            upstream_us=took_us,
            quality=call.quality,
            quality_source=None if call.quality is None else "application",
            body=body,
        )

    async def end(self) -> None:
        """Try nothing again, and leave what is not stored to whoever comes next."""
        self.ended = True
        self._no_timer()
        if self.commit is not None:
            await cancel_and_wait([self.commit])
        for file in (*self.unstored, self.journal.take()):
            file.let_go()
        self.unstored = []

    async def vote(self, vote: NewVote) -> None:
        """Write one vote and wait until it is there. What comes in meanwhile shares the next transaction."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.votes.append((vote, done))
        self._begin()
        await done


async def open_usage_store(db_path: str | Path, clock: Clock) -> UsageStore:
    """Open the database (made where it does not exist; `~` is expanded) and its keys."""
    path = Path(db_path).expanduser().absolute()
    make_folder(path.parent)
    keys = KeyRing.load_or_create(path.parent / KEYS_FILE)
    ids = RecordIds(keys)
    store = await Store.open(f"sqlite:///{path}", clock=clock, busy_timeout_s=_BUSY_S)
    writer = f"library-{ids.new_uuid(clock.now())}"
    journal = UsageJournal(folder=path.with_name(f"{path.name}-log"), writer=writer, ids=RecordIds(keys))
    return UsageStore(store=store, keys=keys, ids=ids, clock=clock, journal=journal)


async def close_usage_store(usage: UsageStore) -> None:
    """Store what waits, and close. What cannot be stored stays in its file for who opens the log next."""
    usage.journal.close()
    try:
        await usage.settle()
    finally:
        await usage.end()
        await usage.store.close()


def _place(position: Position | None, table: RouteTable | None, model: str) -> tuple[Arm, int | None]:
    """On which side a call of `model` (a name, or the path that training gave) counts, and that model's row."""
    if position is not None and table is not None:
        sides = (
            (Arm.CHALLENGER, position.challenger if table.challenger is not None else None),
            (Arm.CHAMPION, position.champion),
            (Arm.CONTROL, position.previous if table.control is not None else None),
        )
        for arm, known in sides:
            if known is not None and model in (known.name, known.path):
                return arm, known.id
    return Arm.CHAMPION, None


def _counts(position: Position | None, call: LoggedCall, now: float) -> bool:
    """Whether the call is evidence in the test that runs: it was logged since the users were split as they are now.

    One that waited longer for the store, or whose process was killed before, was answered under another split. One that
    is dated ahead comes of a clock that was wrong, and nobody knows when it was.
    """
    test = None if position is None else position.experiment
    logged_ms = round(minted_at(call.record_id) * 1000)
    return test is not None and test.epoch_started_us // 1000 <= logged_ms <= (now + _CLOCK_S) * 1000
