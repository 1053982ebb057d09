"""The fields at the top level of a JSON object that is fed in pieces, without parsing the rest of it.

A scanner walks the tokens of the top level and passes over what lies deeper, from bracket to bracket and from quote
to quote. It says where the strings of `"model"` stand, to be replaced, and keeps the bytes of a few other fields, who
the user is: they may stand behind a picture of some megabytes, in a body that is never whole in memory. What only a
tolerant reader takes (NaN, stray bytes, control characters, half characters) does not disturb it: it knows brackets,
quotes, colons and commas, and nothing else.

The work is linear in the body, whatever a client sends: no byte is looked at more than a few times, and a body that
asks for too many steps of the slow kind (brackets and quotes without anything between) is not read any further.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

__all__ = ["TopLevel"]

_STRING: Final = rb'"[^"\\]{0,1000}+(?>(?:\\.[^"\\]{0,200}+){0,200})"'
"""One that is not too long: where it does not end, it has been looked through once for each level."""
_PLAIN: Final = rb'[^"{}\[\]]++|' + _STRING
_BEFORE: Final = re.compile(rb"[\xef\xbb\xbf \t\r\n]*+")
_TOP: Final = re.compile(rb'[^"{}\[\]:,]*+')


def _nested(levels: int) -> bytes:
    """A pattern for what closes again within so many levels."""
    within = _PLAIN if levels == 1 else _PLAIN + rb"|" + _nested(levels - 1)
    return rb"[\[{](?>(?:" + within + rb")*)[\]}]"


_DEEPER: Final = re.compile(rb"(?>(?:" + _PLAIN + rb"|" + _nested(6) + rb")*)", re.DOTALL)
"""Six levels: nearly everything that programs send, the schema of a tool among it."""
_OPENING: Final = re.compile(rb'(?>(?:[^"{}\[\]]*+[\[{])+)')
_CLOSING: Final = re.compile(rb'(?>(?:[^"{}\[\]]*+[\]}])+)')
_CLOSER: Final = re.compile(rb"[\]}]")
_QUOTED: Final = re.compile(rb'[^"]*+(?>(?:(?<=[^\\]\\)"[^"]*+)*)')
"""Up to a quote that does not follow a single backslash."""
_IN_STRING: Final = re.compile(rb'(?>(?:[^"\\]++|\\.)*)', re.DOTALL)
_QUOTE, _COLON, _COMMA, _BACKSLASH, _OPEN, _CLOSE = b'":,\\{}'
_LONGEST_KEY: Final = 256
_FREE_STEPS: Final = 512
_MODEL: Final = b"model"


class TopLevel:
    """Finds the wanted fields of the top level of a JSON object. Feed it the object in pieces."""

    __slots__ = (
        "_base", "_bytes_per_step", "_depth", "_escaped", "_from", "_in_string", "_is_value", "_key", "_more",
        "_opened_at", "_pieces", "_steps", "_taken", "_taking", "_text", "_wanted", "found", "spans", "stopped_at",
    )  # fmt: skip

    def __init__(self, wanted: Mapping[bytes, int], *, bytes_per_step: int = 256) -> None:
        """`wanted`: the names of fields, each with the most bytes of its value that are kept. `bytes_per_step`: how
        many bytes pay for one step of the slow kind."""
        self.spans: list[tuple[int, int]] = []
        """Where the strings of `"model"` stand in what was fed, quotes included, as far as they have come whole."""
        self.found: dict[bytes, tuple[bytes, bool]] = {}
        """The wanted values as they are written, and whether they are whole. Of a name given twice the last."""
        self.stopped_at = -1
        """Where what was fed was looked at last, within the last piece; -1 until it has `ended`."""
        self._wanted = wanted
        self._bytes_per_step = bytes_per_step
        self._depth = 0
        self._base = 0
        """Bytes that were fed in earlier pieces."""
        self._pieces = self._steps = 0
        self._in_string = self._escaped = False
        self._opened_at = 0
        """Where the string began that is being read."""
        self._text = b""
        """Its beginning, in the top level only."""
        self._key: bytes | None = None
        """The string that a colon would make a key."""
        self._is_value = False
        """Whether a string that begins now is the model's name."""
        self._taking: bytes | None = None
        """The name whose value is being kept: `_taken`, and what follows in this piece from `_from` on."""
        self._taken = bytearray()
        self._from = 0
        self._more = False
        """Whether that value is longer than what is kept of it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can be found: what is read is no JSON object, or has ended."""
        return self._depth < 0

    def so_far(self, name: bytes) -> bytes | None:
        """What is kept of the value of `name`, of which more may come; None where it was not met."""
        if self._taking == name:
            return bytes(self._taken)
        found = self.found.get(name)
        return None if found is None else found[0]

    def stop(self) -> None:
        """Look at nothing more."""
        self._depth = -1

    def feed(self, piece: bytes, at: int = 0) -> None:
        """Look through the next bytes, those of `piece` from `at` on."""
        size = len(piece)
        self._pieces += 1
        limit = _FREE_STEPS + 4 * self._pieces + (self._base + size) // self._bytes_per_step
        self._from = at
        while at < size and self._depth >= 0:
            self._steps += 1
            if self._in_string:
                at = self._string(piece, at)
            elif self._depth > 1:
                at = self._deeper(piece, at)
            elif self._depth:
                at = self._top(piece, at)
            else:
                at = self._before(piece, at)
            if self._steps > limit:
                self._depth = -1
        if self._depth < 0:
            self.stopped_at = at
        if self._taking is not None:
            self._take(piece, size)
        self._base += size

    def _before(self, piece: bytes, at: int) -> int:
        at = _BEFORE.match(piece, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at < len(piece):
            self._depth = 1 if piece[at] == _OPEN else -1
        return at + 1

    def _string(self, piece: bytes, at: int) -> int:
        """Go on in a string. Its end is searched for by its quote; only where backslashes stand together, by them."""
        start = at
        if self._escaped:
            self._escaped = False
            at += 1
        end = piece.find(_QUOTE, at)
        if end > at and piece[end - 1] == _BACKSLASH:
            end = _QUOTED.match(piece, at).end()  # type: ignore[union-attr]
            if end < len(piece) and piece[end - 1] == _BACKSLASH:
                end = _IN_STRING.match(piece, at).end()  # type: ignore[union-attr]
        if end < 0 or end == len(piece) or piece[end] != _QUOTE:
            end = len(piece)
            self._escaped = _ends_in_escape(piece, at)
        if self._depth == 1 and len(self._text) < _LONGEST_KEY:
            self._text += piece[start : min(end, start + _LONGEST_KEY)]
        if end < len(piece):
            self._in_string = False
            if self._depth == 1:
                self._close(self._base + end + 1)
        return end + 1

    def _deeper(self, piece: bytes, at: int) -> int:
        end = _DEEPER.match(piece, at).end()  # type: ignore[union-attr]
        if end == len(piece):
            return end
        if piece[end] == _QUOTE:
            self._in_string = True
            return end + 1
        if piece[end] in b"[{":
            run: int = _OPENING.match(piece, end).end()  # type: ignore[union-attr]
            self._depth += piece.count(b"[", end, run) + piece.count(b"{", end, run)
            return run
        run = _CLOSING.match(piece, end).end()  # type: ignore[union-attr]
        closed = piece.count(b"]", end, run) + piece.count(b"}", end, run)
        surplus = closed - (self._depth - 1)
        if surplus > 0:  # back at the top level in the middle of it
            for match in _CLOSER.finditer(piece, end, run):  # pragma: no branch - there are more of them
                self._depth -= 1
                if self._depth == 1:
                    return match.end()
        self._depth -= closed
        return run

    def _top(self, piece: bytes, at: int) -> int:
        at = _TOP.match(piece, at).end()  # type: ignore[union-attr]
        if at == len(piece):
            return at
        byte = piece[at]
        if byte == _QUOTE:
            self._in_string, self._opened_at, self._text = True, self._base + at, b""
            return at + 1
        key, self._key, self._is_value = self._key, None, False
        if byte == _COLON:
            self._begin(key, at + 1)
        elif byte in b"[{":
            self._depth = 2
        else:
            self._end(piece, at)
            if byte != _COMMA:
                self._depth = -1
        return at + 1

    def _close(self, end: int) -> None:
        """A string of the top level has ended there."""
        if self._is_value:
            self.spans.append((self._opened_at, end))
        self._key, self._is_value = self._text, False

    def _begin(self, key: bytes | None, at: int) -> None:
        """The value of `key` begins there in the piece."""
        self._taking = None
        if key is None or (name := _plain(key)) is None:
            return
        self._is_value = name == _MODEL
        if name in self._wanted:
            self._taking, self._taken, self._from, self._more = name, bytearray(), at, False

    def _end(self, piece: bytes, at: int) -> None:
        """The value that is being kept ends there in the piece."""
        if self._taking is not None:
            self._take(piece, at)
            self.found[self._taking] = bytes(self._taken), not self._more
            self._taking = None

    def _take(self, piece: bytes, end: int) -> None:
        assert self._taking is not None  # who calls has looked
        start, room = self._from, self._wanted[self._taking] - len(self._taken)
        self._taken += piece[start : min(end, start + room)]
        self._more = self._more or end - start > room


def _ends_in_escape(piece: bytes, at: int) -> bool:
    """Whether `piece`, a string's middle from `at` on, ends in a backslash that escapes what comes next."""
    if piece[-1] != _BACKSLASH:
        return False
    rest = piece[at:]
    return (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1


def _plain(key: bytes) -> bytes | None:
    """The name that the string `key` (without its quotes) spells; None where it is none."""
    if b"\\" not in key:
        return key
    try:
        name: str = orjson.loads(b'"%b"' % key)
    except orjson.JSONDecodeError:
        return None
    return name.encode()
