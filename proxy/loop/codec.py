"""Policies' values as JSON and back: what the journal keeps must give the same decision when it is read again.

pydantic reads the dataclasses' own types, so nothing has to be said twice. Unknown fields of a newer version
are ignored, missing ones of an older version take their defaults: old journals stay readable.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from policies.actions import TAGS, Action, tag_of

__all__ = ["action_from_json", "action_to_json", "from_json", "to_json"]

_T = TypeVar("_T")
_ADAPTERS: Final[dict[Any, TypeAdapter[Any]]] = {}
_BY_TAG: Final = {tag: action for action, tag in TAGS.items()}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON types; enums by value."""
    return _adapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[_T], data: Any) -> _T:
    """The inverse of `to_json`. Raises ValueError where `data` is no `kind`."""
    value: _T = _adapter(kind).validate_python(data)
    return value


def action_to_json(action: Action) -> dict[str, Any]:
    """An action with its tag under `action`."""
    return {"action": tag_of(action), **asdict(action)}


def action_from_json(data: dict[str, Any]) -> Action:
    """The inverse of `action_to_json`. Raises ValueError for a name that this version does not know."""
    fields = dict(data)
    name = fields.pop("action", None)
    if name not in _BY_TAG:
        raise ValueError(f"journal: action {name!r} is unknown to this version; it was written by a newer one")
    return _BY_TAG[name](**fields)
