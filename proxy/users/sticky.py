"""Who sent this request, and in which conversation: the ordered sources of the sticky key.

A user is looked for in the head (headers, then a cookie), then in the body. Where nobody is named, the conversation
keeps a chat together, named in the same places, and at last its first message. Header and cookie are looked up before
the body is there; the body is asked only when they are silent. The API key is no source: one backend's key would put
all its users on one side. A key is the person that its source's value names (`proxy.wire.person`), so a user keeps
the same side whichever place carries the name, and however it is written there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from policies.records import StickySource
from proxy.config.serving import StickyConfig
from proxy.users.body_watch import TURNS, Watch
from proxy.wire.lenient import read_json, text_of
from proxy.wire.person import conversation_of, name_at, path_of, person_key, reduce_user

__all__ = ["StickyKey", "StickySources"]

StickyKey = tuple[bytes, StickySource]
_BODY: Final = StickySource.BODY
_LONGEST_FIELD: Final = 65536
"""Bytes kept of a field of a body that is not parsed."""
_LONGEST_TOLERANT: Final = 512
"""Longer values of headers are read strictly: tolerance takes a microsecond for a byte, in the event loop."""
_LEAST_TURNS: Final = 65536
_LONGEST_REMEMBERED: Final = 256
_remembered_key: Final = lru_cache(4096)(person_key)
"""The users of a service come again and again."""


class StickySources:
    """The configured sources, in their order."""

    def __init__(self, config: StickyConfig, captured_bytes: int = 262144) -> None:
        """`captured_bytes`: up to this length a body is parsed whole; of a longer one the turns' beginning is read."""
        self._headers: Final = [_Header(name) for name in config.headers]
        self._conversation_headers: Final = [_Header(name) for name in config.conversation_headers]
        self._cookie: Final = _cookie_pattern(config.cookie) if config.cookie else None
        self._users: Final = [path_of(name) for name in config.body_fields]
        self._conversations: Final = [path_of(name) for name in config.conversation_fields]
        self._first_message: Final = config.first_message
        self.reads_body: Final = bool(self._users or self._conversations or self._first_message)
        """Whether a body can say anything."""
        read = [header.name.decode("latin-1") for header in (*self._headers, *self._conversation_headers)]
        self.header_names: Final = (*read, "cookie") if config.cookie else tuple(read)
        self._users_by_step: Final = [(path[0], path[1:]) for path in self._users]
        self._first_steps: Final = frozenset(path[0] for path in (*self._users, *self._conversations))
        names = {name.encode(): _LONGEST_FIELD for name in self._first_steps}
        self._names: Final = names
        turns = max(captured_bytes, _LEAST_TURNS)
        self._names_and_turns: Final = (
            names | {name.encode(): turns for name in TURNS} if self._first_message else names
        )

    # -- what the head says

    def from_head(self, fields: Mapping[bytes, bytes]) -> StickyKey | None:
        """The user that the request's headers (lower-case names) name, if any."""
        for value, source in self._users_in_head(fields):
            if key := person_key(value):
                return key, source
        return None

    def conversation_in_head(self, fields: Mapping[bytes, bytes]) -> bytes | None:
        """The conversation that the headers name: by one of its own, else within the user's id."""
        for header in self._conversation_headers:
            if name := header.text(fields).strip():
                return (reduce_user(name)[1] or name).encode()
        for value, _ in self._users_in_head(fields):
            if session := reduce_user(value)[1]:
                return session.encode()
        return None

    def _users_in_head(self, fields: Mapping[bytes, bytes]) -> list[tuple[str, StickySource]]:
        """What stands where a user may be named; texts may be empty."""
        values = [(_text_in(fields.get(b"x-ratchet-user", b"")), StickySource.RATCHET_HEADER)]
        values += [(header.text(fields), StickySource.HEADER) for header in self._headers]
        if self._cookie is not None and (found := self._cookie.search(fields.get(b"cookie", b""))):
            values.append((_text_in(found[1]), StickySource.COOKIE))
        return values

    # -- what the body says

    def watch(self, content_type: str, content_encoding: str | None, *, user_known: bool = False) -> Watch:
        """What reads the body of a request with these headers while it passes; where the user is known, for its
        conversation only."""
        return Watch(self._names if user_known else self._names_and_turns, content_type, content_encoding)

    def in_document(self, document: Any, conversation: bytes | None) -> StickyKey | None:
        """The key in a request's JSON; `conversation` is the one that its head names."""
        if not isinstance(document, dict):
            return _conversation_key(conversation)
        return self._named(document, conversation) or (self._first(document) if self._first_message else None)

    def in_watched(self, watch: Watch, conversation: bytes | None) -> StickyKey | None:
        """The key in what was read so far of a body."""
        named = self._named(watch.fields(), conversation)
        return named or (self._first(watch.turns()) if self._first_message else None)

    def conversation_in(self, document: Any) -> bytes | None:
        """The conversation that a request's JSON names."""
        if not isinstance(document, dict):
            return None
        found = conversation_of(document, self._conversations, self._users)
        return found.encode() if found is not None else None

    def _named(self, document: dict[str, Any], conversation: bytes | None) -> StickyKey | None:
        if self._first_steps.isdisjoint(document):
            return _conversation_key(conversation)
        for first, rest in self._users_by_step:
            value = document.get(first)
            if value is None:
                continue
            if rest or type(value) is not str:
                value = name_at(value, rest)
            if value and (key := _remembered_key(value) if len(value) <= _LONGEST_REMEMBERED else person_key(value)):
                return key, _BODY
        return _conversation_key(conversation or self.conversation_in(document))

    def _first(self, document: dict[str, Any]) -> StickyKey | None:
        key = _first_message(document)
        return (key, StickySource.FIRST_MESSAGE) if key else None


class _Header:
    """A header that names somebody: all of its value, or (`name#member`) one member of the JSON or JWT in it."""

    def __init__(self, setting: str) -> None:
        name, _, member = setting.partition("#")
        self.name: Final = name.lower().encode("latin-1")
        self._member: Final = path_of(member) if member else None

    def text(self, fields: Mapping[bytes, bytes]) -> str:
        """The name; empty where there is none."""
        value = fields.get(self.name)
        if not value:
            return ""
        if self._member is None:
            return _text_in(value)
        return name_at(_inside(value), self._member) or ""


def _text_in(value: bytes) -> str:
    """The text of a header or cookie."""
    return text_of(value) if len(value) <= _LONGEST_TOLERANT else value.decode("utf-8", "replace")


def _inside(value: bytes) -> Any:
    """The JSON in a header, or what a JWT claims: who put it there is believed as with every other header."""
    parts = value.split(b".")
    try:
        if len(parts) == 3 and not value.startswith(b"{"):
            value = base64.b64decode(parts[1] + b"=" * (-len(parts[1]) % 4), b"-_", validate=True)
        return read_json(value) if len(value) <= _LONGEST_TOLERANT else orjson.loads(value)
    except (binascii.Error, ValueError):
        return None


def _conversation_key(conversation: bytes | None) -> StickyKey | None:
    return (conversation, StickySource.CONVERSATION) if conversation else None


def _cookie_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|;)[ \t]*" + re.escape(name.encode("latin-1")) + rb'="?([^;"]+)')


def _first_message(document: dict[str, Any]) -> bytes | None:
    """What the user said first, in any of TURNS: it stays the same as a chat grows."""
    turns = document.get("messages") or document.get("input") or document.get("contents")
    if isinstance(turns, list):
        for turn in turns:
            if not isinstance(turn, dict) or turn.get("role", "user" if "parts" in turn else None) != "user":
                continue
            if said := turn.get("content") or turn.get("parts"):
                return _text(said) if isinstance(said, str) else _written(said)
        return None
    prompt = turns if isinstance(turns, str) and turns else document.get("prompt")
    return _text(prompt) if isinstance(prompt, str) and prompt else None


def _text(said: str) -> bytes:
    return said.encode("utf-8", "replace")


def _written(content: Any) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:
        pass
    try:  # nested too deeply, or a number of more than 64 bits, which only the reader of cut bodies leaves whole
        return repr(content).encode()
    except RecursionError:  # orjson reads more levels than Python writes
        return b""
