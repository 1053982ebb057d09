"""The usage log as a library: what the proxy writes for HTTP traffic, an application can write by itself.

The quick start's names and results, on the same store: `log` makes an ordinary record, `record_feedback` an ordinary
vote, and experiments count them as they count the proxy's. A call is logged when it stands in a file; it is stored with
others, within a second or with the next look at the log.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from proxy.clock import Clock, SystemClock
from proxy.loop.library.event_loop_thread import EventLoopThread
from proxy.loop.library.journal import ClosedJournalError, LoggedCall
from proxy.wire.person import person_key

if TYPE_CHECKING:
    from proxy.loop.library.usage_store import UsageStore

__all__ = ["UsageLogger", "settled"]

_T = TypeVar("_T")
_LONGEST_MS: Final = 1e12
"""Thirty years: what is more is no duration, and a thousand times as much fits in no column."""
_LAST_WORDS_S: Final = 10.0
"""At the end of the program, for what is not stored yet; what then is not, stands in its file."""


class UsageLogger:
    """Logs queries, responses and thumbs. Safe from threads, event loops and several processes at once."""

    def __init__(self, db_path: str | Path = "ratchet-data/ratchet.db", *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.db_path = Path(db_path).expanduser().absolute()
        self.background: EventLoopThread[UsageStore] = EventLoopThread(self._open, _close)
        _all.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Store what waits and close the database. Safe to repeat."""
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
        """Write one call of a model down; returns its record id. It survives this process from then on.

        `quality_score` is 0 to 1, None where nothing judged the answer. `model` naming the challenger puts the record
        on the challenger's side of the experiment; naming the old champion while the new one is watched, on the
        control's. `user` (any text; only a keyed hash is kept) ties a user's calls together: without it each call
        counts as a user of its own. Raises ValueError for a score out of range, TypeError for what is no text.
        """
        if quality_score is not None and not 0.0 <= quality_score <= 1.0:
            raise ValueError(f"quality_score: {quality_score} is not between 0 and 1")
        if not 0.0 <= latency_ms <= _LONGEST_MS:
            raise ValueError(f"latency_ms: {latency_ms} is not a number of milliseconds from 0 to {_LONGEST_MS:g}")
        _refuse_unless_text("model", query=query, response=response, model=model)
        labels = _labels({**(tags or {}), "expert": expert})
        score = None if quality_score is None else float(quality_score)  # that of NumPy is no JSON
        while True:
            loop, usage = self.background.opened()
            who = None if user is None else usage.keys.user_hash(person_key(str(user)))
            call = LoggedCall("", who, model, float(latency_ms), score, query, response, labels)
            try:
                record_id, waits = usage.journal.add(self._clock.now(), call)
            except ClosedJournalError:  # by another thread, between these two lines
                continue
            if waits.first or waits.many:
                with contextlib.suppress(RuntimeError):  # closed meanwhile, and with it everything was stored
                    loop.call_soon_threadsafe(partial(usage.wake, at_once=waits.many))
            if waits.too_many:
                self._wait_for_the_store()
            return record_id

    def _wait_for_the_store(self) -> None:
        """The call is written down, whatever comes now: who is told otherwise would log it again."""
        with contextlib.suppress(Exception):
            self.background.run(lambda usage: usage.relieved())

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

        False where there is no such record. Raises ValueError for any other `feedback`, and for what is no text.
        """
        if feedback not in (1, 0, -1):
            raise ValueError(f"feedback: {feedback!r} is not 1, 0 or -1")
        _refuse_unless_text("source", feedback_text=feedback_text, correction=correction, source=source)
        _refuse_unless_utf8(feedback_text=feedback_text, correction=correction, source=source)

        async def vote(usage: UsageStore) -> bool:
            from proxy.loop.library.usage_questions import record_vote

            return await record_vote(usage, record_id, int(feedback), feedback_text, correction, source)

        return self.background.run(vote)

    def get_records(
        self, limit: int = 100, *, min_quality: float | None = None, voted: bool | None = None
    ) -> list[dict[str, Any]]:
        """The newest records as plain dictionaries, newest first."""

        async def find(usage: UsageStore) -> list[dict[str, Any]]:
            from proxy.loop.library.usage_questions import find_records
            from proxy.store.tables.values import RecordFilter

            return await find_records(usage, RecordFilter(min_quality=min_quality, voted=voted), limit)

        return self.background.run(settled(find))

    def get_statistics(self) -> dict[str, Any]:
        """Sums over the whole log: total, with_feedback, feedback_rate (0 to 1), avg_quality_score (0 without any
        score), scored, positive, negative, neutral, avg_feedback (−1 to 1, None without votes), errors."""

        async def sums(usage: UsageStore) -> dict[str, Any]:
            from proxy.loop.library.usage_questions import statistics

            return await statistics(usage)

        return self.background.run(settled(sums))

    def _open(self) -> Awaitable[UsageStore]:
        with _importing:
            from proxy.loop.library.usage_store import open_usage_store

        return open_usage_store(self.db_path, self._clock)


def _refuse_unless_text(required: str, /, **given: object) -> None:
    """Here, where who gave it can be told; nobody waits for the store."""
    for name, text in given.items():
        if not isinstance(text, str) and (text is not None or name == required):
            raise TypeError(f"{name}: is of type {type(text).__name__}, not text; give a str")


def _refuse_unless_utf8(**given: str | None) -> None:
    for name, text in given.items():
        try:
            (text or "").encode()
        except UnicodeEncodeError as exc:
            raise ValueError(f"{name}: not text that can be stored ({exc})") from exc


def _labels(tags: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in tags.items() if value is not None}


def settled(work: Callable[[UsageStore], Coroutine[Any, Any, _T]]) -> Callable[[UsageStore], Coroutine[Any, Any, _T]]:
    """`work`, once all that was logged before is stored."""

    async def after(usage: UsageStore) -> _T:
        await usage.settle()
        return await work(usage)

    return after


async def _close(usage: UsageStore) -> None:
    from proxy.loop.library.usage_store import close_usage_store

    await close_usage_store(usage)


_all: weakref.WeakSet[UsageLogger] = weakref.WeakSet()
_importing = threading.RLock()
"""Nobody forks while the first call imports: in the child the modules stayed locked by a thread that is not there."""
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


def _store_all() -> None:
    """At the end of a program that closed nothing."""
    for logger in list(_all):
        with contextlib.suppress(Exception):
            logger.background.last_words(lambda usage: usage.settle(), _LAST_WORDS_S)


atexit.register(_store_all)
