"""The reading end of the spool: frames in the order in which each writer wrote them, none twice, none skipped.

The reader keeps no state that matters. Its caller stores, in the transaction that stores the records, how far it
has come with each writer; after a crash it asks again from there. Two rules make this sound while writers write:

* whether a segment is finished (its writer is dead, or a later segment exists) is asked *before* it is read, so
  nothing can be appended between the last read and the verdict;
* an incomplete frame at the end of a segment that is not finished is not torn but on its way.

What cannot be read in a finished segment is skipped up to the next frame whose seal is right, and counted.

A segment that is stored is kept for a while (`proxy.spool.keeping`): a position that goes back, because the database
has, finds it again. A position that lies behind all that there is belongs to another spool, or to a file that a power
cut has shortened: what is there is then read from its beginning, and the store knows what it has already.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from proxy.clock import Clock, SystemClock
from proxy.spool.frames import Frame
from proxy.spool.keeping import make_room
from proxy.spool.layout import (
    DAMAGED,
    LOCK_FILE,
    SCRATCH,
    is_alive,
    kept_name,
    kept_of,
    seal_of,
    segment_name,
    segments_of,
    writers_of,
)
from proxy.spool.scanning import scan_file
from proxy.spool.seals import HEAD_BYTES
from proxy.spool.usage import SpoolUsage, usage_of
from proxy.spool.wiping import drop_aside, overwrite, zero

__all__ = ["SpoolBatch", "SpoolReader"]

_BATCH_BYTES: Final = 8 << 20
"""About as much is read of a writer at a time. Streams are 10 to 20 KB each, and a transaction costs 5 ms whatever is
in it: with half of this, ingest of streams takes 5 % more."""
_ROUND_BYTES: Final = 16 << 20
"""Of all writers together, in one round."""

_CLOCK_BACK_S: Final = 60.0
"""What was stored later than that from now was so by a clock that has been set back since: nobody knows its age."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolBatch:
    """Frames of one writer that follow its position."""

    writer: str
    frames: tuple[Frame, ...]
    ends: tuple[int, ...]
    """Offset behind each frame, for a caller that stores only a part."""
    start: int
    """Where in its segment it begins."""
    after: tuple[int, int] | None
    """The position that was asked for; None: there was none. It may lie in an earlier segment."""
    segment: int
    offset: int
    """With `segment`, the position once all of `frames` are stored: behind the last one, and behind unreadable
    bytes that follow it."""
    skipped_bytes: int = 0
    """Unreadable bytes between or behind the frames: a torn last frame of a killed writer, or damage."""
    more: bool = False
    """Whether there is more to read at once: segments follow, or the file goes on behind what was read of it."""


class SpoolReader:
    """Reads every writer's segments below `root`. One reader per spool; not for use from two threads at once."""

    def __init__(self, root: Path, *, keep_s: float = 0.0, clock: Clock | None = None) -> None:
        """`keep_s`: how long segments are kept once they are stored; 0 deletes them at once."""
        self._root = root
        self._keep_s = keep_s
        self._clock = clock or SystemClock()
        self._damaged: set[tuple[str, int]] = set()
        self._last = ""
        """The writer that was read last when a round ended early; the next round begins behind it."""
        self._wiped: dict[tuple[str, int], int] = {}
        """Up to where a segment was overwritten."""
        self._unread: OSError | None = None
        self._untidied: OSError | None = None
        self._astray: dict[str, tuple[int, int]] = {}
        """Positions behind all that their writer has: until they change, it is read from its beginning."""

    @property
    def root(self) -> Path:
        """The spool's directory."""
        return self._root

    @property
    def keep_s(self) -> float:
        """Seconds for which segments are kept once they are stored."""
        return self._keep_s

    @property
    def ill(self) -> OSError | None:
        """Why a writer could not be read, or not be tidied up, at the last try; the others were."""
        return self._unread or self._untidied

    def writers(self) -> list[str]:
        """Writers that have a directory here; a store shared by several hosts knows others, too."""
        return writers_of(self._root)

    def poll(self, positions: Mapping[str, tuple[int, int]], *, max_frames: int = 500) -> list[SpoolBatch]:
        """At most one batch per writer: the frames behind its position, a segment and an offset.

        A writer without a position is read from its first segment. Batches hold at most `max_frames` frames and
        about 8 MiB (or one frame that is larger), and together about 16 MiB: then the other writers come first next
        time. An empty list: nothing new. A writer that cannot be read holds up no other: OSError is raised where
        nothing else is to be read.
        """
        batches: list[SpoolBatch] = []
        self._unread = None
        writers, left = writers_of(self._root), _ROUND_BYTES
        for writer in sorted(writers, key=lambda name: (name <= self._last, name)):
            try:
                batch = self._read(writer, positions.get(writer), max_frames)
            except OSError as exc:
                self._unread, batch = self._unread or exc, None
            if batch is not None:
                batches.append(batch)
                left -= batch.offset - batch.start
            if left <= 0:
                self._last = writer
                break
        if self._unread is not None and not batches:
            raise self._unread
        return batches

    def forget(self, positions: Mapping[str, tuple[int, int]]) -> list[str]:
        """Keep or delete what is stored: segments before each position, and all of a dead writer that has nothing
        behind it; delete what was kept for long enough.

        Returns the writers whose position is of no more use, because their directory is gone for good.
        """
        gone = []
        self._untidied = None
        for writer in {*self.writers(), *positions}:
            try:
                if self._let_go(writer, positions.get(writer, (0, 0))):
                    gone += [writer] if writer in positions else []
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as exc:
                self._untidied = exc
        return gone

    def _let_go(self, writer: str, position: tuple[int, int]) -> bool:
        """Of one writer's segments; whether its directory is gone."""
        directory = self._root / writer
        alive = is_alive(directory)
        at_segment, at_offset = position
        if writer not in self._astray:
            for number in segments_of(directory):
                path = directory / segment_name(number)
                size = path.stat().st_size
                at_end = size == 0 or (number == at_segment and size <= at_offset)
                if number < at_segment or (at_end and not alive):
                    self._discard(writer, number, path, size)
        self._expire(directory)
        return not alive and not segments_of(directory) and _remove(directory)

    def make_room(self, max_bytes: int) -> int:
        """Let go of what is kept where the spool comes near to its cap, or the disk is short of room."""
        return make_room(self._root, max_bytes)

    def first(self, writer: str, at_least: int) -> int | None:
        """The first segment of a writer from this number on that is still there, kept or not."""
        directory = self._root / writer
        numbers = [n for n in (*segments_of(directory), *kept_of(directory)) if n >= at_least]
        return min(numbers, default=None)

    def _expire(self, directory: Path) -> None:
        now = self._clock.now()
        for number in kept_of(directory):
            path = directory / kept_name(number)
            with contextlib.suppress(FileNotFoundError):
                age_s = now - path.stat().st_mtime
                if age_s >= self._keep_s or age_s < -_CLOCK_BACK_S:
                    path.unlink()

    def ends(self) -> dict[str, tuple[int, int]]:
        """Segment and offset behind all that each writer has written so far."""
        found = {}
        for writer in self.writers():
            for number in segments_of(self._root / writer):
                with contextlib.suppress(FileNotFoundError):
                    if size := (self._root / writer / segment_name(number)).stat().st_size:
                        found[writer] = number, size
        return found

    def reached(self, ends: Mapping[str, tuple[int, int]], positions: Mapping[str, tuple[int, int]]) -> bool:
        """Whether reading has come to these `ends`; a writer whose directory is gone has been read."""
        waited_for = {writer: end for writer, end in ends.items() if (self._root / writer).exists()}
        return all(positions.get(writer, (0, 0)) >= end for writer, end in waited_for.items())

    def wipe(self, positions: Mapping[str, tuple[int, int]]) -> int:
        """Overwrite what is stored, and delete what of it is only kept; returns how many bytes that were.

        So what lies before a stored position cannot be read again, should the database go back. A writer only appends,
        so that it notices nothing. Raises OSError.
        """
        wiped = 0
        for writer in self.writers():
            segment, offset = positions.get(writer, (0, 0))
            directory = self._root / writer
            kept = kept_of(directory)
            if self._is_astray(directory, (segment, offset), kept):
                continue  # nobody knows what of it is stored
            for number in kept:
                path = directory / kept_name(number)
                with contextlib.suppress(FileNotFoundError):
                    if number < segment or (number == segment and path.stat().st_size <= offset):
                        wiped += overwrite(path)
            for number in segments_of(directory):
                end = offset if number == segment else None
                if number <= segment:
                    wiped += self._wipe(writer, number, end)
        return wiped

    def _wipe(self, writer: str, number: int, end: int | None) -> int:
        path = self._root / writer / segment_name(number)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                size = os.fstat(descriptor).st_size
                head = seal_of(path.parent, number, os.pread(descriptor, HEAD_BYTES, 0)).begins  # stays readable
                start, end = self._wiped.get((writer, number), head), size if end is None else min(end, size)
                zero(descriptor, start, end)
            finally:
                os.close(descriptor)
            self._wiped[writer, number] = max(start, end)
            return max(0, end - start)
        return 0

    def drop_aside(self, rejected: str, users: Set[int]) -> int:
        """As `proxy.spool.wiping` has it."""
        return drop_aside(self._root, rejected, users)

    def usage(self, positions: Mapping[str, tuple[int, int]]) -> SpoolUsage:
        """Sizes and age, for metrics. Reads one frame per writer that is behind."""
        return usage_of(self._root, positions)

    def _read(self, writer: str, position: tuple[int, int] | None, max_frames: int) -> SpoolBatch | None:
        directory = self._root / writer
        alive = is_alive(directory)
        at_segment, at_offset = self._begin(writer, position)
        segments = segments_of(directory)
        for number in segments:
            if number < at_segment:
                continue
            start = at_offset if number == at_segment else 0
            start = max(start, self._wiped.get((writer, number), 0))
            finished = not alive or number != segments[-1]
            batch = self._read_segment(
                writer, number, start, position, finished=finished, max_frames=max_frames
            )  # fmt: skip
            if batch is not None:
                return replace(batch, more=batch.more or number != segments[-1])
            if not finished:
                return None
        return None

    def _begin(self, writer: str, position: tuple[int, int] | None) -> tuple[int, int]:
        """Where to read on behind `position`, once all that is behind it is named as what has to be read."""
        at = position or (0, 0)
        directory = self._root / writer
        if self._astray.get(writer) == at:
            return 0, 0
        self._astray.pop(writer, None)
        kept = kept_of(directory)
        if self._is_astray(directory, at, kept):
            _log.warning("spool %s: the database has read up to segment %d, offset %d, past its end; it is read again "
                         "from the beginning, nothing is stored twice", writer, *at)  # fmt: skip
            self._astray[writer] = at
            at = 0, 0
        for number in kept:
            path = directory / kept_name(number)
            with contextlib.suppress(FileNotFoundError):
                if number > at[0] or (number == at[0] and path.stat().st_size > at[1]):
                    path.rename(directory / segment_name(number))
        return at

    def _is_astray(self, directory: Path, at: tuple[int, int], kept: list[int]) -> bool:
        """Whether a position lies behind the last byte that its writer has."""
        for name in (segment_name(at[0]), kept_name(at[0])):
            with contextlib.suppress(FileNotFoundError):
                return (directory / name).stat().st_size < at[1]
        return at[0] > max((*segments_of(directory)[-1:], *kept[-1:]), default=at[0])

    def _read_segment(
        self,
        writer: str,
        number: int,
        start: int,
        position: tuple[int, int] | None,
        *,
        finished: bool,
        max_frames: int,
    ) -> SpoolBatch | None:
        """The frames of one segment from `start` on; None where there are none (yet, or any more)."""
        path = self._root / writer / segment_name(number)
        try:
            found, begin, to_end = scan_file(
                path, number, start, finished=finished, max_frames=max_frames, most_bytes=_BATCH_BYTES
            )  # fmt: skip
        except FileNotFoundError:
            return None
        if found.offset <= start or (found.offset == begin and not finished):
            return None
        if found.damaged and (writer, number) not in self._damaged:
            self._damaged.add((writer, number))
            _log.error("spool %s, segment %d: %d unreadable bytes skipped; the file is kept as *%s",
                       writer, number, found.skipped, DAMAGED)  # fmt: skip
        return SpoolBatch(
            writer=writer,
            frames=tuple(found.frames),
            ends=tuple(found.ends),
            start=start,
            after=position,
            segment=number,
            offset=found.offset,
            skipped_bytes=found.skipped,
            more=not to_end,
        )

    def _discard(self, writer: str, number: int, path: Path, size: int) -> None:
        """All of a segment is stored: keep it for a while, or not at all."""
        if (writer, number) in self._damaged:
            self._damaged.discard((writer, number))
            if not _linked(path, path.with_suffix(DAMAGED)):
                path.rename(path.with_suffix(DAMAGED))
                return
        wiped = self._wiped.pop((writer, number), 0)
        if self._keep_s > 0 and size > wiped:
            now = self._clock.now()
            os.utime(path, (now, now))
            path.rename(path.with_name(kept_name(number)))
        else:
            path.unlink(missing_ok=True)


def _linked(path: Path, other: Path) -> bool:
    """Give a file a second name; False where the file system knows no such thing."""
    try:
        other.unlink(missing_ok=True)
        other.hardlink_to(path)
    except OSError:
        return False
    return True


def _remove(directory: Path) -> bool:
    """Remove a dead writer's directory; False where a damaged segment is kept in it."""
    names = os.listdir(directory) if directory.exists() else []
    if any(name != LOCK_FILE and not name.endswith(SCRATCH) for name in names):
        return False
    with contextlib.suppress(FileNotFoundError):
        for name in names:
            if name.endswith(SCRATCH):  # of one that was killed as it made a file
                (directory / name).unlink()
        (directory / LOCK_FILE).unlink()
        directory.rmdir()
    return True
