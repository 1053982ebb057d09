"""A vote of Open WebUI as one of ours. Pure: from its JSON to a value.

The id that ours gets follows from what the vote says and from when it was changed, so that what is fetched twice counts
once, and of two versions the later one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

__all__ = ["external_of", "fid_of", "said_in", "taken_back"]

_MOST_COMMENT: Final = 10_000
_MOST_TAG: Final = 200
_MOST_NAME: Final = 256
_VERSIONS: Final = 0xFFF
_THUMBS: Final = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}
"""A rating is a number, or a text with one."""


def said_in(vote: Mapping[str, Any]) -> dict[str, Any]:
    """What it says, in the words of the spool (`proxy.web.feedback`); without `alias` where it names no answer.

    The answer is known by the id of its message, who votes by the user's id. The reason stands before the comment.
    """
    data, meta = _mapping(vote.get("data")), _mapping(vote.get("meta"))
    said: dict[str, Any] = {"feedback": _THUMBS.get(str(data.get("rating")))}
    words = (_text(data.get("reason"), _MOST_TAG), _text(data.get("comment"), _MOST_COMMENT))
    if comment := ": ".join(word for word in words if word):
        said["comment"] = comment[:_MOST_COMMENT]
    if tags := _tags(data):
        said["tags"] = tags
    alias = _text(meta.get("message_id"), _MOST_NAME)
    if alias:
        said |= {"alias": alias, "source": _text(vote.get("user_id"), _MOST_TAG) or "anonymous"}
    return said


def _tags(data: Mapping[str, Any]) -> dict[str, str]:
    """What else a person, or Open WebUI itself, has added."""
    found = {}
    if points := _text(_mapping(data.get("details")).get("rating"), _MOST_TAG):
        found["points_of_10"] = points
    if isinstance(data.get("tags"), list) and (names := [_text(tag, _MOST_TAG) for tag in data["tags"]]):
        found["topics"] = ", ".join(name for name in names if name)[:_MOST_TAG]
    return {name: value for name, value in found.items() if value}


def fid_of(system: str, vote_id: str, said: Mapping[str, Any], changed_s: int, *, before: str | None) -> str:
    """32 hex digits, in the form of our ids, which sort by time. `before`: the id of the version that is known; of two
    within one second the one that was seen later comes later, and what says the same is the same."""
    digest = blake2b(orjson.dumps([system, vote_id, said], option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
    at = f"{changed_s * 1000:012x}"[-12:]
    version = int(before[13:16], 16) if before is not None and before[:12] == at else 0
    same = f"{at}7{version:03x}8{digest[:15]}"
    if before is None or before[:12] != at or before == same:
        return same
    return f"{at}7{min(_VERSIONS, version + 1):03x}8{digest[:15]}"


def external_of(system: str, vote_id: str) -> int:
    """The id under which the vote stands here: the same person may have voted by another tool, too."""
    digest = blake2b(orjson.dumps([system, vote_id]), digest_size=8, person=b"open webui vote").digest()
    return int.from_bytes(digest, "big", signed=True)


def taken_back(fid: str) -> str:
    """The id of what takes back the vote `fid`: right behind it."""
    digest = blake2b(bytes.fromhex(fid), digest_size=8).hexdigest()
    return f"{fid[:12]}7{_VERSIONS:03x}b{digest[:15]}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any, most: int) -> str:
    """Of a text or a number; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).replace("\0", "").strip()[:most]
