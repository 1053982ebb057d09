"""What is being read just now, noted on the disk, so that a frame at which the controller dies is found and read no
more.

Nobody can catch a `kill -9` for want of memory, or a fault in a library written in C, and the frame that did it would
be the first one again after every restart. So each stretch of the spool is noted before it is read, in it each few
frames while they are understood, and the note is removed once all is stored, or the attempt has failed with the process
alive.
Whoever finds a note after a start knows where a controller died. Most die of something else, so that only a frame at
which one has died twice is suspected:

* once: the frames of the stretch are read and stored one by one, each with a note of its own;
* twice at the same frame: it is poison, and is stored as it came. Where the first time only a few frames are known of
  which it is one, the second time has to be while it was understood, too: storing them one by one takes fifty times as
  long, and whatever kills a controller again would find one of them there;
* a third time, while it was stored as it came: only its beginning is stored, and it is set aside in a file.

A note is one write into the page cache for each transaction, and a short one for each few frames (one for each took
4 µs of ingest's 100 a frame): it has to survive the process, not the machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import orjson

__all__ = ["NOTE_FILE", "Attempts", "ReadCaution"]

NOTE_FILE: Final = "reading.json"
"""In the spool's directory: what is being read."""
_AT: Final = b'{"at":%20d,"since":%20d,"note":%b}'
_AT_DIGITS: Final = 6
"""Where in the file the end of the frames stands that are being understood, 20 digits wide; 0 between them."""
_NUMBERS: Final = b'%20d,"since":%20d'
"""What is written there, with where they begin."""


class ReadCaution(IntEnum):
    """How what follows may be read, by how many controllers died of it."""

    READ = 0
    """As ever."""
    ALONE = 1
    """Frame by frame."""
    RAW = 2
    """As it came; only its user is looked for."""
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
    alone: bool
    """It is one frame."""
    suspect: int = 0
    """End of the frame at which a controller died, or of the last of a few; 0: it is not known where it was."""
    since: int = 0
    """Where the first of them begins."""
    deaths: int = 0
    """How many died at that frame."""


class Attempts:
    """The notes of one spool. Not for use from two threads at once."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / NOTE_FILE
        self._file: int | None = None
        self._found = self._read()

    def trust(self, writer: str, segment: int, start: int, end: int) -> ReadCaution:
        """How to read the frame from `start` to `end`."""
        found = self._found
        if found is None or (writer, segment) != (found.writer, found.segment):
            return ReadCaution.READ
        if end == found.suspect and found.deaths > 1:
            return ReadCaution(min(found.deaths, ReadCaution.ASIDE))
        return ReadCaution.ALONE if found.start <= start < found.until else ReadCaution.READ

    def begin(self, writer: str, segment: int, start: int, end: int, *, alone: bool) -> None:
        """Note that the frames from `start` to `end` are read, which is one where it is `alone`. On a full disk there
        is no note: what is stored makes room."""
        found = self._found
        near = found is not None and (writer, segment) == (found.writer, found.segment) and start < found.until
        note = _Note(writer=writer, segment=segment, start=start, end=end, until=end, alone=alone)
        if near and found is not None:
            note = _Note(
                writer=writer, segment=segment, start=start, end=end, until=found.until, alone=alone,
                suspect=found.suspect, since=found.since, deaths=found.deaths,
            )  # fmt: skip
        with suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            text = _AT % (0, 0, orjson.dumps(asdict(note)))
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def understand(self, since: int, end: int) -> None:
        """Note that the frames from `since` to `end` are being understood; (0, 0): that none are any more."""
        if self._file is not None:
            with suppress(OSError):
                os.pwrite(self._file, _NUMBERS % (end, since), _AT_DIGITS)

    def done(self) -> None:
        """All that was noted is stored, or the attempt has failed in a way that one can live with."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _read(self) -> _Note | None:
        """The stretch at which an earlier controller died, with that death."""
        try:
            found = orjson.loads(self._path.read_bytes())
            at = int(found["at"])
            since = int(found.get("since", at - 1))  # earlier versions noted one frame, by its end
            note = _Note(**{"since": found["note"].get("suspect", 0) - 1, **found["note"]})
        except (OSError, TypeError, ValueError, KeyError, AttributeError):  # none, or the machine went down with it
            return None
        suspect, since = (at, since) if at else (note.end, note.start) if note.alone else (0, 0)
        itself = note.start <= note.since and suspect == note.suspect  # and not a few frames of which it is one
        again = note.since < suspect <= note.suspect and (at > 0 or itself)
        deaths = 1 + (note.deaths if again else 0) if suspect else 0
        return _Note(**{**asdict(note), "suspect": suspect, "since": since, "deaths": deaths})
