"""Frames of a batch, understood one by one: what each of them is to the store.

Whatever a frame holds, the queue goes on: what makes no sense is stored as it came. This runs in a thread, and for
every record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from proxy.clock import Clock
from proxy.ingest.answers import answer_of
from proxy.ingest.attempts import Attempts
from proxy.ingest.interpret import Interpreter, raw_record
from proxy.ingest.votes import votes_of
from proxy.log_throttle import ThrottledLog
from proxy.spool.frames import KIND_EXCHANGE, KIND_FEEDBACK, KIND_SHADOW, Frame
from proxy.spool.reader import SpoolBatch
from proxy.store.tables.values import IngestBatch, NewAnswer, NewRecord, NewVote

__all__ = ["Entry", "Understanding", "batch_of", "without_model"]

_NOTED: Final = 16
"""Frames that are noted with one write as being understood."""


class Entry:
    """One frame of a batch, understood: its record, votes or answer, and where reading goes on behind it."""

    __slots__ = ("answer", "end", "frame", "raw", "record", "votes")

    def __init__(
        self,
        frame: Frame,
        end: int,
        record: NewRecord | None = None,
        votes: tuple[NewVote, ...] = (),
        answer: NewAnswer | None = None,
        raw: Literal["unreadable", "refused", "fatal"] | None = None,
    ) -> None:
        """`answer`: to the copy of a request; `raw`: why the frame is stored uninterpreted, where it is."""
        self.frame = frame
        self.end = end
        self.record = record
        self.votes = votes
        self.answer = answer
        self.raw = raw


class Understanding:
    """One per ingestor."""

    def __init__(self, interpreter: Interpreter, most_decoded: int, said: ThrottledLog, clock: Clock) -> None:
        """`most_decoded`: bytes that an answer may be, once unpacked; `said` hears of frames that make no sense."""
        self._interpreter = interpreter
        self._most_decoded = most_decoded
        self._said = said
        self._clock = clock

    def entries(
        self, batch: SpoolBatch, start: int, stop: int, most_bytes: int, attempts: Attempts
    ) -> tuple[list[Entry], int]:
        """Frames of the batch, from `start` on and before `stop`, until their bodies are `most_bytes`; how many bytes
        those are, too."""
        found: list[Entry] = []
        frames, ends, weight = batch.frames, batch.ends, 0
        for at in range(start, stop):
            if (at - start) % _NOTED == 0:
                attempts.understand(ends[at - 1] if at else batch.start, ends[min(at + _NOTED, stop) - 1])
            entry = self._entry(batch, frames[at], ends[at])
            found.append(entry)
            weight += _weight(entry)
            if weight >= most_bytes:
                break
        attempts.understand(0, 0)
        return found, weight

    def _entry(self, batch: SpoolBatch, frame: Frame, end: int) -> Entry:
        try:
            if frame.kind == KIND_EXCHANGE:
                return Entry(frame, end, record=self._interpreter.record(frame))
            if frame.kind == KIND_FEEDBACK:
                return Entry(frame, end, votes=votes_of(frame))
            if frame.kind == KIND_SHADOW:
                return Entry(frame, end, answer=answer_of(frame, self._most_decoded))
            raise ValueError(f"this version knows no frames of kind {frame.kind}")
        except Exception as exc:  # noqa: BLE001 - whatever a frame holds, the queue goes on
            return Entry(frame, end, record=self.raw(batch, frame, end, exc), raw="unreadable")

    def raw(self, batch: SpoolBatch, frame: Frame, end: int, exc: Exception, *, looks: bool = True) -> NewRecord | None:
        """The record that `frame` is kept as; None for an answer to the copy of a request, which is not missed and
        must not take the place of that request's record. `looks`: whether its body may be asked for the user."""
        place = f"{batch.writer}/{batch.segment}/{end}"
        done = "left out" if frame.kind == KIND_SHADOW else "stored"
        self._said.error("raw", "a frame is %s unread (spool %s): %s", done, place, type(exc).__name__)
        if frame.kind == KIND_SHADOW:
            return None
        now_us = int(self._clock.now() * 1e6)
        user = self._interpreter.user_of(frame, looks=looks)
        return raw_record(frame, user=user, place=place, now_us=now_us, error=f"{type(exc).__name__}: {exc}")

    def with_user(self, frame: Frame) -> Frame:
        """As the interpreter has it."""
        return self._interpreter.with_user(frame)


def _weight(entry: Entry) -> int:
    """Bytes of its bodies."""
    if entry.answer is not None:
        return len(entry.answer.data)
    body = entry.record.body if entry.record is not None else None
    return 0 if body is None else len(body.request) + len(body.response)


def without_model(entries: Sequence[Entry]) -> list[Entry]:
    """Those that are understood records whose worker had no row of its model yet."""
    return [one for one in entries if one.record is not None and one.record.model_id == 0 and one.raw is None]


def batch_of(batch: SpoolBatch, entries: Sequence[Entry], offset: int, after: tuple[int, int]) -> IngestBatch:
    """What the store gets of a batch: these entries, and with them the position `offset`."""
    records = [entry.record for entry in entries if entry.record is not None]
    votes = [vote for entry in entries for vote in entry.votes]
    answers = [entry.answer for entry in entries if entry.answer is not None]
    return IngestBatch(
        writer=batch.writer,
        segment=batch.segment,
        offset=offset,
        after=after,
        frames=len(entries),
        records=tuple(records),
        votes=tuple(votes),
        answers=tuple(answers),
    )
