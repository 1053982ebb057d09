"""The facts of an exchange in the form that costs a worker least: numbers in fixed places, then what it has ready.

A frame's facts are a JSON object. Those of an exchange are written for every request, so they come packed instead, and
are read as the same object. What the members mean is `docs/reference/records.md`'s to say; little-endian,

    magic     2 bytes   01 FE, which no JSON begins with
    id       16 bytes   `id`
    times   5 × i64     µs: `t` since 1970; `dur`, `ttfb` (-1: null), `up`, `own`
    user      i64       `key`
    sizes   2 × u64     `rb`, `sb`
    status    u16       `st`
    codes   3 × u8      `out`; `fb` (its place in FALLBACKS); 1 where `key` is null, 2 where it is left out with `src`
    lengths 6 × u32     of the parts behind it

and the parts are `src`; members of JSON objects, from the request's head and from the route table; `sh` (a JSON
object); and two more rows of members, each of those behind a comma. They repeat from request to request, so a reader
knows them again by their bytes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Final

import orjson

__all__ = ["FALLBACKS", "MAGIC", "is_packed", "pack_exchange", "unpack_facts"]

MAGIC: Final = b"\x01\xfe"
FALLBACKS: Final = (None, "breaker", "connect", "status", "timeout")
"""A new one is added at the end."""
_NUMBERS: Final = struct.Struct("<2s16sqqqqqqQQHBBBIIIIII")
_PAYLOAD: Final = struct.Struct("<BIII" + _NUMBERS.format[1:])
"""A whole frame's beginning: see `proxy.spool.frames`."""
_NUMBERS_BYTES: Final = _NUMBERS.size
_NO_HASH: Final = 1
_NOT_LOOKED_FOR: Final = 2
_LONGEST_REMEMBERED: Final = 4096


def pack_exchange(
    kind: int,
    record_id: bytes,
    arrived_us: int,
    duration_us: int,
    first_byte_us: int,
    upstream_us: int,
    own_us: int,
    user_hash: int | None,
    request_bytes: int,
    response_bytes: int,
    status: int,
    outcome: int,
    fallback: int,
    source: bytes,
    known: bytes,
    routing: bytes,
    response_head: bytes,
    origin: bytes,
    rarer: bytes,
    request: bytes | bytearray,
    response: bytes | bytearray,
) -> bytes:
    """The payload of a frame of this `kind` with packed facts; `record_id` are the 16 bytes of its UUID. Without a
    `source` nobody has looked for the user."""
    n_source, n_known, n_routing = len(source), len(known), len(routing)
    n_response_head, n_origin, n_rarer = len(response_head), len(origin), len(rarer)
    head = _PAYLOAD.pack(
        kind,
        _NUMBERS_BYTES + n_source + n_known + n_routing + n_response_head + n_origin + n_rarer,
        len(request),
        len(response),
        MAGIC,
        record_id,
        arrived_us,
        duration_us,
        first_byte_us,
        upstream_us,
        own_us,
        0 if user_hash is None else user_hash,
        request_bytes,
        response_bytes,
        status,
        outcome,
        fallback,
        (_NO_HASH if source else _NOT_LOOKED_FOR) if user_hash is None else 0,
        n_source,
        n_known,
        n_routing,
        n_response_head,
        n_origin,
        n_rarer,
    )
    return b"".join((head, source, known, routing, response_head, origin, rarer, request, response))


def is_packed(facts: bytes) -> bool:
    """Whether these facts are packed, and no JSON."""
    return facts.startswith(MAGIC)


def unpack_facts(facts: bytes) -> dict[str, Any]:
    """The object that packed facts stand for. Raises ValueError (struct.error is not one) where they are none.

    Objects within it are shared with other readers: do not change them.
    """
    try:
        (_, record_id, arrived, duration, first_byte, upstream, own, user_hash, asked, answered, status, outcome,
         fallback, no_user, n_source, n_known, n_routing, n_head, n_origin,
         n_rarer) = _NUMBERS.unpack_from(facts)  # fmt: skip
        known_at: int = _NUMBERS_BYTES + n_source
        routing_at: int = known_at + n_known
        head_at: int = routing_at + n_routing
        origin_at: int = head_at + n_head
        rarer_at: int = origin_at + n_origin
        end: int = rarer_at + n_rarer
        if end != len(facts):
            raise ValueError("the parts of packed facts do not add up to their length")
        source = facts[_NUMBERS_BYTES:known_at].decode() if no_user != _NOT_LOOKED_FOR else ""
        meta: dict[str, Any] = {"id": record_id.hex(), "t": arrived}
        meta |= _members(facts[known_at:routing_at])
        meta |= _members(facts[routing_at:head_at])
        meta["st"] = status
        meta["out"] = outcome
        meta["dur"] = duration
        meta["ttfb"] = None if first_byte < 0 else first_byte
        meta["up"] = upstream
        meta["own"] = own
        if no_user != _NOT_LOOKED_FOR:
            meta["key"] = None if no_user == _NO_HASH else user_hash
            meta["src"] = source
        meta["fb"] = FALLBACKS[fallback]
        meta["rb"] = asked
        meta["sb"] = answered
        meta["sh"] = _object(facts[head_at:origin_at])
        if n_origin:
            meta |= _members(facts[origin_at + 1 : rarer_at])
        if n_rarer:
            meta |= _members(facts[rarer_at + 1 :])
        return meta
    except (struct.error, IndexError) as exc:
        raise ValueError(f"these are no packed facts: {exc}") from exc


def _members(row: bytes) -> dict[str, Any]:
    """What a row of members says."""
    if not row:
        return {}
    return _remembered_row(row) if len(row) <= _LONGEST_REMEMBERED else _read_row(row)


def _object(text: bytes) -> dict[str, Any]:
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else _read(text)


def _read_row(row: bytes) -> dict[str, Any]:
    return _read(b"{" + row + b"}")


def _read(text: bytes) -> dict[str, Any]:
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError("a part of packed facts is no JSON object")
    return found


_remembered: Final = lru_cache(1024)(_read)
_remembered_row: Final = lru_cache(1024)(_read_row)
