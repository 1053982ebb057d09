"""The usage log as a library: what the proxy writes for HTTP traffic, an application can write by itself.

The quick start's names and results, on the same store: `log` makes an ordinary record, `record_feedback` an ordinary
vote, and experiments count them as they count the proxy's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from policies.kinds import JSON
from policies.records import Arm, StickySource
from policies.transition import Position
from proxy.clock import Clock, SystemClock
from proxy.ids import KEYS_FILE, ForgedIdError, KeyRing, RecordIds
from proxy.loop.act.routes import route_table
from proxy.loop.library.event_loop_thread import EventLoopThread
from proxy.loop.look.position import read_position
from proxy.private import make_folder
from proxy.routes import RouteTable
from proxy.store.store import Store
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote, RecordFilter, RecordRow
from proxy.tasks import spawn
from proxy.wire.person import person_key

__all__ = ["UsageLogger", "UsageStore", "open_usage_store"]

_ROUTES_S: Final = 1.0
"""How long a look at who is challenger is good for; the proxy's workers are as quick."""
_PAGE: Final = 500


@dataclass(slots=True)
class UsageStore:
    """An open store, the keys beside it, and what is known of the routes."""

    store: Store
    keys: KeyRing
    ids: RecordIds
    clock: Clock
    writer: str
    written: int = 0
    table: RouteTable | None = None
    position: Position | None = None
    table_at: float = float("-inf")
    model_ids: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[NewRecord | None, NewVote | None, asyncio.Future[None]]] = field(default_factory=list)
    commit: asyncio.Task[None] | None = None

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

    async def apply(self, *, record: NewRecord | None = None, vote: NewVote | None = None) -> None:
        """Write one record or vote and wait until it is there. What comes in meanwhile shares the next transaction."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((record, vote, done))
        if self.commit is None or self.commit.done():
            self.commit = spawn(self._commit_waiting(), name="group commit of the usage log")
        await done

    async def _commit_waiting(self) -> None:
        while self.waiting:
            group, self.waiting = self.waiting, []
            self.written += 1
            batch = IngestBatch(
                writer=self.writer,
                segment=0,
                offset=self.written,
                records=tuple(record for record, _, _ in group if record is not None),
                votes=tuple(vote for _, vote, _ in group if vote is not None),
            )
            try:
                await self.store.ingest.apply(batch)
            except Exception as exc:  # noqa: BLE001 - whoever waits gets it
                for _, _, done in group:
                    if not done.done():
                        done.set_exception(exc)
            else:
                for _, _, done in group:
                    if not done.done():
                        done.set_result(None)


async def open_usage_store(db_path: str | Path, clock: Clock) -> UsageStore:
    """Open the database (made where it does not exist; `~` is expanded) and its keys."""
    path = Path(db_path).expanduser().absolute()
    make_folder(path.parent)
    keys = KeyRing.load_or_create(path.parent / KEYS_FILE)
    ids = RecordIds(keys)
    store = await Store.open(f"sqlite:///{path}", clock=clock, busy_timeout_s=30.0)
    return UsageStore(store=store, keys=keys, ids=ids, clock=clock, writer=f"library-{ids.new_uuid(clock.now())}")


async def _close(usage: UsageStore) -> None:
    await usage.store.close()


class UsageLogger:
    """Logs queries, responses and thumbs. Safe from threads, event loops and several processes at once."""

    def __init__(self, db_path: str | Path = "ratchet-data/ratchet.db", *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.db_path = Path(db_path).expanduser().absolute()
        self.background: EventLoopThread[UsageStore] = EventLoopThread(
            lambda: open_usage_store(self.db_path, self._clock), _close
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. Safe to repeat."""
        self.background.close()

    def log(
        self,
        query: str,
        response: str,
        model: str,
        *,
        expert: str | None = None,
        latency_ms: float = 0,
        quality_score: float | None = None,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Write one call of a model down; returns its record id.

        `quality_score` is 0 to 1, None where nothing judged the answer. `model` naming the challenger puts the record
        on the challenger's side of the experiment; naming the old champion while the new one is watched, on the
        control's. `user` (any text; only a keyed hash is kept) ties a user's calls together: without it each call
        counts as a user of its own. Raises ValueError for a score out of range.
        """
        if quality_score is not None and not 0.0 <= quality_score <= 1.0:
            raise ValueError(f"quality_score: {quality_score} is not between 0 and 1")
        if not 0.0 <= latency_ms < float("inf"):
            raise ValueError(f"latency_ms: {latency_ms} is not a number of milliseconds, 0 or more")
        labels = {**(tags or {}), **({} if expert is None else {"expert": expert})}
        body = BodyPayload(method="LOG", target="", query=query, response_text=response, tags=labels)
        return self.background.run(lambda usage: _log(usage, body, model, latency_ms, quality_score, user))

    def record_feedback(
        self,
        record_id: str,
        feedback: int,
        feedback_text: str | None = None,
        *,
        correction: str | None = None,
        source: str = "anonymous",
    ) -> bool:
        """Attach a thumb (1 up, 0 neutral, −1 down) to a record; a later vote of the same source replaces it.

        False where there is no such record. Raises ValueError for any other `feedback`.
        """
        if feedback not in (1, 0, -1):
            raise ValueError(f"feedback: {feedback!r} is not 1, 0 or -1")
        return self.background.run(
            lambda usage: _vote(usage, record_id, int(feedback), feedback_text, correction, source)
        )

    def get_records(
        self, limit: int = 100, *, min_quality: float | None = None, voted: bool | None = None
    ) -> list[dict[str, Any]]:
        """The newest records as plain dictionaries, newest first."""
        wanted = RecordFilter(min_quality=min_quality, voted=voted)
        return self.background.run(lambda usage: _records(usage, wanted, limit))

    def get_statistics(self) -> dict[str, Any]:
        """Sums over the whole log: total, with_feedback, feedback_rate (0 to 1), avg_quality_score (0 without any
        score), scored, positive, negative, neutral, avg_feedback (−1 to 1, None without votes), errors."""
        return self.background.run(_statistics)


async def _log(
    usage: UsageStore, body: BodyPayload, model: str, latency_ms: float, quality: float | None, user: str | None
) -> str:
    minted = usage.ids.mint(usage.clock.now())
    table = await usage.routes()
    arm, model_id = await _place(usage, model)
    record = NewRecord(
        id=minted.hex,
        user_hash=None if user is None else usage.keys.user_hash(person_key(user)),
        key_source=StickySource.RANDOM if user is None else StickySource.HEADER,
        arm=arm,
        served_by=arm,
        model_id=model_id,
        experiment_id=None if table is None else table.experiment_id,
        epoch=0 if table is None else table.epoch,
        config_id=0 if table is None else table.config_id,
        kind=JSON.name,
        method=body.method,
        status=200,
        duration_us=round(latency_ms * 1000),
        upstream_us=round(latency_ms * 1000),
        quality=quality,
        quality_source=None if quality is None else "application",
        body=body,
    )
    await usage.apply(record=record)
    return minted.text


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


async def _vote(
    usage: UsageStore, record_id: str, feedback: int, text: str | None, correction: str | None, source: str
) -> bool:
    try:
        uuid = usage.ids.verify(record_id)
    except ForgedIdError:
        if not is_record_id(record_id):
            return False
        uuid = record_id
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
    await usage.apply(vote=vote)
    return True


async def _records(usage: UsageStore, wanted: RecordFilter, limit: int) -> list[dict[str, Any]]:
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


async def _statistics(usage: UsageStore) -> dict[str, Any]:
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
