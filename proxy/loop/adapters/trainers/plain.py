"""What a training returns, as plain JSON: numbers of any library, keys of any kind, and a clear no to everything else.

A result is kept in the database, so it must be JSON in the end. Whatever has an obvious form there is given it, as a
training of many hours shall not fail for the type of a key. What has none (a model, an open file, a ring of lists)
fails the run at once with the place where it stands: to store `<Model object at 0x7f…>` would help nobody.

    key           text; None, True and False as JSON has them; "0", "0.5"; members of enumerations by their value
    number        as it is; beyond 64 bits a float; NaN and infinities, which JSON does not have, the texts "NaN",
                  "Infinity" and "-Infinity"; Decimal and Fraction as floats
    numpy, torch  scalars as numbers, arrays as lists (`item`, `tolist`)
    list          also of tuples, ranges and deques; of sets in order
    object        also of dataclasses
    text          dates in ISO form, paths, UUIDs; what is no Unicode is replaced; durations are seconds

Standard library only: the training process uses it, too.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

__all__ = ["MOST_BYTES", "NotPlainError", "plain"]

MOST_BYTES: Final = 16 * 1024 * 1024
"""The longest result that is kept: metrics, not tensors."""
_DEEPEST: Final = 100
_LEAST_INT, _MOST_INT = -(2**63), 2**64 - 1
"""What readers and writers of JSON take as a whole number."""


class NotPlainError(ValueError):
    """A result that has no form in JSON. `kept` says so without the training's own words (the keys)."""

    def __init__(self, place: str, what: str) -> None:
        remedy = "return only numbers, strings, lists and dictionaries"
        super().__init__(f"the training's result cannot be kept: {place} is {what}; {remedy}")
        self.kept = f"the training's result cannot be kept: something in it is {what}; {remedy}"


def plain(value: Any) -> Any:
    """`value` in plain types, ready for any writer of JSON. Raises NotPlainError, naming the place."""
    try:
        made = _plain(value, "the result", ())
    except NotPlainError:
        raise
    except Exception as error:
        raise NotPlainError(
            "something in it", f"an object that raises {type(error).__name__} when it is read"
        ) from error
    if len(json.dumps(made)) > MOST_BYTES:
        raise NotPlainError("all of it", f"longer than {MOST_BYTES // 2**20} MiB")
    return made


def _plain(value: Any, place: str, above: tuple[int, ...]) -> Any:
    match value:
        case Enum():
            return _plain(value.value, place, above)
        case None | bool():
            return value
        case int():
            return int(value) if _LEAST_INT <= value <= _MOST_INT else _float(value)
        case float() | Decimal() | Fraction():
            return _float(value)
        case str():
            return str.encode(value, "utf-16", "surrogatepass").decode("utf-16", "replace")
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
        case os.PathLike() if isinstance(path := os.fspath(value), str):
            return _plain(path, place, above)
    return _nested(value, place, above)


def _nested(value: Any, place: str, above: tuple[int, ...]) -> Any:
    """What has parts, or hides a plain value."""
    if id(value) in above:
        raise NotPlainError(place, "inside itself")
    if len(above) >= _DEEPEST:
        raise NotPlainError(place, f"nested deeper than {_DEEPEST}")
    inside = (*above, id(value))
    match value:
        case Mapping():
            return _object(value, place, inside)
        case list() | tuple() | range() | deque():
            return [_plain(part, f"{place}[{index}]", inside) for index, part in enumerate(value)]
        case Set():
            return [_plain(part, f"{place}{{}}", inside) for part in _in_order(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _object(fields, place, inside)
    return _plain(_unwrapped(value, place), place, inside)


def _object(value: Mapping[Any, Any], place: str, inside: tuple[int, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, part in value.items():
        name = text = _key(key, place)
        number = 1
        while name in made:  # {1: …, "1": …}: neither is lost
            number += 1
            name = f"{text} ({number})"
        made[name] = _plain(part, text if place == "the result" else f"{place}.{text}", inside)
    return made


def _key(key: Any, place: str) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return str(_plain(key, place, ()))
    try:
        made = _plain(key, place, ())
    except NotPlainError:
        made = repr(key)
    return made if isinstance(made, str) else json.dumps(made)


def _float(value: float | Decimal | Fraction) -> float | str:
    """A number; as a text where JSON has none for it."""
    try:
        number = float(value)
    except (OverflowError, ValueError):  # beyond any float, or a signalling NaN
        return str(value) if isinstance(value, Decimal) else "Infinity" if value > 0 else "-Infinity"
    if math.isnan(number):
        return "NaN"
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def _in_order(values: Iterable[Any]) -> list[Any]:
    """Members of a set, so that the same set always reads the same."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, repr(value)))


def _unwrapped(value: Any, place: str) -> Any:
    """What an array or a number of numpy, torch, jax or pandas contains."""
    if isinstance(size := getattr(value, "nbytes", None), int) and size > MOST_BYTES:
        raise NotPlainError(place, f"longer than {MOST_BYTES // 2**20} MiB")
    for name in ("tolist", "item"):
        method = None if isinstance(value, type) else getattr(value, name, None)
        if callable(method):
            try:
                inner = method()
            except Exception as error:
                raise NotPlainError(place, f"of type {_type(value)} whose {name}() fails") from error
            if type(inner) is not type(value):
                return inner
    raise NotPlainError(place, f"of type {_type(value)}")


def _type(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"type[{name}]" if isinstance(value, type) else name
