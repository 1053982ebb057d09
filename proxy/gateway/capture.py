"""The copy of a body: its first bytes up to a limit, its true size, and a digest of what was cut off."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

__all__ = ["Capture"]


class Capture:
    """Collects a body while it streams past. `data` is whole unless `cut`."""

    __slots__ = ("_digest", "_limit", "cut", "data", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digest: Digest | None = None
        self.data: bytes | bytearray = b""
        self.size = 0
        self.cut = False
        """Whether the body was longer than the limit."""

    @property
    def sha256(self) -> str | None:
        """Digest of the whole body, hex; None where `data` is the whole body."""
        return self._digest.hexdigest() if self._digest is not None else None

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        size = self.size = self.size + len(piece)
        if self._digest is not None:
            self._digest.update(piece)
        elif size > self._limit:
            self.cut = True
            self._digest = sha256(self.data)
            self._digest.update(piece)
            self.data = bytes(self.data) + piece[: self._limit - len(self.data)]
        elif not self.data:
            self.data = piece  # most bodies come in one piece: no copy
        elif isinstance(self.data, bytearray):
            self.data += piece
        else:
            self.data = bytearray(self.data)
            self.data += piece
