"""Policies' values as JSON and back: what the journal keeps must give the same decision when it is read again.

msgspec reads the dataclasses' own types, so nothing has to be said twice. Unknown fields of a newer version are
ignored, missing ones of an older version take their defaults: old journals stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, TypeVar

import msgspec

from policies.actions import TAGS, Action, tag_of

__all__ = ["action_from_json", "action_to_json", "from_json", "to_json"]

_T = TypeVar("_T")
_BY_TAG: Final = {tag: action for action, tag in TAGS.items()}


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON types; enums by value."""
    return msgspec.to_builtins(value, str_keys=True)


def from_json(kind: type[_T], data: Any) -> _T:
    """The inverse of `to_json`. Raises ValueError where `data` is no `kind`."""
    try:
        return msgspec.convert(data, kind, str_keys=True)
    except msgspec.ValidationError as exc:
        raise ValueError(f"{kind.__name__}: {exc}") from None


def action_to_json(action: Action) -> dict[str, Any]:
    """An action with its tag under `action`."""
    return {"action": tag_of(action), **asdict(action)}


def action_from_json(data: Mapping[str, Any]) -> Action:
    """The inverse of `action_to_json`. Raises ValueError for a tag that this version does not know."""
    fields = dict(data)
    tag = fields.pop("action", None)
    if tag not in _BY_TAG:
        raise ValueError(f"journal: action {tag!r} is unknown to this version; it was written by a newer one")
    return _BY_TAG[tag](**fields)
