"""Paths that might climb out of the prefix of a model's URL, however their dots and slashes are written."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

__all__ = ["has_dot_segments"]

_MOST_ESCAPED: Final = 5
_DOTS: Final = re.compile(rb"(?:^|[/\\])[\0-\x20\x7f]*\.[\0-\x20\x7f]*\.?[\0-\x20\x7f]*(?:[/\\;?#]|$)")
_LOOKALIKE: Final = re.compile(
    rb"(?P<dots>\xe2\x80\xa5)|(?P<dot>\xc0\xae|\xe0\x80\xae|\xf0\x80\x80\xae|\xef\xbc\x8e|\xe2\x80\xa4|\xef\xb9\x92)"
    rb"|(?P<slash>\xc0\xaf|\xe0\x80\xaf|\xf0\x80\x80\xaf|\xef\xbc\x8f|\xe2\x88\x95|\xe2\x81\x84"
    rb"|\xc1\x9c|\xe0\x81\x9c|\xf0\x80\x81\x9c|\xef\xbc\xbc|\xef\xb9\xa8)"
)
"""Dots and slashes to whoever takes overlong UTF-8, or makes compatible characters (NFKC) the ones that they stand
for."""
_PLAIN: Final = {"dots": b"..", "dot": b".", "slash": b"/"}
_WIDE: Final = re.compile(rb"(?i)%u([0-9a-f]{4})")
"""How some servers of old escaped characters."""


def has_dot_segments(target: bytes) -> bool:
    """Whether a segment of the path is `.` or `..`, or is one to somebody who decodes more often, takes a backslash for
    a slash, knows other characters for a dot, or cuts a segment at a semicolon or a control character. So is one that
    is escaped again and again: nobody writes that in earnest, and to unwrap all of it would take time in the square of
    its length."""
    path = target.partition(b"?")[0]
    if b"." not in path and b"%" not in path and path.isascii():
        return False
    for _ in range(_MOST_ESCAPED):
        if not path.isascii():
            path = _LOOKALIKE.sub(lambda found: _PLAIN[str(found.lastgroup)], path)
        if b"%" not in path or (plain := unquote_to_bytes(_WIDE.sub(_narrow, path))) == path:
            return _DOTS.search(path) is not None
        path = plain
    return True


def _narrow(found: re.Match[bytes]) -> bytes:
    return chr(int(found[1], 16)).encode("utf-8", "replace")
