"""What this host knows to be stored: kept beside the spool, so that a database that goes back is noticed.

The database says up to where it has each spool, and of how many frames that is. This host writes down the same after
each commit. Where the database then says less, it is another one, or an older copy: what it lacks is fed again from the
segments that are kept, and what those have no more is counted, from the frames that came before the first of them. A
note on the disk carries this over a restart; it may lag by a second, so that more in the database is no news.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.clock import Clock
from proxy.private import replace_private
from proxy.store.tables.values import SpoolPosition

__all__ = ["LEDGER_FILE", "Gap", "PositionLedger"]

LEDGER_FILE: Final = "stored.json"
"""In the spool's directory."""
_SAVED_EVERY_S: Final = 1.0
_MOST_WRITERS: Final = 256
"""That are remembered once their spool is gone; the eldest goes first."""
_MOST_SEGMENTS: Final = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What a database lacks of what was stored, in frames: an exchange each, or the votes of one call."""

    again: int
    """That are fed again."""
    lost: int
    """That the spool has no more."""
    since_us: int
    """When the database had its last frame of the spool that lost most; 0: it never had one, or it is not known."""
    until: Mapping[str, tuple[int, int]]
    """By writer, the position up to which it is fed again."""


@dataclass(slots=True)
class _Spool:
    """How far one writer is stored."""

    segment: int
    offset: int
    frames: int
    at_us: int
    starts: dict[str, int] = field(default_factory=dict)
    """Of the newest segments: how many frames came before each."""

    @property
    def place(self) -> tuple[int, int]:
        return self.segment, self.offset


class PositionLedger:
    """One host's spools. Not for use from two threads at once."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        """`path`: the note's file; None keeps it in memory only."""
        self._path = path
        self._clock = clock
        self._spools = _read(path)
        self._saved_at = float("-inf")
        self._unsaved = False

    def stored(self, writer: str, segment: int, offset: int, frames: int) -> None:
        """So many more frames of a writer are committed, up to this position."""
        spool = self._spools.get(writer)
        if spool is None:
            spool = self._spools[writer] = _Spool(segment, 0, 0, 0)
        if spool.segment != segment or str(segment) not in spool.starts:
            spool.starts[str(segment)] = spool.frames
            for old in list(spool.starts)[:-_MOST_SEGMENTS]:
                del spool.starts[old]
        spool.segment, spool.offset = segment, offset
        spool.frames += frames
        spool.at_us = int(self._clock.now() * 1e6)
        self._unsaved = True

    def compare(
        self,
        database: Mapping[str, SpoolPosition],
        here: Iterable[str],
        first: Callable[[str, int], int | None],
    ) -> Gap | None:
        """What the database lacks; None where that is nothing. From then on what it says is what is known.

        `here` are the writers that have a spool on this host; `first(writer, n)` is the first of its segments from
        number `n` on that can still be read.
        """
        there = set(here)
        again = lost = worst = since_us = 0
        behind, until = False, {}
        for writer, known in list(self._spools.items()):
            says = database.get(writer, SpoolPosition())
            if says.place < known.place:
                behind = True
                missing = max(0, known.frames - says.frames)
                gone = min(missing, self._gone(known, says, first(writer, says.segment)))
                again, lost = again + missing - gone, lost + gone
                if writer in there:
                    until[writer] = known.place
                if gone > worst:
                    worst, since_us = gone, says.at_us
                known.starts = {number: before - gone for number, before in known.starts.items()}
                if writer not in there:
                    del self._spools[writer]
            known.segment, known.offset, known.frames = says.segment, says.offset, says.frames
        for writer in there - self._spools.keys():
            if (at := database.get(writer)) is not None:
                self._spools[writer] = _Spool(at.segment, at.offset, at.frames, at.at_us)
        self._unsaved |= behind
        return Gap(again=again, lost=lost, since_us=since_us, until=until) if behind else None

    def _gone(self, known: _Spool, says: SpoolPosition, first: int | None) -> int:
        if first is None:
            return max(0, known.frames - says.frames)
        if first == says.segment:
            return 0
        return max(0, known.starts.get(str(first), says.frames) - says.frames)

    def drop(self, here: Iterable[str]) -> list[str]:
        """Forget those that have no spool here any more, but for the last of them, as their rows in the database are
        what an older copy is known by; returns their names. All of them where nothing is kept."""
        there = set(here)
        gone = [writer for writer in self._spools if writer not in there]
        dropped = gone if self._path is None else gone[:-_MOST_WRITERS]
        for writer in dropped:
            del self._spools[writer]
        self._unsaved |= bool(dropped)
        return dropped

    def save(self, *, now: bool = False) -> None:
        """Write the note, once a second at most. Where that fails, a restart knows less."""
        at = self._clock.monotonic()
        if self._path is None or not self._unsaved or (not now and at - self._saved_at < _SAVED_EVERY_S):
            return
        self._saved_at = at
        try:
            replace_private(self._path, orjson.dumps({name: asdict(spool) for name, spool in self._spools.items()}))
        except OSError as exc:
            _log.debug("%s: %s", self._path, exc)
        else:
            self._unsaved = False


def _read(path: Path | None) -> dict[str, _Spool]:
    if path is None:
        return {}
    try:
        noted: dict[str, Any] = orjson.loads(path.read_bytes())
        return {name: _checked(spool) for name, spool in noted.items()}
    except (OSError, TypeError, ValueError, AttributeError):  # none, or cut off by a power cut
        return {}


def _checked(noted: Mapping[str, Any]) -> _Spool:
    spool = _Spool(**noted)
    numbers = (spool.segment, spool.offset, spool.frames, spool.at_us, *spool.starts.values())
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("not a ledger")
    return spool
