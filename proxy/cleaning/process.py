"""The process that cleans: it reads parts from its standard input, a socket, and writes what became of each, in order.

Python's `re` and a plug-in's function hold the interpreter, so that nothing within the process could end them: before
each part it asks the kernel to be killed at the deadline. So no part takes longer, and nothing is left behind: where
its worker is gone, the socket ends, or the deadline comes.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import struct
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from proxy.cleaning.parts import Part, Result, perform
from proxy.patterns import Engine
from proxy.wire.redact import Redactor

__all__ = ["Settings", "main", "pack", "unpack"]

LENGTHS: Final = struct.Struct("<II")
_MILD: Final = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told first."""

    patterns: tuple[str, ...]
    engine: Engine
    callable: str | None
    deadline_seconds: float
    most_decoded: int
    """Bytes that a body may unpack to."""

    @classmethod
    def of(cls, redaction: object, most_decoded: int) -> Settings:
        """What `redaction` (proxy.config's RedactionConfig, say) has under these names."""
        names = [field.name for field in fields(cls)]
        given = {name: getattr(redaction, name) for name in names if name != "most_decoded"}
        return cls(**given, most_decoded=most_decoded)


def pack(facts: Any, body: bytes) -> bytes:
    """A message: facts as JSON, and a body."""
    text = orjson.dumps(facts)
    return b"".join((LENGTHS.pack(len(text), len(body)), text, body))


def unpack(buffer: bytearray) -> tuple[Any, bytes] | None:
    """Take the first message out of `buffer`; None where it is not all there."""
    if len(buffer) < LENGTHS.size:
        return None
    facts, body = LENGTHS.unpack_from(buffer)
    end = LENGTHS.size + facts + body
    if len(buffer) < end:
        return None
    text = bytes(buffer[LENGTHS.size : LENGTHS.size + facts])
    found = orjson.loads(text), bytes(buffer[LENGTHS.size + facts : end])
    del buffer[:end]
    return found


def main() -> int:
    """Run this process; returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the worker decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.nice(_MILD)
    buffer = bytearray()
    if (first := _next(buffer)) is None:
        return 0
    settings = Settings(**{**first[0], "patterns": tuple(first[0]["patterns"])})
    redactor = Redactor(settings, limit=settings.most_decoded)
    gc.freeze()
    logging.getLogger("proxy").addHandler(logging.NullHandler())  # what failed is said by the worker
    if not _written(Result({})):
        return 0
    while (message := _next(buffer)) is not None:
        facts, body = message
        signal.setitimer(signal.ITIMER_REAL, settings.deadline_seconds)
        result = perform(redactor, Part(facts["name"], facts["facts"], body))
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not _written(result):
            break
    return 0


def _next(buffer: bytearray) -> tuple[Any, bytes] | None:
    """The next message; None at the end."""
    while (message := unpack(buffer)) is None:
        data = os.read(0, 1 << 18)
        if not data:
            return None
        buffer += data
    return message


def _written(result: Result) -> bool:
    data = memoryview(pack(dict(result.facts), result.body))
    try:
        while data:
            data = data[os.write(0, data) :]
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
