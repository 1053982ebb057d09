"""A worker's side of the cleaning: a moment's work is done at once, all else goes to a process that the worker owns.

Nothing here waits. A part that is not cleaned within its deadline is kept as `[not recorded: redaction took too long]`,
and the process, which the kernel has ended by then, is started anew. What waits is bounded in bytes; what comes on top
is kept so at once. The process ends with the worker, however that ends: see `process.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from proxy.cleaning.counters import lost_slot
from proxy.cleaning.parts import (
    Part,
    Result,
    head_of,
    lost,
    quickly,
    request_of,
    response_of,
    texts_of,
)
from proxy.cleaning.process import Settings, pack, unpack
from proxy.tasks import cancel_and_wait, spawn
from proxy.wire.redact import DECODED_LIMIT, RedactionSettings, Redactor

__all__ = ["Cleaner", "CleaningSettings"]

_MOST_BYTES: Final = 64 << 20
"""Of bodies that wait to be cleaned, in each worker."""
_AHEAD: Final = 16
"""Parts that the process has before it is done with the first: it need not wait for the event loop."""
_LATE_S: Final = 20.0
"""So long behind its deadline a process that says nothing (it is stopped, or could not start) is ended by us."""
_LONGEST_WAIT_S: Final = 10.0
"""A part that has waited so long, because others before it took their time, is not waited for any longer."""
_RETRY_S: Final = 0.5
_PACKAGES: Final = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP: Final = "import sys; sys.path[:0] = [{root!r}]; sys.path.append({here!r}); " \
                    "from proxy.cleaning.process import main; sys.exit(main())"  # fmt: skip
_WHY: Final = {"deadline": "it took longer than capture.redaction.deadline_seconds", "failed": "the process died"}
_log = logging.getLogger(__name__)

Keep = Callable[[dict[str, Any], bytes, bytes], None]
Done = Callable[[Result], None]


class CleaningSettings(RedactionSettings, Protocol):
    """What `Cleaner` needs to know; `proxy.config`'s RedactionConfig is one."""

    @property
    def deadline_seconds(self) -> float:
        """For one body."""
        ...


@dataclass(slots=True)
class _Job:
    part: Part
    done: Done
    since: float
    """On the event loop's clock."""


class Cleaner:
    """Cleans exchanges and votes. Belongs to one event loop. Raises ValueError where the settings cannot be used."""

    def __init__(
        self,
        settings: CleaningSettings,
        count: Callable[[str], object],
        *,
        most_bytes: int = _MOST_BYTES,
        most_decoded: int = DECODED_LIMIT,
    ) -> None:
        """`count` adds one to a slot of `proxy.cleaning.counters`; a body unpacks to `most_decoded` bytes at most."""
        self._redactor = Redactor(settings, limit=most_decoded)
        self._settings = Settings.of(settings, most_decoded)
        self._count = count
        self._most_bytes = most_bytes
        self._held = 0
        self._waiting: deque[_Job] = deque()
        self._asked: deque[_Job] = deque()
        """Parts that the process has, in order."""
        self._line: _Line | None = None
        self._running: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def outstanding(self) -> int:
        """How many parts are being cleaned or wait for it."""
        return len(self._waiting) + len(self._asked)

    def exchange(self, meta: dict[str, Any], request: bytes, response: bytes, keep: Keep) -> None:
        """Clean an exchange; `keep` is called with the clean facts and bodies, before this returns or later."""
        _Exchange(meta, keep).begin(self, request, response)

    async def texts(self, texts: Sequence[str]) -> list[str] | None:
        """Short texts, cleaned; None where that failed, or took too long."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.submit(texts_of(list(texts)), lambda result: None if future.done() else future.set_result(result))
        try:
            async with asyncio.timeout(self._settings.deadline_seconds + _LONGEST_WAIT_S):
                result = await future
        except TimeoutError:
            return None
        return None if result.facts.get("lost") else list(result.facts["texts"])

    def submit(self, part: Part, done: Done) -> None:
        """Clean one part: at once, or in the process; `done` gets what became of it."""
        result = quickly(self._redactor, part)
        if result is not None:
            self._finish(part, result, done)
        elif self._closed:
            self._lose(part, done, "shutdown")
        elif self._held + part.size > self._most_bytes:
            self._lose(part, done, "backlog")
        else:
            self._held += part.size
            self._waiting.append(_Job(part, done, asyncio.get_running_loop().time()))
            self._idle.clear()
            self._feed()

    async def close(self, within_s: float) -> None:
        """Wait for what is outstanding, and end the process; what is not clean by then is kept without its texts."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("redaction did not finish: %d texts are not recorded", self.outstanding)
        self._closed = True
        left = [*self._asked, *self._waiting]
        self._asked.clear()
        self._waiting.clear()
        for job in left:
            self._settle(job, "shutdown")
        if self._running is not None:
            await cancel_and_wait([self._running])

    # -- called by the line to the process

    def answered(self, facts: Mapping[str, Any], body: bytes) -> None:
        """The process is done with the first of its parts."""
        job = self._asked.popleft()
        self._held -= job.part.size
        self._finish(job.part, Result(facts, body), job.done)
        if not self.outstanding:
            self._idle.set()
        self._feed()

    def ready(self) -> None:
        """The process has read its settings."""
        self._feed()

    # -- inside

    def _feed(self) -> None:
        """Give the process what it may have; start it where there is none."""
        line = self._line
        if line is None or not line.ready:
            if self._running is None or self._running.done():
                self._running = spawn(self._run(), name="redaction process")
            return
        self._drop_late()
        while self._waiting and len(self._asked) < _AHEAD:
            job = self._waiting.popleft()
            self._asked.append(job)
            line.send({"name": job.part.name, "facts": dict(job.part.facts)}, job.part.body)

    def _drop_late(self) -> None:
        too_old = asyncio.get_running_loop().time() - _LONGEST_WAIT_S
        while self._waiting and self._waiting[0].since < too_old:
            self._settle(self._waiting.popleft(), "backlog")

    async def _run(self) -> None:
        """Keep a process as long as it lives, and start it again while there is something to do for it."""
        while self.outstanding:
            line = self._line = _Line(self)
            why = "failed"
            try:
                status = await line.live(self._settings)
                why = "deadline" if status == -signal.SIGALRM else "failed"
            except OSError as exc:
                _log.error("redaction: its process cannot be started, trying again: %s", exc)
            self._line = None
            if line.ready and self._asked:
                _log.warning("redaction: a body was not redacted (%s), so it is not recorded", _WHY[why])
                self._settle(self._asked.popleft(), why)
            self._waiting.extendleft(reversed(self._asked))
            self._asked.clear()
            self._drop_late()
            if not line.ready:
                await asyncio.sleep(_RETRY_S)

    def _settle(self, job: _Job, reason: str) -> None:
        """It will not be cleaned."""
        self._held -= job.part.size
        self._lose(job.part, job.done, reason)
        if not self.outstanding:
            self._idle.set()

    def _finish(self, part: Part, result: Result, done: Done) -> None:
        if result.facts.get("lost"):
            _log.error("redaction failed, the captured text is dropped: %s", result.facts.get("why"))
            self._count(lost_slot("failed"))
        done(result)

    def _lose(self, part: Part, done: Done, reason: str) -> None:
        self._count(lost_slot(reason))
        done(lost(part))


class _Line(asyncio.Protocol):
    """One process, and the socket to it."""

    def __init__(self, cleaner: Cleaner) -> None:
        self.ready = False
        """Whether it has read its settings, and may be sent parts."""
        self._cleaner = cleaner
        self._buffer = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._patience_s = _LATE_S
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def live(self, settings: Settings) -> int:
        """Start the process, and wait for its end; returns its exit status. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = self._process = await asyncio.to_thread(_start, theirs)
            loop = asyncio.get_running_loop()
            self._patience_s = settings.deadline_seconds + _LATE_S
            self._transport, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise
        try:
            self.send(asdict(settings), b"")
            await self._lost
        finally:
            self._stop_watching()
            self._transport.abort()
            if self._lost.cancelled() or not self.ready or not self._lost.done():
                process.kill()
            status = await asyncio.to_thread(process.wait)
        return status

    def send(self, facts: dict[str, Any], body: bytes) -> None:
        """Write one message."""
        assert self._transport is not None  # there is one by now
        self._transport.write(pack(facts, body))
        if self._watch is None:
            self._keep_watching()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        self._stop_watching()
        while (message := unpack(self._buffer)) is not None:
            if self.ready:
                self._cleaner.answered(*message)
            else:
                self.ready = True
                self._cleaner.ready()
        if self._cleaner.outstanding and self._watch is None:
            self._keep_watching()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._stop_watching()
        if not self._lost.done():
            self._lost.set_result(None)

    def _keep_watching(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _give_up(self) -> None:
        if self._process is not None:
            self._process.kill()


class _Exchange:
    """The parts of one exchange, until all of them are there."""

    def __init__(self, meta: dict[str, Any], keep: Keep) -> None:
        self._meta = meta
        self._keep = keep
        self._results: dict[str, Result] = {}

    def begin(self, cleaner: Cleaner, request: bytes, response: bytes) -> None:
        meta = self._meta
        for part in (head_of(meta), request_of(meta, request), response_of(meta, response)):
            cleaner.submit(part, partial(self._done, part.name))

    def _done(self, name: str, result: Result) -> None:
        self._results[name] = result
        if len(self._results) < 3:
            return
        meta, results = self._meta, self._results
        facts = dict(results["head"].facts)
        meta["red"] = True
        meta |= {name: facts[name] for name in ("m", "p", "rh", "sh")}
        said = results["response"].facts
        if "sf" in said or said.get("lost"):
            meta.pop("mk", None)  # offsets in bytes that are not kept
        meta |= {name: said[name] for name in ("sf", "ttft") if name in said}
        meta |= dict.fromkeys(meta.keys() & {"rsha", "ssha"})  # of raw bytes, which could be guessed by it
        if missing := [name for name, found in results.items() if found.facts.get("lost")]:
            meta["nr"] = missing
        self._keep(meta, results["request"].body, results["response"].body)


def _start(line: socket.socket) -> subprocess.Popen[bytes]:
    """Start the process. Its environment has no secret of ours: it runs what a user wrote."""
    code = _BOOTSTRAP.format(root=_PACKAGES, here=str(Path.cwd()))
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("RATCHET_")}
    return subprocess.Popen([sys.executable, "-P", "-c", code, "ratchet-redaction"], stdin=line.fileno(), env=environ)
