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
from typing import Any, Final

from policies.kinds import JSON
from policies.records import Arm, StickySource
from policies.transition import Position
from proxy.clock import Clock
from proxy.errors import PermanentError
from proxy.ids import KEYS_FILE, ForgedIdError, KeyRing, RecordIds
from proxy.loop.act.routes import route_table
from proxy.loop.library.journal import MANY, JournalFile, LoggedCall, UsageJournal
from proxy.loop.look.position import read_position
from proxy.private import make_folder
from proxy.routes import RouteTable
from proxy.store.store import Store
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote, RecordFilter, RecordRow
from proxy.tasks import spawn

__all__ = ["UsageStore", "close_usage_store", "find_records", "open_usage_store", "record_vote", "statistics"]

_ROUTES_S: Final = 1.0
"""How long a look at who is challenger is good for; the proxy's workers are as quick."""
_PAGE: Final = 500
_GATHER_S: Final = 0.02
_BETWEEN_S: Final = 1.0
"""From one commit to the next, where calls come one after the other: other processes see them so much later."""
_AGAIN_S: Final = 5.0
_POISON: Final = (PermanentError, TypeError, ValueError)
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
        elif self.timer is None:
            loop = asyncio.get_running_loop()
            due_s = max(_GATHER_S, self.committed_at + _BETWEEN_S - loop.time())
            self.timer = loop.call_later(due_s, self._begin)

    def _begin(self) -> None:
        self._no_timer()
        if self.commit is None or self.commit.done():
            self.commit = spawn(self._in_background(), name="group commit of the usage log")

    def _no_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    async def _in_background(self) -> None:
        """What cannot be stored now stays in its file, and is tried again."""
        due_s = _BETWEEN_S
        try:
            await self.settle()
            while self.votes or self.journal.waiting >= MANY:
                await self.settle()
        except Exception as exc:  # noqa: BLE001 - whoever reads next gets it; nobody waits here
            _log.warning("the usage log cannot be stored now and will be tried again: %s", exc)
            due_s = _AGAIN_S
        if (self.unstored or self.journal.waiting) and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(due_s, self._begin)

    async def settle(self) -> None:
        """Store all that was logged before this call, here and by processes that are gone. Raises what goes wrong."""
        async with self.one_commit:
            self._no_timer()
            taken = self.journal.take()
            votes, self.votes = self.votes, []
            if taken.calls or votes:
                self.unstored.append(taken)
            try:
                while self.unstored:
                    await self._store(self.unstored[0], votes if len(self.unstored) == 1 else [])
                    self.unstored.pop(0).remove()
            except Exception as exc:
                self.unstored = [file for file in self.unstored if file.calls]
                for _, done in votes:
                    if not done.done():
                        done.set_exception(exc)
                raise
            finally:
                self.committed_at = asyncio.get_running_loop().time()
            for _, done in votes:
                if not done.done():
                    done.set_result(None)
            await self._adopt()

    async def _adopt(self) -> None:
        """What a killed process had logged becomes training data, and no evidence: which test it belonged to, its file
        does not say."""
        for file in self.journal.orphans():
            try:
                await self._store(file, [], evidence=False)
                file.remove()
                _log.info("stored %d calls that a process had logged before it ended", len(file.calls))
            except Exception as exc:  # noqa: BLE001 - it stays for the next time; this process has nothing to do with it
                file.let_go()
                _log.warning("%s cannot be stored now: %s", file.path, exc)

    async def _store(
        self, file: JournalFile, votes: Sequence[tuple[NewVote, object]], *, evidence: bool = True
    ) -> None:
        try:
            await self._apply(file, len(file.calls) + 1, file.calls, votes, evidence=evidence)
        except _POISON:
            if not file.calls:
                raise
            await self._one_by_one(file, votes, evidence=evidence)

    async def _one_by_one(self, file: JournalFile, votes: Sequence[tuple[NewVote, object]], *, evidence: bool) -> None:
        """One call that the store refuses keeps no other out."""
        for at, call in enumerate(file.calls, 1):
            try:
                await self._apply(file, at, [call], (), evidence=evidence)
            except _POISON as exc:
                _log.error("one logged call is left out, for the store refuses it: %s", exc)
        await self._apply(file, len(file.calls) + 1, (), votes, evidence=evidence)

    async def _apply(
        self, file: JournalFile, end: int, calls: Sequence[LoggedCall], votes: Sequence[tuple[NewVote, object]], *,
        evidence: bool,
    ) -> None:  # fmt: skip
        """These of the file's calls, up to its position `end`, in one transaction."""
        table = await self.routes()
        batch = IngestBatch(
            writer=file.writer,
            segment=file.number,
            offset=end,
            records=tuple([await self._record(call, table, evidence=evidence) for call in calls]),
            votes=tuple(vote for vote, _ in votes),
        )
        await self.store.ingest.apply(batch)

    async def _record(self, call: LoggedCall, table: RouteTable | None, *, evidence: bool) -> NewRecord:
        arm, model_id = await _place(self, call.model)
        took_us = round(call.latency_ms * 1000)
        body = BodyPayload(method="LOG", target="", query=call.query, response_text=call.response, tags=call.tags)
        return NewRecord(
            id=call.record_id,
            user_hash=call.user_hash,
            key_source=StickySource.RANDOM if call.user_hash is None else StickySource.HEADER,
            arm=arm,
            served_by=arm,
            model_id=model_id,
            experiment_id=None if table is None or not evidence else table.experiment_id,
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
    store = await Store.open(f"sqlite:///{path}", clock=clock, busy_timeout_s=30.0)
    writer = f"library-{ids.new_uuid(clock.now())}"
    journal = UsageJournal(folder=path.with_name(f"{path.name}-log"), writer=writer, ids=RecordIds(keys))
    return UsageStore(store=store, keys=keys, ids=ids, clock=clock, journal=journal)


async def close_usage_store(usage: UsageStore) -> None:
    """Store what waits, and close. What cannot be stored stays in its file for who opens the log next."""
    usage.journal.close()
    try:
        await usage.settle()
    finally:
        for file in usage.unstored:
            file.let_go()
        await usage.store.close()


async def _place(usage: UsageStore, model: str) -> tuple[Arm, int]:
    """On which side a call of `model` (a name, or the path that training gave) counts."""
    position, table = usage.position, usage.table
    if position is not None and table is not None:
        sides = (
            (Arm.CHALLENGER, position.challenger if table.challenger is not None else None),
            (Arm.CHAMPION, position.champion),
            (Arm.CONTROL, position.previous if table.control is not None else None),
        )
        for arm, known in sides:
            if known is not None and model in (known.name, known.path):
                return arm, known.id
    return Arm.CHAMPION, await usage.model_id(model)


async def record_vote(
    usage: UsageStore, record_id: str, feedback: int, text: str | None, correction: str | None, source: str
) -> bool:
    """Attach a vote to a record by its id, signed or not; False where there is no such record."""
    try:
        uuid = usage.ids.verify(record_id)
    except ForgedIdError:
        if not is_record_id(record_id):
            return False
        uuid = record_id
    if not usage.journal.holds(uuid) and await usage.store.records.get(uuid) is None:
        await usage.settle()
        if await usage.store.records.get(uuid) is None:
            return False
    now = usage.clock.now()
    vote = NewVote(
        fid=usage.ids.new_uuid(now),
        record_id=uuid,
        source=source,
        feedback=feedback,
        comment=text,
        correction=correction,
        created_us=round(now * 1e6),
    )
    await usage.vote(vote)
    return True


async def find_records(usage: UsageStore, wanted: RecordFilter, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        page = await usage.store.records.list(wanted, cursor=cursor, limit=min(_PAGE, limit - len(found)))
        found += [_row(row, usage.ids) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    return found


def _row(row: RecordRow, ids: RecordIds) -> dict[str, Any]:
    return {
        "record_id": ids.sign(row.id),
        "timestamp": row.created_us / 1e6,
        "query": row.query,
        "response": row.response_text,
        "model": row.model_name,
        "arm": row.arm.label,
        "latency_ms": row.duration_us / 1000,
        "quality_score": row.quality,
        "feedback": row.feedback,
    }


async def statistics(usage: UsageStore) -> dict[str, Any]:
    totals = await usage.store.traffic.totals()
    votes = totals.votes
    given = votes.positive + votes.negative + votes.neutral
    return {
        "total": totals.requests,
        "with_feedback": totals.voted,
        "feedback_rate": totals.voted / totals.of_users if totals.of_users else 0.0,
        "scored": totals.scored,
        "avg_quality_score": totals.quality if totals.quality is not None else 0.0,
        "avg_feedback": (votes.positive - votes.negative) / given if given else None,
        "positive": votes.positive,
        "negative": votes.negative,
        "neutral": votes.neutral,
        "errors": totals.errors,
    }
