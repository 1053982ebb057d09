"""Sends what is finished to a collector: off the serving path, one controller of an install, each thing once.

    hold the lease, whose row is the cursor → what ended since → a batch: read, said as spans and events → sent → cursor

The store is the queue: while the collector is away nothing is read, and nothing grows. What could not be sent for
`telemetry.otlp_max_age_seconds` is passed over and counted. A process that is killed sends its last batches again; they
are the same spans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NoReturn

from policies.exporting import is_sent
from proxy.clock import Clock
from proxy.config.model import TelemetryConfig
from proxy.store.control.holder import LeaseHolder
from proxy.store.reading.finished import SLOW_US, FinishedRecord, StoredJudgement, StoredVote
from proxy.store.store import Store
from proxy.store.tables.keys import id_floor, id_time_us
from proxy.store.tables.values import RecordView
from proxy.telemetry.cursor import Cursor
from proxy.telemetry.delivery import Delivery
from proxy.telemetry.evaluations import events_of_judgement, events_of_scores, events_of_vote
from proxy.telemetry.facts import EventFacts, SpanFacts
from proxy.telemetry.metrics import TelemetryMetrics
from proxy.telemetry.spans import ModelServer, Reading, read, span_of
from proxy.wire.extract import KINDS

__all__ = ["LEASE", "TelemetryService"]

LEASE: Final = "telemetry"
_SAVE_S: Final = 2.0
_SLOW_EVERY_US: Final = 30_000_000
_LAG_S: Final = 3.0
"""For what has ended to get from the gateway to the store, beside what `stored_until` knows."""
_OPEN_S: Final = 900.0
"""So long a judge's answer is waited for."""
_PAGE: Final = 1000
_BATCH: Final = 100
_BATCH_BYTES: Final = 8_388_608
_SPOKEN: Final = frozenset(kind.name for kind in KINDS.values() if kind.operation is not None)
"""Kinds of which there are spans."""

_log = logging.getLogger(__name__)


class TelemetryService:
    """Sends what one store has. Of several controllers, the one with the lease does."""

    def __init__(
        self,
        config: TelemetryConfig,
        store: Store,
        clock: Clock,
        metrics: TelemetryMetrics,
        delivery: Delivery,
        *,
        champion: ModelServer,
        stored_until: Callable[[], Awaitable[float]],
        holder: str,
    ) -> None:
        """`champion`: the configured one; `stored_until`: up to which instant (Unix seconds) all that has ended is in
        the store; `holder` names this controller in the lease."""
        self._config = config
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._delivery = delivery
        self._champion = champion
        self._stored_until = stored_until
        self._holder = LeaseHolder(
            store.leases, LEASE, holder, take_over=self._take_over, detail=lambda: self._cursor.detail()
        )
        self._cursor = Cursor.at(0)
        self._saved_at = float("-inf")

    async def run(self) -> NoReturn:
        """Send, for ever. Raises TemporaryError while the store is away."""
        try:
            await self._holder.run(self._round)
        finally:
            self._metrics.lag_s = None

    async def _take_over(self) -> None:
        """Go on where whoever had the lease was."""
        before = await self._holder.before()
        known = None if before is None else Cursor.of(before.detail)
        cursor = known or Cursor.at(int((self._clock.now() - _LAG_S) * 1e6))
        if await self._holder.renew(cursor.detail()) is not None:
            self._cursor = cursor

    async def _round(self) -> bool:
        """Send the next few of each; False where nothing waits, or another controller sends."""
        if self._holder.lease is None:
            return False
        until_us = int(min(self._clock.now() - _LAG_S, await self._stored_until()) * 1e6)
        await self._pass_over(until_us - int(self._config.otlp_max_age_seconds * 1e6))
        servers = await self._servers()
        busy = await self._quick(until_us, servers)
        busy |= await self._slow(until_us, servers)
        busy |= await self._votes(until_us, servers)
        busy |= await self._judgements(until_us, servers)
        self._metrics.lag_s = None
        return busy and self._holder.lease is not None

    async def _pass_over(self, floor_us: int) -> None:
        """Leave out what has become too old."""
        moved = self._cursor.further(Cursor.at(floor_us))
        if moved == self._cursor:
            return
        count = await self._store.finished.count(
            after_id=self._cursor.record, before_id=moved.record, kinds=sorted(_SPOKEN)
        )
        left_out = round(count * self._config.otlp_sample)
        if left_out:
            self._metrics.dropped("traces", "too_old", left_out)
            _log.warning(
                "telemetry: about %d records are older than telemetry.otlp_max_age_seconds, and left out", left_out
            )
        votes = await self._store.finished.count_votes(after=self._cursor.vote, before=moved.vote)
        self._metrics.dropped("logs", "too_old", votes)
        await self._moved(moved)

    async def _servers(self) -> Mapping[int, ModelServer]:
        """Who has which model."""
        models = await self._store.models.list()
        return {0: self._champion} | {
            model.id: ModelServer(model.name, model.url or self._champion.url) for model in models
        }

    async def _quick(self, until_us: int, servers: Mapping[int, ModelServer]) -> bool:
        before = id_floor(until_us - SLOW_US)
        if before <= self._cursor.record:
            return False
        found = await self._store.finished.quick(after_id=self._cursor.record, before_id=before, limit=_PAGE)
        await self._send_records(found, lambda one: replace(self._cursor, record=one.id), servers)
        if len(found) < _PAGE:
            await self._moved(replace(self._cursor, record=before))
        return len(found) == _PAGE

    async def _slow(self, until_us: int, servers: Mapping[int, ModelServer]) -> bool:
        if until_us - self._cursor.slow[0] < _SLOW_EVERY_US:
            return False
        found = await self._store.finished.slow(after=self._cursor.slow, until_us=until_us, limit=_PAGE)
        await self._send_records(found, lambda one: replace(self._cursor, slow=(one.ended_us, one.id)), servers)
        if len(found) == _PAGE:
            return True
        await self._moved(replace(self._cursor, slow=(until_us, "f" * 32)))
        return False

    async def _send_records(
        self,
        found: Sequence[FinishedRecord],
        behind: Callable[[FinishedRecord], Cursor],
        servers: Mapping[int, ModelServer],
    ) -> None:
        """Those of them that are drawn, a batch at a time; the cursor follows each batch."""
        share = self._config.otlp_sample
        drawn = [one for one in found if one.kind in _SPOKEN and is_sent(one.id, share, failed=one.failed)]
        for batch in _batches(drawn):
            if self._holder.lease is None:
                return
            views = await self._store.finished.views([one.id for one in batch])
            spans, events = await asyncio.to_thread(self._say_records, list(views.values()), servers)
            await self._deliver(spans, events, batch[0].ended_us / 1e6)
            await self._moved(behind(batch[-1]))
        if found:
            await self._moved(behind(found[-1]))

    def _say_records(
        self, views: Sequence[RecordView], servers: Mapping[int, ModelServer]
    ) -> tuple[list[SpanFacts], list[EventFacts]]:
        """Work on the CPU."""
        spans, events = [], []
        for view in views:
            if (reading := self._read(view, servers)) is not None:
                span = span_of(reading, content=self._config.otlp_content)
                spans += [] if span is None else [span]
                events += list(events_of_scores(reading))
        return spans, events

    def _read(self, view: RecordView | None, servers: Mapping[int, ModelServer]) -> Reading | None:
        if view is None:
            return None
        server = servers.get(view.row.model_id) or ModelServer(view.row.model_name or self._champion.name, None)
        try:
            return read(view, server)
        except Exception:  # noqa: BLE001 - whatever stands in a log, the others are sent
            _log.exception("record %s cannot be read for telemetry", view.row.id)
            return None

    async def _votes(self, until_us: int, servers: Mapping[int, ModelServer]) -> bool:
        before = id_floor(until_us - SLOW_US)
        if before <= self._cursor.vote:
            return False
        found = await self._store.finished.votes(after=self._cursor.vote, before=before, limit=_BATCH)
        about = [one for one in found if one.record_id is not None or one.whole]
        views = await self._store.finished.views(sorted({one.record_id for one in about if one.record_id is not None}))
        if about:
            spans, events = await asyncio.to_thread(self._say_votes, about, views, servers)
            await self._deliver(spans, events, id_time_us(about[0].fid) / 1e6)
        await self._moved(replace(self._cursor, vote=found[-1].fid if len(found) == _BATCH else before))
        return len(found) == _BATCH

    def _say_votes(
        self, votes: Sequence[StoredVote], views: Mapping[str, RecordView], servers: Mapping[int, ModelServer]
    ) -> tuple[list[SpanFacts], list[EventFacts]]:
        """Events, and the spans of records that were not drawn; work on the CPU."""
        spans, events, content = [], [], self._config.otlp_content
        for vote in votes:
            reading = self._read(views.get(vote.record_id or ""), servers)
            events += list(events_of_vote(vote, reading, content=content))
            if reading is None or not vote.first:
                continue
            row = reading.view.row
            if not is_sent(row.id, self._config.otlp_sample, failed=row.outcome.failed or row.outcome.refused):
                span = span_of(reading, content=content)
                spans += [] if span is None else [span]
        return spans, events

    async def _judgements(self, until_us: int, servers: Mapping[int, ModelServer]) -> bool:
        after = self._cursor.judged
        found = await self._store.finished.judged(after=after, until_us=until_us, limit=_BATCH)
        ready = list(_answered(found, until_us - int(_OPEN_S * 1e6)))
        if not ready:
            return False
        share = self._config.otlp_sample
        drawn = [one for one in ready if not one.open and is_sent(one.record_id, share, failed=False)]
        views = await self._store.finished.views(sorted({one.record_id for one in drawn}))
        events = await asyncio.to_thread(self._say_judgements, drawn, views, servers)
        await self._deliver([], events, ready[0].asked_us / 1e6)
        last = ready[-1]
        await self._moved(replace(self._cursor, judged=(last.asked_us, last.record_id, last.scorer)))
        return len(ready) == _BATCH

    def _say_judgements(
        self, judged: Sequence[StoredJudgement], views: Mapping[str, RecordView], servers: Mapping[int, ModelServer]
    ) -> list[EventFacts]:
        """Work on the CPU."""
        content = self._config.otlp_content
        return [
            event
            for one in judged
            for event in events_of_judgement(one, self._read(views.get(one.record_id), servers), content=content)
        ]

    async def _deliver(self, spans: Sequence[SpanFacts], events: Sequence[EventFacts], at: float) -> None:
        self._metrics.lag_s = max(0.0, self._clock.now() - at)
        await self._delivery.spans(spans, at)
        await self._delivery.events(events, at)

    async def _moved(self, cursor: Cursor) -> None:
        """So far everything was sent; keep that in mind, and now and then in the store."""
        self._cursor = self._cursor.further(cursor)
        if self._holder.lease is not None and self._clock.monotonic() - self._saved_at >= _SAVE_S:
            self._saved_at = self._clock.monotonic()
            await self._holder.renew()


def _answered(found: Sequence[StoredJudgement], given_up_us: int) -> Iterator[StoredJudgement]:
    """In order, up to the first that is still waited for."""
    for one in found:
        if one.open and one.asked_us > given_up_us:
            return
        yield one


def _batches(found: Sequence[FinishedRecord]) -> Iterator[list[FinishedRecord]]:
    batch: list[FinishedRecord] = []
    size = 0
    for one in found:
        if batch and (len(batch) == _BATCH or size + one.bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.bytes
    if batch:
        yield batch
