"""A frame of the shadow as half a comparison: what the challenger answered, as it came but for its content encoding."""

from __future__ import annotations

from typing import Any

from policies.records import Outcome
from proxy.spool.frames import Frame
from proxy.store.ingest.answers import packed
from proxy.store.tables.values import NewAnswer
from proxy.wire.decode import NotEncodedError, UnknownEncodingError, unpacked

__all__ = ["answer_of"]


def answer_of(frame: Frame, budget: int) -> NewAnswer:
    """The answer in `frame`, unpacked to `budget` bytes at most. Raises KeyError, TypeError or ValueError where its
    facts do not make sense."""
    meta = frame.meta
    record_id = meta["id"]
    if len(bytes.fromhex(record_id)) != 16:
        raise ValueError(f"{record_id!r} is not a record id: write 32 hex digits")
    body, cut = _plain(frame.response, meta["sh"].get("content-encoding"), budget)
    text, latin = _text(body)
    facts: dict[str, Any] = {
        "shadow": {
            "model_id": int(meta["mid"]),
            "status": int(meta["st"]),
            "outcome": Outcome(meta["out"]).value,
            "duration_us": int(meta["dur"]),
            "ttfb_us": meta["ttfb"],
            "type": meta["sh"].get("content-type", ""),
            "bytes": int(meta["sb"]),
            "fault": meta.get("why"),
            "cut": cut or "ssha" in meta,
            "lost": "response" in meta.get("nr", ()),
            "latin": latin,
        }
    }
    return NewAnswer(
        check_id=int(meta["ck"]),
        record_id=record_id,
        user_hash=None if meta["key"] is None else int(meta["key"]),
        facts=facts,
        data=packed({"challenger": {"raw": text}}),
        created_us=int(meta["t"]),
    )


def _plain(body: bytes, encoding: str | None, budget: int) -> tuple[bytes, bool]:
    """`body` without its content encoding, and whether there was more; as it came where nobody can undo that."""
    if not encoding or not body:
        return body, False
    try:
        plain = unpacked(body, encoding, budget)
    except (NotEncodedError, UnknownEncodingError):
        return body, False
    return plain.body, plain.cut


def _text(body: bytes) -> tuple[str, bool]:
    """The bytes as text, and whether each character is a byte: streams of binary frames are no UTF-8."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return body.decode("latin-1"), True
