"""Swap the model name in a JSON body and touch nothing else.

The body is not parsed and written again, which would change spaces, escapes, number formats and key order. A
scanner walks the tokens of the top level, finds the value of `"model"`, and the new name is spliced in. It takes the
body in pieces, so a body that is still streaming in can be rewritten once that field has arrived.

What lies deeper than the top level is passed over from bracket to bracket, and no byte is looked at more than a few
times: the work is linear in the body, whatever a client sends.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

__all__ = ["ModelField", "replace_model"]

_IN_STRING: Final = rb'(?:[^"\\]++|\\.)*+'
_PLAIN: Final = rb'[^"{}\[\]]++|"' + _IN_STRING + rb'"'
_LEAF: Final = rb"[\[{](?:" + _PLAIN + rb")*+[\]}]"
_STRING: Final = re.compile(_IN_STRING, re.DOTALL)
_BEFORE: Final = re.compile(rb"[\xef\xbb\xbf \t\r\n]*+")
_TOP: Final = re.compile(rb'[^"{}\[\]:,]*+')
_DEEPER: Final = re.compile(rb"(?:" + _PLAIN + rb"|" + _LEAF + rb")*+", re.DOTALL)
_LONGEST_KEY: Final = 64
_QUOTE, _COLON, _BACKSLASH = b'":\\'


class ModelField:
    """Finds the top-level `"model"` strings of a JSON object that is fed in pieces."""

    __slots__ = ("_carry", "_depth", "_is_value", "_key", "_opened_at", "_seen", "_text", "spans")

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        """Where they stand in the body, quotes included, as far as they have come whole."""
        self._depth = 0
        self._seen = 0
        self._carry = b""
        self._opened_at: int | None = None
        """Where the string began that is being read."""
        self._text = b""
        """Its beginning, in the top level only."""
        self._key: bytes | None = None
        """The string that a colon would make a key."""
        self._is_value = False
        """Whether a string that begins now is the model's name."""

    @property
    def decided(self) -> bool:
        """Whether it was found, or will not be: what is read is no JSON object, or has ended."""
        return bool(self.spans) or self._depth < 0

    def feed(self, piece: bytes) -> None:
        """Look through the next bytes of the body."""
        if self._depth < 0:
            return
        piece = self._carry + piece
        base = self._seen - len(self._carry)
        self._seen = base + len(piece)
        self._carry = b""
        position = 0
        while self._depth >= 0 and (plain := self._pattern().match(piece, position)) is not None:
            end = plain.end()
            if self._opened_at is not None and self._depth == 1 and len(self._text) < _LONGEST_KEY:
                self._text += piece[position : min(end, position + _LONGEST_KEY)]
            if end == len(piece):
                return
            if self._opened_at is None:
                self._token(piece[end], base + end)
            elif piece[end] == _BACKSLASH:  # half an escape
                self._carry = b"\\"
                return
            else:
                self._close(base + end + 1)
            position = end + 1

    def _pattern(self) -> re.Pattern[bytes]:
        """What holds no token, where we are."""
        if self._opened_at is not None:
            return _STRING
        return _BEFORE if not self._depth else _TOP if self._depth == 1 else _DEEPER

    def _token(self, byte: int, at: int) -> None:
        if byte == _QUOTE and self._depth:
            self._opened_at, self._text = at, b""
            return
        self._is_value = byte == _COLON and self._key is not None and _is_model(self._key)
        self._key = None
        if byte in b"{[":
            self._depth = self._depth + 1 if self._depth or byte == 123 else -1
        elif byte in b"}]":
            self._depth = self._depth - 1 or -1
        elif not self._depth:  # no JSON object
            self._depth = -1

    def _close(self, end: int) -> None:
        if self._depth == 1:
            if self._is_value and self._opened_at is not None:
                self.spans.append((self._opened_at, end))
            self._key, self._is_value = self._text, False
        self._opened_at = None


def replace_model(body: bytes, model: str, field: ModelField | None = None) -> bytes:
    """`body` with the value of each top-level `"model"` string replaced; unchanged where there is none.

    `field` is what has looked through its beginning already, if anything has.
    """
    if field is None:
        field = ModelField()
        field.feed(body)
    if not field.spans:
        return body
    name = orjson.dumps(model)
    pieces: list[bytes] = []
    position = 0
    for start, end in field.spans:
        pieces += (body[position:start], name)
        position = end
    return b"".join((*pieces, body[position:]))


def _is_model(key: bytes) -> bool:
    """Whether this is the string's text (without its quotes)."""
    if b"\\" not in key:
        return key == b"model"
    try:
        return bool(orjson.loads(b'"%b"' % key) == "model")
    except orjson.JSONDecodeError:
        return False
