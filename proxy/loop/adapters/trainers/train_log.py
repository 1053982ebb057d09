"""The log of a training: as much as it likes to say, in a file that is never larger than its limit.

The first half of the limit is kept for good, for what a training says first (versions, settings) explains the rest.
Behind it comes a line that says how much is left out, then the end, at least a quarter of the limit of it. The end is
always the end of the file, so that whoever follows the log while it grows reads on as in any other.

A log that cannot be written (a full disk) loses lines and says so later; it never delays the training. It may be
emptied meanwhile by somebody else (a user's data is deleted), and then begins again. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["LIMIT", "TrainLog"]

LIMIT: Final = 64 * 1024 * 1024
_LINE: Final = 4096
"""So far from its place a cut may be, to fall between two lines."""


class TrainLog:
    """Appends to the file; one writer at a time."""

    def __init__(self, path: Path, *, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._file: int | None = None
        self._head = 0
        """Where the first part ends; 0 before anything was left out."""
        self._mark = 0
        """Length of the line behind it."""
        self._left_out = 0
        self._lost = 0
        self._why = ""

    def say(self, text: str) -> None:
        """A line of our own."""
        self.write(f"[ratchet] {text}\n".encode())

    def write(self, data: bytes) -> None:
        """Append. Never raises for what the file system does: what cannot be written is counted."""
        at = 0
        try:
            if self._lost:
                self._append(f"\n[ratchet] {self._lost:,} bytes could not be written here: {self._why}\n".encode())
                self._lost = 0
            while at < len(data):
                at += self._append(data[at : at + self._limit // 8])
        except OSError as error:
            self._lost += len(data) - at
            self._why = error.strerror or type(error).__name__

    def _append(self, data: bytes) -> int:
        file = self._opened()
        size = os.fstat(file).st_size
        if size < self._head:  # emptied meanwhile
            self._head = self._mark = self._left_out = 0
        if size + len(data) > self._limit:
            self._leave_out(file, size)
        return os.write(file, data)

    def _opened(self) -> int:
        """The file; a new one where somebody has removed it."""
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            os.close(self._file)
            self._file = None
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._file

    def _leave_out(self, file: int, size: int) -> None:
        """Move the end of the log up to behind its first part: what is between them is gone."""
        if not self._head:
            self._head = self._end_of_first(file)
        end = os.pread(file, self._limit // 4, max(size - self._limit // 4, self._head + self._mark))
        end = end[end.find(b"\n", 0, _LINE) + 1 :]
        left_out = self._left_out + size - self._head - self._mark - len(end)
        mark = f"[ratchet] {left_out:,} bytes of this log were left out here\n".encode()
        if os.pread(file, 1, self._head - 1) != b"\n":
            mark = b"\n" + mark
        if os.fstat(file).st_size != size:  # emptied this very moment: nothing may come back
            return
        again = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)  # not appending
        try:
            _write_at(again, mark + end, self._head)
            os.ftruncate(again, self._head + len(mark) + len(end))
        finally:
            os.close(again)
        self._mark, self._left_out = len(mark), left_out

    def _end_of_first(self, file: int) -> int:
        """Half the limit, or a little less: behind a whole line, if there is one."""
        half = self._limit // 2
        last = os.pread(file, _LINE, half - _LINE).rfind(b"\n")
        return half if last < 0 else half - _LINE + last + 1


def _write_at(file: int, data: bytes, at: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], at + written)
