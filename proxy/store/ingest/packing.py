"""One body as bytes, not yet compressed: request, response, and facts that point into the two where they can; and how
many of them are put together into blocks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, Final

import orjson

from proxy.store.tables.keys import BLOCK_RECORDS, day_of
from proxy.store.tables.values import BodyPayload

__all__ = ["Search", "in_blocks", "joined", "pack", "split", "unpack"]

_COUNT: Final = Struct("<I")
_BLOCK_BYTES: Final = 256 * 1024
_PARTS: Final = Struct("<III")
_SHORT: Final = 24
"""Characters from which a text is worth looking up in the body it came from."""
_MOST_WALKS: Final = 64
_PROBE: Final = 24
"""Bytes of a text that are searched for; the rest is compared. To search for hundreds takes a few times as long."""


def pack(body: BodyPayload) -> bytes:
    """One buffer with everything in `body`, not yet compressed."""
    request, response, asked = body.request, body.response, body.query
    query = _refer(asked, request)
    said = _Places(request)
    facts = orjson.dumps(
        [
            body.method,
            body.target,
            _plain(body.request_headers),
            _plain(body.response_headers),
            query,
            _refer(body.response_text, response),
            [
                {name: query if text is asked else said.refer(text) for name, text in message.items()}
                for message in body.messages
            ],
            body.request_sha256,
            body.response_sha256,
            body.error,
            _plain(body.tags),
        ]
    )
    return b"".join((_PARTS.pack(len(facts), len(request), len(response)), request, response, facts))


def unpack(data: bytes) -> BodyPayload:
    """The inverse of `pack`."""
    n_facts, n_request, n_response = _PARTS.unpack_from(data)
    response_at = _PARTS.size + n_request
    facts_at = response_at + n_response
    request, response = data[_PARTS.size : response_at], data[response_at:facts_at]
    facts: list[Any] = orjson.loads(data[facts_at : facts_at + n_facts])
    return BodyPayload(
        method=facts[0],
        target=facts[1],
        request_headers=facts[2],
        response_headers=facts[3],
        request=request,
        response=response,
        query=_resolve(facts[4], request),
        response_text=_resolve(facts[5], response),
        messages=tuple({name: _resolve(text, request) or "" for name, text in message.items()} for message in facts[6]),
        request_sha256=facts[7],
        response_sha256=facts[8],
        error=facts[9],
        tags=facts[10],
    )


def in_blocks(packed: Sequence[tuple[str, bytes]]) -> list[Sequence[tuple[str, bytes]]]:
    """Runs of records, given with their ids in order, that go into one block each: neighbours of one day, so that a day
    can be dropped by itself."""
    found: list[Sequence[tuple[str, bytes]]] = []
    begin = size = day = 0
    one_day = bool(packed) and day_of(packed[0][0]) == day_of(packed[-1][0])
    for at, (record_id, body) in enumerate(packed):
        full = at - begin == BLOCK_RECORDS or size + len(body) > _BLOCK_BYTES
        if at > begin and (full or not (one_day or day_of(record_id) == day)):
            found.append(packed[begin:at])
            begin, size = at, 0
        if at == begin:
            day = day_of(record_id)
        size += len(body)
    return [*found, packed[begin:]] if packed else found


def joined(packed: Sequence[bytes]) -> bytes:
    """A block, not yet compressed: how many bodies there are, how long each is, and the bodies."""
    return b"".join((_COUNT.pack(len(packed)), *[_COUNT.pack(len(data)) for data in packed], *packed))


def split(block: bytes) -> list[bytes]:
    """The inverse of `joined`."""
    (count,) = _COUNT.unpack_from(block)
    start = _COUNT.size * (1 + count)
    packed = []
    for (length,) in _COUNT.iter_unpack(block[_COUNT.size : start]):
        packed.append(block[start : start + length])
        start += length
    return packed


class Search:
    """Words that a query or a response may say, in whatever case."""

    def __init__(self, text: str) -> None:
        self._text = text.casefold()
        plain = self._text.isascii() and self._text.isprintable() and not {'"', "\\"} & set(self._text)
        self._plain = self._text.encode() if plain else None

    def finds(self, packed: bytes) -> BodyPayload | None:
        """The body, if it says so. Texts are in there as they are but for JSON's escapes, so most bodies without the
        words are seen to be that without unpacking them, which takes many times as long."""
        if self._plain is not None:
            texts = packed[_PARTS.size :]
            if texts.isascii() and self._plain not in texts.lower():  # beyond ASCII, other letters fold to these
                return None
        body = unpack(packed)
        said = any(self._text in part.casefold() for part in (body.query, body.response_text) if part)
        return body if said else None


class _Places:
    """Where a body says one text after another: each is looked for behind the one before, for so they were written.
    Only a few that are not there are looked for from its beginning, as each of them is a walk through all of it."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._at = 0
        self._walks = _MOST_WALKS

    def refer(self, text: str) -> str | list[int]:
        """As `_refer`; a text that is not found is kept as it is."""
        if len(text) < _SHORT or not self._walks:
            return text
        inside = orjson.dumps(text)[1:-1]
        at = _find(self._source, inside, self._at)
        if at < 0:
            self._walks -= 1
            at = _find(self._source, inside)
        if at < 0:
            return text
        self._at = at + len(inside)
        return [at, len(inside)]


def _refer(text: str | None, source: bytes) -> str | list[int] | None:
    """Where `source` says `text`, as (offset, length) of a JSON string's inside; the text itself where it does not."""
    if text is None or len(text) < _SHORT:
        return text
    inside = orjson.dumps(text)[1:-1]
    at = _find(source, inside)
    return [at, len(inside)] if at >= 0 else text


def _find(source: bytes, text: bytes, start: int = 0) -> int:
    """As `source.find(text, start)`."""
    at = source.find(text[:_PROBE], start)
    if at < 0 or source.startswith(text, at):
        return at
    return source.find(text, at + 1)


def _resolve(reference: str | list[int] | None, source: bytes) -> str | None:
    """The inverse of `_refer`."""
    if not isinstance(reference, list):
        return reference
    at, length = reference
    text: str = orjson.loads(b'"' + source[at : at + length] + b'"')
    return text


def _plain(mapping: Mapping[str, str]) -> dict[str, str]:
    return mapping if isinstance(mapping, dict) else dict(mapping)
