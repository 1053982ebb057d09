"""What is being read just now, noted on the disk, so that a frame at which the controller dies is found and read no
more.

Nobody can catch a `kill -9` for want of memory, or a fault in a library written in C, and the frame that did it would
be the first one again after every restart. So each stretch of the spool is noted before it is read, and the note is
removed once it is stored, or the attempt has failed with the process alive. Whoever finds a note after a start knows
that a controller died there:

* once: the frames of the stretch are read one by one, each with a note of its own;
* twice at the same frame: it is poison, and is stored as it came;
* a third time, while it was stored as it came: only its beginning is stored, and it is set aside in a file.

A note is one write into the page cache for each transaction: it has to survive the process, not the machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final

import orjson

__all__ = ["NOTE_FILE", "Attempts", "Trust"]

NOTE_FILE: Final = "reading.json"
"""In the spool's directory: what is being read."""


class Trust(IntEnum):
    """How what follows may be read, by how many controllers died of it."""

    READ = 0
    """As ever."""
    ALONE = 1
    """Frame by frame."""
    RAW = 2
    """Not at all: as it came."""
    ASIDE = 3
    """Not even that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """A stretch of one segment."""

    writer: str
    segment: int
    start: int
    end: int
    until: int
    """Up to here frames are read one by one, since a controller died somewhere before it."""
    deaths: int
    """How many did."""


class Attempts:
    """The notes of one spool. Not for use from two threads at once."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / NOTE_FILE
        self._noted = False
        self._suspect = self._found()

    def trust(self, writer: str, segment: int, start: int) -> Trust:
        """How to read what begins at `start`."""
        suspect = self._suspect
        if suspect is None or (writer, segment) != (suspect.writer, suspect.segment):
            return Trust.READ
        if start == suspect.start and suspect.deaths > 1:
            return Trust(min(suspect.deaths, Trust.ASIDE))
        return Trust.ALONE if suspect.start <= start < suspect.until else Trust.READ

    def begin(self, writer: str, segment: int, start: int, end: int) -> None:
        """Note that the frames from `start` to `end` are read. On a full disk there is no note: what is stored makes
        room."""
        trust = self.trust(writer, segment, start)
        until = self._suspect.until if trust and self._suspect is not None else end
        note = _Note(writer=writer, segment=segment, start=start, end=end, until=until, deaths=trust)
        self._noted = True
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, orjson.dumps(asdict(note)))
            finally:
                os.close(descriptor)

    def done(self) -> None:
        """All that was noted is stored, or the attempt has failed in a way that one can live with."""
        if self._noted:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._noted = False

    def _found(self) -> _Note | None:
        """The stretch at which an earlier controller died, with that death."""
        try:
            found = _Note(**orjson.loads(self._path.read_bytes()))
        except (OSError, TypeError, ValueError):  # none, or the machine went down with it
            return None
        return replace(found, deaths=found.deaths + 1)
