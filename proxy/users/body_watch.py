"""What a request's body says of its user, read while it passes: unpacked, as UTF-8, its top level scanned.

For bodies that are too long to be parsed, that have not come whole, or that are JSON only for a tolerant reader.
Ordinary ones are parsed by orjson, and never meet this.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from proxy.users.top_level import TopLevel
from proxy.wire.decode import UnknownEncodingError
from proxy.wire.headers import charset
from proxy.wire.lenient import read_json
from proxy.wire.unpack import Unpacker

__all__ = ["TURNS", "Watch"]

TURNS: Final = ("messages", "input", "contents", "prompt")
"""Where a request has what its user says, the first that is there; of these the beginning is enough."""

_WIDE: Final = {
    "utf-32": re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff"),
    "utf-16": re.compile(rb"\xff\xfe|\xfe\xff"),
    "utf-32-le": re.compile(rb"[^\0]\0\0\0"),
    "utf-32-be": re.compile(rb"\0\0\0[^\0]"),
    "utf-16-le": re.compile(rb"[^\0]\0"),
    "utf-16-be": re.compile(rb"\0[^\0]"),
}
_WIDE_STARTS: Final = (b"\xff", b"\xfe")
_WIDEST: Final = 4
_LONGEST_BROKEN: Final = 16384
"""Bytes of a text that a tolerant reader is asked to read."""
_MOST_STRAY: Final = 2048
"""Of them, bytes that are no UTF-8: it takes each in hand."""
_MARKS: Final = (b'"', b"[", b"]", b"{", b"}")
_FREE_MARKS: Final = 4096
_MOST_MARKS: Final = 0.6
"""Brackets and quotes among the bytes, of which each takes its time. Nobody writes so many who has something to say."""
_MOST_TURNS: Final = 512
"""Turns among which the user's first is looked for, where the list of them cannot be parsed."""
_PACKED_BYTES_PER_STEP: Final = 256


class Watch:
    """Reads the body that is fed to it in pieces, as they are on the wire without transfer coding."""

    __slots__ = ("_charset", "_decoder", "_first", "_marks", "_size", "_started", "_top", "_unpacker")

    def __init__(self, wanted: Mapping[bytes, int], content_type: str, content_encoding: str | None) -> None:
        """`wanted`: the names of fields, each with the most bytes of its value that are kept."""
        self._charset = charset(content_type)
        self._decoder: codecs.IncrementalDecoder | None = None
        self._started = False
        self._first = b""
        self._marks = self._size = 0
        self._unpacker: Unpacker | None = None
        if content_encoding is None:
            self._top = TopLevel(wanted)
            return
        self._top = TopLevel(wanted, bytes_per_step=_PACKED_BYTES_PER_STEP)
        try:
            self._unpacker = Unpacker(content_encoding)
        except UnknownEncodingError:
            self._top.stop()

    @property
    def ended(self) -> bool:
        """Whether what still comes of the body can say nothing more."""
        return self._top.ended

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the model's name stands in the body, as far as it has come; nowhere where its bytes are not JSON's."""
        return self._top.spans if self._decoder is None and self._unpacker is None else []

    def feed(self, piece: bytes) -> None:
        """Look through the next bytes of the body."""
        if self._top.ended:
            return
        if self._unpacker is not None:
            piece = self._unpacker.feed(piece)
        if not self._started and piece:
            piece, self._first = self._first + piece, b""
            if len(piece) < _WIDEST and (piece.startswith(_WIDE_STARTS) or b"\0" in piece):
                self._first = piece  # the rest of its first character is still to come
                return
            self._started = True
            self._decoder = _decoder(piece)
        if self._decoder is not None:
            piece = self._decoder.decode(piece).encode()
        self._size += len(piece)
        self._marks += sum(map(piece.count, _MARKS))
        if self._marks > _FREE_MARKS + _MOST_MARKS * self._size:
            self._top.stop()
        self._top.feed(piece)
        if self._unpacker is not None and self._unpacker.ended:
            self._top.stop()

    def fields(self) -> dict[str, Any]:
        """The wanted fields that have come whole and can be read."""
        return {name.decode(): self._read(raw) for name, (raw, whole) in self._top.found.items() if whole}

    def turns(self) -> dict[str, Any]:
        """The beginning of what TURNS hold, as far as it can be read, up to the first that says something: of a list
        that cannot be parsed, the user's first turn."""
        found = {}
        for name in TURNS:
            if raw := self._top.so_far(name.encode()):
                raw = raw.lstrip()
                found[name] = value = self._turns(raw) if raw.startswith(b"[") else self._beginning(raw)
                if value and isinstance(value, str | list):
                    break
        return found

    def _turns(self, raw: bytes) -> Any:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(raw)
        return self._first_turn(raw)

    def _first_turn(self, turns: bytes) -> list[dict[str, Any]]:
        at, left = turns.find(b"{"), _MOST_TURNS
        while at >= 0 and left:
            left -= 1
            turn = TopLevel(dict.fromkeys((b"role", b"content", b"parts"), len(turns)))
            turn.feed(turns, at)
            role, parts = turn.so_far(b"role"), turn.so_far(b"parts")
            said = turn.so_far(b"content") or parts
            users = self._read(role) == "user" if role is not None else parts is not None or not turn.ended
            if said and users and (content := self._beginning(said)):
                return [{"role": "user", "content": content}]
            at = turns.find(b"{", turn.stopped_at) if turn.ended else -1
        return [{}]  # somebody's turns, which say nothing: whoever parses them looks no further, either

    def _beginning(self, raw: bytes) -> Any:
        """What can be read of a value that may end too early: a string as far as it goes, a list without what is
        broken. Where even that is more than can be read, the text as it is written: the same in each turn of a chat."""
        from jiter import from_json  # rare, and the first answer after a start should not wait for it

        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(raw)
        if (value := self._read(raw)) is not None:
            return value
        try:
            return from_json(raw.rstrip(b"0123456789"), partial_mode="trailing-strings")  # a number may be cut, too
        except ValueError:
            return raw.decode("utf-8", "replace")

    def _read(self, raw: bytes) -> Any:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(raw)
        charset = None if self._decoder is not None else self._charset
        if len(raw) > _LONGEST_BROKEN or (charset is None and _stray(raw) > _MOST_STRAY):
            return None
        with contextlib.suppress(ValueError):
            return read_json(raw, charset)
        return None


def _stray(raw: bytes) -> int:
    """How many bytes of `raw` belong to no character of UTF-8."""
    return len(raw) - len(raw.decode("utf-8", "ignore").encode())


def _decoder(beginning: bytes) -> codecs.IncrementalDecoder | None:
    """What makes text of a body whose characters are of two or four bytes; None where ASCII's are of one.

    JSON begins with characters of ASCII, whatever a Content-Type says.
    """
    for codec, pattern in _WIDE.items():
        if pattern.match(beginning):
            return codecs.getincrementaldecoder(codec)("replace")
    return None
