"""Numbers in URLs: plain ASCII digits within a range, or the request is refused with 4xx.

Python reads much more as a number than anybody means by one (`1e308`, `nan`, `١٢`, `1_000`, five thousand digits), and
a database less. So every number of a path or query is read here, and nowhere by `int()` or `float()` alone.
"""

from __future__ import annotations

import math
import re
from typing import Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from proxy.web.responses import ApiError

__all__ = ["LAST_INSTANT_S", "instant_of", "read_number", "read_whole", "whole_of"]

LAST_INSTANT_S: Final = 253_402_300_799.0
"""The end of the year 9999."""
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)


class _RowId(Convertor[int]):
    """`{id:row}` in a route: a row's number, as a database can hold one; anything else is 404."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("row", _RowId())


def read_number(text: str, least: float = -math.inf, most: float = math.inf) -> float:
    """The finite number that `text` says. Raises ValueError where it says none from `least` to `most`."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]!r} is not a number")
    if not least <= value <= most:
        raise ValueError(f"{text[:40]!r} is not from {least:g} to {most:g}")
    return value


def read_whole(text: str, least: int, most: int) -> int:
    """The whole number that `text` says. Raises ValueError where it says none from `least` to `most`."""
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"{text[:40]!r} is not a whole number from {least} to {most}")
    return int(text)


def whole_of(request: Request, name: str, default: int, *, least: int = 1, most: int) -> int:
    """A query parameter. Raises ApiError 400."""
    text = request.query_params.get(name)
    try:
        return default if text is None else read_whole(text, least, most)
    except ValueError as exc:
        raise ApiError(400, f"{name}: {exc}", field=name) from exc


def instant_of(request: Request, name: str) -> float | None:
    """A query parameter that is a Unix time in seconds; None without it. Raises ApiError 400."""
    text = request.query_params.get(name)
    try:
        return None if text is None else read_number(text, 0.0, LAST_INSTANT_S)
    except ValueError as exc:
        raise ApiError(400, f"{name}: {exc}; write a Unix time", field=name) from exc
