"""A request's body as far as it is here, asked for the names in it.

The gateway asks where a user's side depends on it, or where nobody can ask later: the record lacks the body, or has it
cut or masked. Of all other requests ingest asks, which reads the body anyway. Both ask here, so that the same body
names the same user.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.users.body_watch import Watch
from proxy.users.sticky import StickyKey, StickySources
from proxy.wire.brackets import too_many_brackets
from proxy.wire.decode import UnknownEncodingError, decode

__all__ = ["NamingBody"]


class NamingBody:
    """One of a request with these headers; unpacked, `limit` bytes of it are read at most."""

    __slots__ = ("_data", "_encoding", "_kind", "_limit", "document")

    def __init__(self, data: bytes | bytearray, content_type: str, content_encoding: str | None, limit: int) -> None:
        self._data = data
        self.document: Any = None
        """The JSON value that the data is, as it came, once it has been parsed; who goes on reading need not again."""
        self._kind = content_type
        self._encoding = content_encoding
        self._limit = limit

    def user(self, sticky: StickySources, conversation: bytes | None) -> StickyKey | None:
        """The sticky key of a request whose head names no user, and this conversation, if any."""
        if not self._data or not sticky.reads_body:
            return sticky.in_document(None, conversation)
        try:
            return sticky.in_document(self._parsed(), conversation)
        except ValueError:
            return sticky.in_watched(self._watched(sticky, user_known=False), conversation)

    def conversation(self, sticky: StickySources) -> bytes | None:
        """The conversation that it names."""
        try:
            return sticky.conversation_in(self._parsed())
        except ValueError:
            return sticky.conversation_in(self._watched(sticky, user_known=True).fields())

    def _parsed(self) -> object:
        """The JSON that the body is, None of a crowd. Raises ValueError where it is none, or more than is parsed."""
        data = self._data
        if self._encoding is not None:
            try:
                data = decode(bytes(data), self._encoding, self._limit)
            except UnknownEncodingError:
                return None
            if len(data) >= self._limit:
                raise ValueError("too long to parse")
        if too_many_brackets(data):
            return None
        document: object = orjson.loads(data)
        if self._encoding is None:
            self.document = document
        return document

    def _watched(self, sticky: StickySources, *, user_known: bool) -> Watch:
        watch = sticky.watch(self._kind, self._encoding, user_known=user_known)
        watch.feed(bytes(self._data))
        return watch
