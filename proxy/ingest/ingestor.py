"""The loop from spool to store. Exactly once, in order, and nothing stops it for good.

One batch is one transaction together with the position behind it, so a crash anywhere repeats a batch or continues
behind it, and a repeated one changes nothing. What a batch holds in memory is bounded in bytes, however many records
that is. Five things can go wrong, each with its own answer:

* the store is not there (locked, full, down): wait and try the same again, the spool keeps everything;
* the store is another one than before (a restored copy, a standby that lagged, an empty one): `ledger` notices, and
  what it lacks is fed again from the segments that are kept;
* a frame makes no sense: it is stored raw and counted;
* the store refuses a batch for what is in it: the batch is halved until the one frame is found, that is stored
  raw, and if even this is refused, set aside in a file;
* the controller dies of what it reads: `attempts` finds the frame, which is then stored raw.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from prometheus_client.registry import CollectorRegistry

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import PermanentError, TemporaryError
from proxy.ingest.attempts import Attempts, ReadCaution
from proxy.ingest.entries import Entry, Understanding, batch_of, without_model
from proxy.ingest.interpret import Interpreter
from proxy.ingest.ledger import LEDGER_FILE, Gap, PositionLedger
from proxy.ingest.metrics import IngestMetrics
from proxy.ingest.pace import Pace
from proxy.log_throttle import ThrottledLog
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool.frames import Frame, add_frame, encode_frame
from proxy.spool.layout import ends_of, spool_bytes
from proxy.spool.reader import SpoolBatch, SpoolReader
from proxy.store.engine.refusals import StoreAwayError
from proxy.store.ingest.batch import UnconfirmedError
from proxy.store.ingest.spools import PositionError
from proxy.store.store import Store
from proxy.store.tables.values import NO_POSITION, Applied, IngestBatch, SpoolPosition

__all__ = ["REJECTED_FILE", "Ingestor"]

REJECTED_FILE: Final = "rejected.frames"
"""In the spool's directory: frames that the store refused in any form, as `proxy.spool.frames` has them."""
_MAX_BACKOFF_S: Final = 10.0
_SLICE: Final = 250
"""Frames that are understood in one go, in a thread: one large stream must not hold up the event loop."""
_MOST_BYTES: Final = 8 << 20
"""Of bodies, decoded, in one transaction; one record more, and it is committed. Texts and packed copies of them make it
some five times as much memory."""
_ASIDE_BYTES: Final = 64 << 10
_PARKED_EVERY_S: Final = 60.0
_ASKED_EVERY_S: Final = 2.0
"""The database is asked so often whether it still has what was stored."""
_MEASURED_EVERY_S: Final = 1.0
_OVERTAKEN: Final = 3
"""So often in a row a round begins anew because the database stands elsewhere."""

_log = logging.getLogger(__name__)

Positions = dict[str, tuple[int, int]]


class RoundListener(Protocol):
    """Hears how a round went."""

    def __call__(self, exc: TemporaryError | PermanentError | OSError | None, *, wrote: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    """A batch of which it is not known whether it was committed."""

    batch: SpoolBatch
    entries: list[Entry]
    offset: int
    applied: Applied


class Ingestor:
    """Moves everything from one host's spool into the store. One per spool."""

    def __init__(
        self,
        config: Config,
        store: Store,
        reader: SpoolReader,
        traffic: TrafficMetrics,
        clock: Clock,
        *,
        metrics: IngestMetrics | None = None,
        user_hash: Callable[[bytes], int] | None = None,
        first_model: Callable[[], Awaitable[int]] | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        on_hurry: Callable[[bool], None] | None = None,
        told: RoundListener | None = None,
    ) -> None:
        """`traffic` and `metrics` are counted after each commit; `user_hash` (KeyRing's) names users found by pointer;
        `first_model` gives the id of the configured champion, for records of workers that did not know it yet;
        `on_gap` hears that the database has less than it had, before that is fed again; `on_hurry`, that there is no
        time to give way, and that there is again; `told` hears after every round of `run` what the store said, and
        whether anything was written.

        Raises ValueError for a pointer in `config` that is none.
        """
        self._batch = config.store.ingest_batch
        self._interval_s = config.store.ingest_interval_seconds
        self._store = store
        self._first_model = first_model
        self._reader = reader
        self._traffic = traffic
        self._metrics = metrics or IngestMetrics(CollectorRegistry())
        self._clock = clock
        self._said = ThrottledLog(_log, clock)
        interpreter = Interpreter(config.capture, config.scoring, user_hash, config.sticky)
        self._understanding = Understanding(interpreter, config.capture.max_decoded_bytes, self._said, clock)
        self._on_gap = on_gap
        self._told = told
        self._max_bytes = config.spool.max_bytes
        self._pace = Pace(self._max_bytes, self._interval_s, clock, on_hurry)
        self._ledger_file = reader.root / LEDGER_FILE
        self._notes = reader.keep_s > 0
        self._ledger: PositionLedger | None = None
        self._attempts: Attempts | None = None
        self._positions: Positions | None = None
        self._unconfirmed: _Unconfirmed | None = None
        self._asked_at = self._measured_at = clock.monotonic()
        self._again: Positions = {}
        """What the database had and has no more: up to here each writer is fed again."""
        self._behind = False
        """The last round took all it may: more is waiting."""
        self._parked_at = clock.monotonic()
        self._refused = False
        """What was read last had records of users who are deleted."""

    @property
    def feeding_again(self) -> bool:
        """Whether the database is given what it had and has no more."""
        return bool(self._again)

    async def run(self, stop: asyncio.Event) -> None:
        """Ingest until `stop` is set. Waits between rounds for a batch worth committing, longer while nothing works,
        and as long as a batch took between those of a backlog: serving has priority."""
        backoff_s = 0.0
        while not stop.is_set():
            wait_s = self._interval_s
            began = self._clock.monotonic()
            try:
                frames = await self.run_once()
                backoff_s = 0.0
                if (ill := self._reader.ill) is None:
                    self._said.over("ingest")
                else:
                    self._said.warning("ingest", "part of the spool cannot be read, the rest is stored: %s", ill)
                self._tell(ill, wrote=frames > 0)
                if self._behind:
                    wait_s = self._pace.rest_s(self._clock.monotonic() - began)
            except (TemporaryError, PermanentError, OSError, MemoryError) as exc:
                backoff_s = min(max(2 * backoff_s, self._interval_s), _MAX_BACKOFF_S)
                wait_s = backoff_s
                self._metrics.retries.value += 1
                self._tell(exc)
                if self._told is None or not isinstance(exc, StoreAwayError):  # whoever is told says that
                    self._said.warning("ingest", "ingest tries again in %.1f s, records wait in the spool: %s",
                                       wait_s, exc)  # fmt: skip
                with contextlib.suppress(OSError):
                    await self._measure()
            if wait_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_s)

    def _tell(self, exc: BaseException | None, *, wrote: bool = False) -> None:
        if self._told is not None and (exc is None or isinstance(exc, TemporaryError | PermanentError | OSError)):
            self._told(exc, wrote=wrote)

    async def run_once(self) -> int:
        """Store what the spool holds, one batch per writer; returns how many frames that were.

        Raises TemporaryError or OSError while the store or the spool's disk is not there: nothing is lost, call again.
        """
        if self._clock.monotonic() - self._asked_at >= _ASKED_EVERY_S:
            self._positions = None
        if self._positions is None:
            self._positions = await self._ask()
        if self._attempts is None:
            self._attempts = await asyncio.to_thread(Attempts, self._reader.root)
        for _ in range(_OVERTAKEN):
            try:
                return await self._round(self._attempts)
            except PositionError as exc:
                _log.info("%s: continuing from there", exc)
                self._positions = await self._ask()
        return await self._round(self._attempts)

    async def _round(self, attempts: Attempts) -> int:
        frames = 0
        self._behind = False
        assert self._positions is not None  # whoever calls has asked
        try:
            read = await asyncio.to_thread(self._reader.poll, self._positions, max_frames=self._batch)
            for batch in read:
                await self._ingest(batch, self._positions, attempts)
                frames += len(batch.frames)
            if not read:
                self._again.clear()  # read to the end: what is still missing was unreadable
            await self._tidy(self._positions)
        except BaseException:
            self._positions = None  # whether the last commit arrived is for the store to say
            raise
        finally:
            attempts.done()  # whatever it was, it did not kill us
        return frames

    async def _ask(self) -> Positions:
        """What the database says that it has. Less than it had: what it lacks is fed again."""
        if self._ledger is None:
            if not self._notes:  # one of earlier would go on knowing spools that the database is to forget
                with contextlib.suppress(OSError):
                    self._ledger_file.unlink(missing_ok=True)
            self._ledger = await asyncio.to_thread(
                PositionLedger, self._ledger_file if self._notes else None, self._clock
            )
        says = await self._store.spools.counted()
        self._asked_at = self._clock.monotonic()
        self._confirm(says)
        here = await asyncio.to_thread(self._reader.writers)
        gap = await asyncio.to_thread(self._ledger.compare, says, here, self._reader.first)
        if gap is not None:
            self._store.forget_known()
            self._again |= gap.until
            self._metrics.again.value += gap.again
            self._metrics.gone.value += gap.lost
            if self._on_gap is not None:
                self._on_gap(gap)
        return {writer: position.place for writer, position in says.items() if position.place != NO_POSITION}

    async def _measure(self) -> None:
        """Once a second: whether what is kept has to go, and whether there is time for rests."""
        if self._clock.monotonic() - self._measured_at >= _MEASURED_EVERY_S:
            self._measured_at = self._clock.monotonic()
            positions = self._positions if self._pace.looks else None
            held, ends, pending = await asyncio.to_thread(self._held, positions)
            if pending is not None:
                self._pace.saw(pending if self._behind else 0)
            self._pace.choose(held, ends)

    def _held(self, positions: Positions | None) -> tuple[int, Positions, int | None]:
        """Bytes in the spool once there is room, how far its writers have come, and how much of it waits behind these
        positions."""
        root = self._reader.root
        self._reader.make_room(self._max_bytes)
        pending = None if positions is None else self._reader.usage(positions).pending_bytes
        return spool_bytes(root), ends_of(root), pending

    async def _ingest(self, batch: SpoolBatch, positions: Positions, attempts: Attempts) -> None:
        """Store one writer's batch, in one transaction or, where its bodies are large, in several."""
        n, at = 0, batch.start
        while at < batch.offset:
            part = await self._part(batch, n, at, attempts)
            n += len(part)
            end = batch.offset if n == len(batch.frames) else batch.ends[n - 1]
            await self._apply(batch, part, end, positions)
            at = end
        self._behind |= batch.more or len(batch.frames) >= self._batch
        self._metrics.skipped_bytes.value += batch.skipped_bytes

    async def _part(self, batch: SpoolBatch, first: int, at: int, attempts: Attempts) -> list[Entry]:
        """What is stored next of the batch: from its frame `first`, which begins at `at`, as much as memory
        allows; only that frame, where one hereabouts has killed a controller."""
        stop = len(batch.frames)
        if first == stop:
            return []
        until = self._again.get(batch.writer, NO_POSITION)
        if until[0] == batch.segment and at < until[1]:  # what was counted before, and what is new, each for itself
            stop = max(first + 1, bisect_right(batch.ends, until[1]))
        trust = attempts.trust(batch.writer, batch.segment, at, batch.ends[first])
        if trust is not ReadCaution.READ:
            stop = first + 1
        note = partial(
            attempts.begin, batch.writer, batch.segment, at, batch.ends[stop - 1], alone=stop - first == 1
        )  # fmt: skip
        if trust >= ReadCaution.RAW:
            return [await asyncio.to_thread(self._poison, batch, first, trust, note)]
        entries, weight = await asyncio.to_thread(self._begun, batch, first, stop, attempts, note)
        while first + len(entries) < stop and weight < _MOST_BYTES:
            start, room = first + len(entries), _MOST_BYTES - weight
            more, weighing = await asyncio.to_thread(
                self._understanding.entries, batch, start, min(stop, start + _SLICE), room, attempts
            )
            weight += weighing
            entries += more
        return await self._attributed(entries)

    def _begun(
        self, batch: SpoolBatch, first: int, stop: int, attempts: Attempts, note: Callable[[], None]
    ) -> tuple[list[Entry], int]:
        """The first slice of a part, behind the note that it is read."""
        note()
        return self._understanding.entries(batch, first, min(stop, first + _SLICE), _MOST_BYTES, attempts)

    async def _attributed(self, entries: list[Entry]) -> list[Entry]:
        """With the model of every record: a worker that serves before the first route table came from the store calls
        the configured champion 0 (`proxy.routes.Target`)."""
        if self._first_model is not None and (lacking := without_model(entries)):
            model_id = await self._first_model()
            for entry in lacking:
                assert entry.record is not None  # that is what it lacks a model for
                entry.record = replace(entry.record, model_id=model_id)
        return entries

    def _poison(self, batch: SpoolBatch, at: int, trust: ReadCaution, note: Callable[[], None]) -> Entry:
        """A frame that was being read when the controller died, twice or more: as it came."""
        note()
        frame, end = batch.frames[at], batch.ends[at]
        looks = trust is not ReadCaution.ASIDE  # the look for its user may be what kills
        if not looks:
            self._set_aside(frame)
            frame = replace(frame, request=frame.request[:_ASIDE_BYTES], response=frame.response[:_ASIDE_BYTES])
        died = RuntimeError("the controller died twice while reading this frame; it is kept unread")
        record = self._understanding.raw(batch, frame, end, died, looks=looks)
        return Entry(frame, end, record=record, raw="fatal")

    async def _apply(self, batch: SpoolBatch, entries: list[Entry], offset: int, positions: Positions) -> None:
        """Commit `entries` and the position `offset` behind them, or find out which of them cannot be."""
        after = positions.get(batch.writer, NO_POSITION)
        try:
            applied = await self._store.ingest.apply(batch_of(batch, entries, offset, after))
        except UnconfirmedError as exc:
            self._unconfirmed = _Unconfirmed(batch, entries, offset, exc.applied)
            raise
        except TemporaryError:
            raise
        except Exception as exc:  # noqa: BLE001 - the content is refused: find the culprit, keep the rest
            await self._apply_apart(batch, entries, offset, positions, exc)
        else:
            positions[batch.writer] = (batch.segment, offset)
            self._stored(batch, entries, offset, applied)

    def _stored(self, batch: SpoolBatch, entries: list[Entry], offset: int, applied: Applied) -> None:
        """It is committed."""
        at = batch.segment, offset
        if self._ledger is not None:
            self._ledger.stored(batch.writer, batch.segment, offset, len(entries))
        until = self._again.get(batch.writer, NO_POSITION)
        if at >= until:
            self._again.pop(batch.writer, None)
        self._count(entries, applied, counted_before=at <= until)

    def _confirm(self, says: Mapping[str, SpoolPosition]) -> None:
        """Count what was committed while the connection was lost: the position behind it tells."""
        doubted, self._unconfirmed = self._unconfirmed, None
        if doubted is not None:
            batch = doubted.batch
            known = says.get(batch.writer)
            if known is not None and known.place == (batch.segment, doubted.offset):
                self._stored(batch, doubted.entries, doubted.offset, doubted.applied)

    async def _apply_apart(
        self, batch: SpoolBatch, entries: list[Entry], offset: int, positions: Positions, exc: Exception
    ) -> None:
        if len(entries) > 1:
            middle = len(entries) // 2
            await self._apply(batch, entries[:middle], entries[middle - 1].end, positions)
            await self._apply(batch, entries[middle:], offset, positions)
        elif not entries:
            raise exc  # even a position is refused: this is no frame's fault
        elif entries[0].raw is None:
            [entry] = entries
            raw = self._understanding.raw(batch, entry.frame, entry.end, exc)
            await self._apply(batch, [Entry(entry.frame, entry.end, record=raw, raw="refused")], offset, positions)
        else:
            # a step that stores nothing: raises where the store refuses everything
            await self._store.ingest.apply(
                IngestBatch(writer=batch.writer, segment=NO_POSITION[0], offset=NO_POSITION[1])
            )
            await asyncio.to_thread(lambda: self._set_aside(self._understanding.with_user(entries[0].frame)))
            await self._apply(batch, [], offset, positions)

    def _set_aside(self, frame: Frame) -> None:
        path = self._reader.root / REJECTED_FILE
        add_frame(path, encode_frame(frame.kind, frame.meta, frame.request, frame.response))
        self._metrics.rejected.value += 1
        _log.error("a frame cannot be stored; it is kept in %s", path)

    def _count(self, entries: list[Entry], applied: Applied, *, counted_before: bool) -> None:
        """After the commit: what is counted happened. Traffic counts once, also where the database was behind."""
        if not counted_before:
            self._traffic.observe_all(applied.records)
            self._count_votes(applied)
        metrics = self._metrics
        metrics.records.value += len(applied.records)
        metrics.votes.value += len(applied.votes)
        metrics.parked.value += applied.parked
        metrics.duplicates.value += applied.duplicates
        metrics.deleted.value += applied.deleted
        self._refused |= applied.deleted > 0
        metrics.batches.value += 1
        for entry in entries:
            if entry.raw is not None:
                metrics.raw[entry.raw].value += 1

    def _count_votes(self, applied: Applied) -> None:
        self._traffic.observe_votes(applied.joined)
        self._metrics.ambiguous.value += applied.ambiguous

    async def _tidy(self, positions: Positions) -> None:
        """Delete what is stored from the spool, and join votes that waited for another replica's record."""
        here = {writer: positions[writer] for writer in self._reader.writers() if writer in positions}
        if gone := await asyncio.to_thread(self._sweep, here):
            await self._store.spools.forget(gone)
            for writer in gone:
                positions.pop(writer, None)
        await self._measure()
        if self._refused:
            await asyncio.to_thread(self._reader.wipe, here)
            self._refused = False
        if self._clock.monotonic() - self._parked_at >= _PARKED_EVERY_S:
            self._parked_at = self._clock.monotonic()
            self._count_votes(await self._store.ingest.join_parked())

    def _sweep(self, here: Positions) -> list[str]:
        """Let go of segments that are stored; returns the writers that the database may forget."""
        assert self._ledger is not None  # it was made when the positions were asked for
        self._reader.forget(here)
        gone = self._ledger.drop(self._reader.writers())
        self._ledger.save(now=bool(gone))  # before the database forgets them: else they would seem to be lacking
        return gone
