"""Frames as the gateway and the side app write them, from made-up exchanges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from proxy.spool.frames import KIND_EXCHANGE, KIND_FEEDBACK, Frame, decode_payload, encode_frame
from proxy.spool.packed import FALLBACKS, pack_exchange
from proxy.spool.seals import HEAD_BYTES, SEAL_BYTES, UNSEALED, Seal
from proxy.store.tables.values import NewRecord

__all__ = ["end_of", "exchange_frame", "facts", "feedback_frame", "frame_of", "of_record", "packed", "row"]

_READY = ("m p rh", "arm srv mid mn exp ep cfg")
"""What a worker has ready of a record's facts: of the request's head, and of the route table."""


def facts(record_id: str, **changes: Any) -> dict[str, Any]:
    """The facts of a quick, successful chat by a known user; `changes` are keys of the frame's JSON object."""
    return {
        "id": record_id, "t": int(record_id[:12], 16) * 1000, "m": "POST", "p": "/v1/chat/completions", "st": 200,
        "out": 0, "dur": 900_000, "ttfb": 850_000, "up": 899_000, "own": 400, "arm": 0, "srv": 0, "mid": 1,
        "mn": "champion", "exp": None, "ep": 0, "cfg": 1, "key": 42, "src": "header", "fb": None, "rb": 100, "sb": 200,
        "rh": {"content-type": "application/json"}, "sh": {"content-type": "application/json"},
    } | changes  # fmt: skip


def exchange_frame(record_id: str, request: bytes, response: bytes, **changes: Any) -> bytes:
    """One exchange, encoded."""
    return encode_frame(KIND_EXCHANGE, facts(record_id, **changes), request, response)


def frame_of(record_id: str, request: bytes, response: bytes, **changes: Any) -> Frame:
    """One exchange as the reader hands it out."""
    return Frame(KIND_EXCHANGE, facts(record_id, **changes), request, response)


def end_of(*frames: bytes) -> int:
    """Where in a segment that begins with these frames the last one ends."""
    return HEAD_BYTES + sum(SEAL_BYTES + len(frame) for frame in frames)


def row(frames: Iterable[bytes], seal: Seal = UNSEALED, at: int = 0) -> list[bytes]:
    """These frames as they stand in a file from offset `at` on."""
    found = []
    for frame in frames:
        found.append(seal.of(frame, at) + frame)
        at += len(found[-1])
    return found


def of_record(record: NewRecord) -> bytes:
    """The frame from which `record` (with its body) could have come."""
    assert record.body is not None
    body = record.body
    return exchange_frame(
        record.id,
        body.request,
        body.response,
        key=record.user_hash,
        arm=int(record.arm),
        srv=int(record.served_by),
        mid=record.model_id,
        dur=record.duration_us,
        rb=len(body.request),
        sb=len(body.response),
        rh=dict(body.request_headers),
        sh=dict(body.response_headers),
    )


def packed(frame: bytes) -> bytes:
    """The same exchange with packed facts, as a gateway writes it."""
    copy = decode_payload(frame)
    facts = copy.meta
    parts = [orjson.dumps({name: facts[name] for name in names.split()})[1:-1] for names in _READY]
    key, first_byte = facts["key"], facts["ttfb"]
    return pack_exchange(
        copy.kind, bytes.fromhex(facts["id"]), facts["t"], facts["dur"], -1 if first_byte is None else first_byte,
        facts["up"], facts["own"], key, facts["rb"], facts["sb"], facts["st"], facts["out"],
        FALLBACKS.index(facts["fb"]), facts["src"].encode(), *parts, orjson.dumps(facts["sh"]), b"", b"",
        copy.request, copy.response,
    )  # fmt: skip


def feedback_frame(at_us: int, *votes: dict[str, Any]) -> bytes:
    """Votes as the side app writes them, encoded."""
    return encode_frame(KIND_FEEDBACK, {"t": at_us, "votes": list(votes)})
