"""JSON as it really comes: what orjson refuses gets one more, tolerant, reading.

Clients cut text in the middle of an emoji (`\\ud83d` alone), Python servers write NaN, editors put a byte order mark
first, old programs a byte of latin-1 or all of it in UTF-16. A person reads all of these; so does the log. What is
strict reads as before and at the same speed, and what is no JSON even so stays none.

A few kilobytes, compressed, can be millions of values, each of which takes a hundred bytes: whoever reads what
strangers sent asks first whether a text is `crowded`, and leaves it unread.

Halves of an emoji may stand in two events of a stream: `read_event` leaves them as they are, until `mended` has the
whole text to join them in.
"""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import orjson

__all__ = ["MAX_VALUES", "crowded", "mended", "mended_text", "read_event", "read_json", "text_of"]

MAX_VALUES: Final = 250_000
"""Values of one body that are read; parsed they take some 35 MB at most. A megabyte of log probabilities has half as
many, one of embeddings a third."""
_LOOK: Final = 1 << 19
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = (
    (b"\1\0\1\0", "utf-16-le"),
    (b"\0\1\0\1", "utf-16-be"),
    (b"\1\0\0\0", "utf-32-le"),
    (b"\0\0\0\1", "utf-32-be"),
)
"""Which of the first four bytes are not zero: JSON begins with two characters of ASCII (RFC 4627)."""
_TEXT: Final = re.compile(
    r"(?i)(utf|u8|iso|latin|l1|cp|windows|koi|gb|big5|shift|sjis|s-jis|euc|mac|tis|johab|ascii|us-)"
)
_MOST_STRAY: Final = 50_000
"""Bytes that are no UTF-8 and are looked at one by one, which takes some microseconds each; of more of them none is."""
_SURROGATE: Final = re.compile(f"[{chr(0xD800)}-{chr(0xDFFF)}]")  # mypyc has no half characters in literals
_LARGEST: Final = 2**64 - 1
_SMALLEST: Final = -(2**63)


def crowded(body: bytes | str) -> bool:
    """Whether JSON in `body` may be more than MAX_VALUES values.

    Brackets and commas are counted wherever they stand, in strings, too, for these may hold JSON again.
    """
    if 2 * len(body) < MAX_VALUES:
        return False
    marks: tuple[Any, ...] = (",", "[", "{") if isinstance(body, str) else (b",", b"[", b"{")
    found = 0
    for start in range(0, len(body), _LOOK):  # what is a crowd is seen at its beginning
        for mark in marks:
            found += body.count(mark, start, start + _LOOK)
        if found > MAX_VALUES:
            return True
    return False


def read_json(body: bytes | bytearray, charset: str | None = None) -> Any:
    """The JSON value in `body`; `charset` as its Content-Type names it, if it does. Raises ValueError where it is none.

    All strings can be written as UTF-8: halves of characters are joined, lone ones become U+FFFD.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return mended(_tolerant(bytes(body), charset))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def read_event(data: bytes) -> Any:
    """The JSON value in a part of a stream; as `read_json`, but halves of characters are left. Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return _tolerant(data, None)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def text_of(body: bytes, charset: str | None = None) -> str:
    """The text of `body`: by its byte order mark, else by `charset`, else UTF-8, whose single stray bytes are read as
    latin-1."""
    marked = next(((mark, name) for mark, name in _MARKS if body.startswith(mark)), None)
    if marked is not None:
        body, name = body.removeprefix(marked[0]), marked[1]
    else:
        name = _codec(charset)
        if name == "utf-8" and b"\0" in body[:4]:
            name = next((wide for zeros, wide in _WIDE if bytes(map(bool, body[:4])) == zeros), name)
    if name != "utf-8":
        return body.decode(name, "replace")
    few = len(body) <= _MOST_STRAY or len(body) - len(body.decode(name, "ignore").encode()) <= _MOST_STRAY
    return body.decode(name, "latin-1-byte" if few else "replace")


def mended(value: Any) -> Any:
    """`value` with all its strings, keys too, mended."""
    if isinstance(value, str):
        return mended_text(value)
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended_text(key): mended(item) for key, item in value.items()}
    return value


def mended_text(text: str) -> str:
    """`text` with halves of characters that stand side by side joined, and U+FFFD for each that stands alone."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _tolerant(body: bytes, charset: str | None) -> Any:
    return json.loads(text_of(body, charset), strict=False, parse_int=_number)


def _number(digits: str) -> int | float:
    """A whole number as orjson has it: of more than 64 bits it is a float."""
    if len(digits) > 20:
        return float(digits)
    value = int(digits)
    return value if _SMALLEST <= value <= _LARGEST else float(digits)


@lru_cache(maxsize=64)
def _codec(charset: str | None) -> str:
    """The codec for a charset's name; UTF-8 where it is none for text (Python knows others), or ASCII, of which UTF-8
    is more."""
    if charset is not None and _TEXT.match(charset):
        with suppress(LookupError, ValueError):
            name = codecs.lookup(charset).name
            return "utf-8" if name == "ascii" else name
    return "utf-8"


def _latin_1_byte(error: UnicodeError) -> tuple[str, int]:
    """One byte that is no UTF-8, as latin-1 where that has a letter for it; more of them, or another one, as U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)  # it is asked for decoding only
    start, end = error.start, error.end
    half = error.object[start : start + 3]
    if half[:1] == b"\xed" and len(half) == 3 and half[1] >= 0xA0 and 0x80 <= half[2] <= 0xBF:
        return half.decode("utf-8", "surrogatepass"), start + 3  # half a character, as CESU-8 and Java write it
    if end - start == 1 and error.object[start] >= 0xA0:
        return chr(error.object[start]), end
    return "�", end


codecs.register_error("latin-1-byte", _latin_1_byte)
