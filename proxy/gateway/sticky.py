"""Who sent this request: the ordered sources of the sticky key.

Header and cookie are looked up before the body is there; the body is asked only when they are silent. The
API key is no source: one backend's key would put all its users on one side. A key names its source's value only,
so a user keeps the same side whichever header carries the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from policies.records import StickySource
from proxy.config.serving import StickyConfig

__all__ = ["StickyKey", "StickySources"]

StickyKey = tuple[bytes, StickySource]
_BODY: Final = StickySource.BODY


class StickySources:
    """The configured sources, in their order."""

    def __init__(self, config: StickyConfig) -> None:
        self._headers: Final = [name.lower().encode("latin-1") for name in config.headers]
        self._cookie: Final = _cookie_pattern(config.cookie) if config.cookie else None
        self._fields: Final = [tuple(name.split(".")) for name in config.body_fields]
        self._first_message: Final = config.first_message
        self.reads_body: Final = bool(self._fields) or self._first_message
        self.header_names: Final = (*config.headers, "cookie") if config.cookie else config.headers

    def from_head(self, fields: Mapping[bytes, bytes]) -> StickyKey | None:
        """The key that the request's headers (lower-case names) hold, if any."""
        if value := fields.get(b"x-ratchet-user"):
            return value, StickySource.RATCHET_HEADER
        for name in self._headers:
            if value := fields.get(name):
                return value, StickySource.HEADER
        if self._cookie is not None and (found := self._cookie.search(fields.get(b"cookie", b""))):
            return found[1], StickySource.COOKIE
        return None

    def from_body(self, body: bytes | bytearray, *, cut: bool = False) -> StickyKey | None:
        """The key that a JSON request body holds, if any; None for a body that is no JSON object.

        Of a `cut` one, a long document or a picture in it, the beginning is read: a field counts when it stands there
        whole, a first message as far as it goes, which is as far for every turn of its conversation.
        """
        if not self.reads_body:
            return None
        if cut:
            return self._in(_beginning(body, "on"), fields=True) or self._in(_beginning(body, "trailing-strings"))
        try:
            return self._in(orjson.loads(body), fields=True)
        except orjson.JSONDecodeError:
            return None

    def _in(self, document: Any, *, fields: bool = False) -> StickyKey | None:
        if not isinstance(document, dict):
            return None
        for path in self._fields if fields else ():
            value = document.get(path[0])
            if value is not None and (key := _scalar(value, path)) is not None:
                return key, _BODY
        if self._first_message and (key := _first_message(document)) is not None:
            return key, StickySource.FIRST_MESSAGE
        return None


def _beginning(body: bytes | bytearray, partial: Literal["on", "trailing-strings"]) -> Any:
    """What can be read of JSON that ends too early: without its last, broken value, or with that string's start."""
    from pydantic_core import from_json  # rare, and the first answer after a start should not wait for it

    try:
        return from_json(bytes(body).rstrip(b"0123456789"), allow_partial=partial)  # a number may be cut, too
    except ValueError:
        return None


def _cookie_pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|;)[ \t]*" + re.escape(name.encode("latin-1")) + rb'="?([^;"]+)')


def _scalar(value: Any, path: tuple[str, ...]) -> bytes | None:
    """The name that stands at `path`, of whose first step `value` was found."""
    for step in path[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    if isinstance(value, str) and value:
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    return None


def _first_message(document: dict[str, Any]) -> bytes | None:
    """What the user said first: chat and Responses input, or a plain prompt. It stays the same as a chat grows."""
    turns = document.get("messages") or document.get("input")
    if isinstance(turns, list):
        for turn in turns:
            if isinstance(turn, dict) and turn.get("role") == "user" and (content := turn.get("content")):
                return content.encode() if isinstance(content, str) else _written(content)
        return None
    if isinstance(turns, str) and turns:
        return turns.encode()
    prompt = document.get("prompt")
    return prompt.encode() if isinstance(prompt, str) and prompt else None


def _written(content: Any) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # a number of more than 64 bits, which only the reader of cut bodies leaves whole
        return repr(content).encode()
