"""Whose request it is and which conversation it belongs to, as clients write both: pure functions on names and JSON.

Coding agents put one long text where the user belongs, with the session in it: taken whole, one developer would be a
new user every session. Such a text is reduced to the person in it, the same way wherever a name comes in: a header, a
body, the command line, the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from proxy.wire.lenient import mended_text

__all__ = ["CONVERSATION_FIELDS", "CONVERSATION_STEPS", "MORE_CONVERSATION_FIELDS", "USER_FIELDS", "conversation_of",
           "former_keys", "name_at", "path_of", "person_key", "reduce_user", "user_of"]  # fmt: skip

Path = tuple[str, ...]

_LONGEST: Final = 16384
"""Characters of a name that is looked into."""
_PERSON: Final = ("account_uuid", "account_id", "user_id", "device_id", "installation_id")
"""Who it is within an id that is JSON, the best first: an account is one person on all their devices."""
_OLDER: Final = re.compile(r"user_(?P<device>.+?)(?:_account_(?P<account>.*?))?_session_(?P<session>.*)", re.DOTALL)
_LONGEST_OLDER: Final = 512
_LONGEST_REMEMBERED: Final = 256


def path_of(dotted: str) -> Path:
    """The steps of `metadata.user_id`."""
    return tuple(dotted.split("."))


USER_FIELDS: Final = tuple(map(path_of, (
    "safety_identifier", "user", "user.id", "metadata.user_id", "client_metadata.x-codex-installation-id",
    "metadata.trace_user_id",
)))  # fmt: skip
"""Where the user stands in a request body, the first that is there: the setting `sticky.body_fields` at its default."""
CONVERSATION_FIELDS: Final = tuple(map(path_of, (
    "conversation", "conversation.id", "conversation_id", "metadata.session_id", "client_metadata.session_id",
    "prompt_cache_key",
)))  # fmt: skip
"""The same for the conversation: `sticky.conversation_fields`."""
MORE_CONVERSATION_FIELDS: Final = tuple(map(path_of, (
    "thread_id", "chat_id", "session_id", "metadata.thread_id", "metadata.chat_id", "metadata.conversation_id",
)))  # fmt: skip
"""Where a conversation is named besides: read from records, and no sticky key."""
CONVERSATION_STEPS: Final = frozenset(
    path[0] for path in (*CONVERSATION_FIELDS, *MORE_CONVERSATION_FIELDS, *USER_FIELDS)
)
"""A request without any of these members names no conversation."""


def reduce_user(text: str) -> tuple[str, str | None]:
    """The person that `text` names, and the conversation that stands in it, if any.

    Two forms are taken apart: JSON text with an `account_uuid` or `device_id` and a `session_id`, and
    `user_<device>_account_<account or nothing>_session_<session>`. Any other text stays, without spaces around it.
    Reducing what is reduced changes nothing.
    """
    text = mended_text(text).strip()
    session = None
    while (parts := _parts(text)) is not None:
        session = session or parts[1]
        if parts[0] is None:
            break
        text = parts[0]
    return text, session


_reduced: Final = lru_cache(4096)(reduce_user)


def person_key(text: str) -> bytes:
    """The bytes that a user's hash is made of, from the name as a client sends it. Empty where that names nobody."""
    return reduce_user(text)[0].encode()


def former_keys(text: str) -> tuple[bytes, ...]:
    """All the keys under which records of that name may lie: the person's, and the whole text's, which it was before
    names were reduced to persons."""
    return tuple(dict.fromkeys((person_key(text), mended_text(text).encode())))


def name_at(document: Any, path: Path) -> str | None:
    """The name that stands at `path` of a JSON value: a text that is not empty, or a whole number."""
    for step in path:
        if not isinstance(document, dict):
            return None
        document = document.get(step)
    return _name(document)


def user_of(fields: Mapping[str, Any]) -> str | None:
    """Whoever a request's JSON object names at the USER_FIELDS: the person."""
    found = _first_name(fields, USER_FIELDS)
    return _remembered(found)[0] or None if found is not None else None


def conversation_of(
    fields: Mapping[str, Any],
    paths: Iterable[Path] = CONVERSATION_FIELDS,
    users: Iterable[Path] = USER_FIELDS,
) -> str | None:
    """The conversation that a request's JSON object names: at one of `paths`, else within the user's id."""
    if (found := _first_name(fields, paths)) is not None:
        return _remembered(found)[1] or found
    for path in users:
        if path[0] in fields and (found := name_at(fields, path)) is not None:
            session = _remembered(found)[1]
            if session is not None:
                return session
    return None


def _first_name(fields: Mapping[str, Any], paths: Iterable[Path]) -> str | None:
    """The name at the first of `paths` that has one."""
    for path in paths:
        if path[0] in fields and (found := name_at(fields, path)) is not None:
            return found
    return None


def _remembered(text: str) -> tuple[str, str | None]:
    """As `reduce_user`: the users of a service come again and again."""
    return _reduced(text) if len(text) <= _LONGEST_REMEMBERED else reduce_user(text)


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return mended_text(value).strip() or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _parts(text: str) -> tuple[str | None, str | None] | None:
    """Person and session of an id that is made of several; None where it is not."""
    if text.startswith("{") and len(text) <= _LONGEST:
        return _json_parts(text)
    if text.startswith("user_") and len(text) <= _LONGEST_OLDER and (found := _OLDER.fullmatch(text)) is not None:
        return (found["account"] or found["device"]).strip() or None, found["session"].strip() or None
    return None


def _json_parts(text: str) -> tuple[str | None, str | None] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    person = next((name for key in _PERSON if (name := _name(document.get(key))) is not None), None)
    return person, _name(document.get("session_id"))
