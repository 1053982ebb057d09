"""Records as JSON documents and back from query parameters, the same for the admin API and the command line.

Words instead of numbers, ISO times in UTC, and both names of a record: `id`, its UUID, and `record_id`, the
signed one that its client got and votes with. A hash, of a user or a conversation, is hexadecimal, for JavaScript has
no 64-bit integers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from policies.ballots import BallotTrust
from policies.records import Arm, Outcome
from policies.rows import Model
from proxy.ids import KeyRing, RecordIds
from proxy.store.control.judgements import RecordJudgement
from proxy.store.tables.columns import SHOWN
from proxy.store.tables.values import BodyPayload, RecordFilter, RecordFlag, RecordRow, RecordView, VoteView
from proxy.web.numbers import LAST_INSTANT_S, read_number, read_whole
from proxy.wire.extract.shapes import KINDS
from proxy.wire.person import conversation_of, person_key
from proxy.wire.rewriting import Rewriter

__all__ = ["FILTERS", "ROW_NAMES", "iso", "judgement_documents", "parse_filter", "parse_instant", "record_document",
           "row_document", "user_text"]  # fmt: skip

FILTERS: Final = ("since", "until", "user", "conversation", "arm", "model", "experiment", "status", "outcome", "kind",
                  "min_quality", "max_quality", "feedback", "tag", "text",
                  *(name for name, column in SHOWN if column.filter))  # fmt: skip
_EXACT: Final = {name: column for name, column in SHOWN if column.filter}
_LAST_ROW: Final = 2**31 - 1
_FEEDBACK: Final[dict[str, dict[str, Any]]] = {
    "any": {"voted": True},
    "none": {"voted": False},
    "positive": {"min_feedback": 0.001},
    "negative": {"max_feedback": -0.001},
}


def iso(at_us: int) -> str:
    """Unix microseconds as `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user_text(user_hash: int | None) -> str | None:
    """A user's or a conversation's hash as 16 hexadecimal digits."""
    return None if user_hash is None else f"{user_hash & 0xFFFF_FFFF_FFFF_FFFF:016x}"


ROW_NAMES: Final = ("id", "record_id", "created_at", *(name for name, _ in SHOWN), "query", "response")
"""What a line of a list has."""


def row_document(row: RecordRow, ids: RecordIds) -> dict[str, Any]:
    """One line of a list."""
    return {
        "id": row.id,
        "record_id": ids.sign(row.id),
        "created_at": iso(row.created_us),
        **{name: column.as_json(row) for name, column in SHOWN},
        "query": row.query,
        "response": row.response_text,
    }


def judgement_documents(found: Sequence[RecordJudgement]) -> list[dict[str, Any]]:
    """What judges said of a record, by scorer."""
    return [
        {
            "scorer": one.scorer,
            "asked_at": iso(one.asked_us),
            "score": one.score,
            "tokens": one.tokens,
            "reason": one.reason,
        }
        for one in found
    ]


def record_document(view: RecordView, ids: RecordIds, model: Model | None = None) -> dict[str, Any]:
    """Everything about one record; `exchange` is None once retention has dropped it. `model` is the one that answered:
    what it was asked follows from its rewrite."""
    document = row_document(view.row, ids)
    body = view.body
    if body is not None:
        document |= {"query": body.query, "response": body.response_text}
    exchange = None if body is None else {
        "target": body.target,
        "request_headers": dict(body.request_headers),
        "request": body.request.decode("utf-8", "replace"),
        "response_headers": dict(body.response_headers),
        "response": body.response.decode("utf-8", "replace"),
        "messages": [dict(message) for message in body.messages],
        "error": body.error,
        "tags": dict(body.tags),
        **_rewriting(view.row, body, model),
    }  # fmt: skip
    return document | {
        "scores": dict(view.scores),
        "votes": [_vote_document(vote) for vote in view.votes],
        "exchange": exchange,
    }


def _rewriting(row: RecordRow, body: BodyPayload, model: Model | None) -> dict[str, Any]:
    """The body that the model got, where that is not the client's and this is here, whole; and what of its rewrite had
    no place in it."""
    nothing: dict[str, Any] = {"rewritten": None, "not_rewritten": []}
    if RecordFlag.REWRITTEN not in row.flags or RecordFlag.TRUNCATED_REQUEST in row.flags:
        return nothing
    if model is None or model.rewrite is None:
        return nothing
    rewriter = Rewriter(model.rewrite)
    asked, lacks = rewriter.body(body.target, body.request), list(rewriter.lacks(body.target, body.request))
    text = None if asked == body.request else asked.decode("utf-8", "replace")
    return {"rewritten": text, "not_rewritten": lacks}


def _vote_document(vote: VoteView) -> dict[str, Any]:
    return {
        "feedback_id": vote.fid,
        "source": vote.source,
        "feedback": vote.feedback,
        "retracted": vote.retracted,
        "comment": vote.comment,
        "correction": vote.correction,
        "quality_score": vote.quality_score,
        "tags": dict(vote.tags),
        "created_at": iso(vote.created_us),
        "token": BallotTrust.TOKEN in vote.trust,
        "counts": vote.effective,
        "whole": vote.whole,
        "copied": vote.copied,
    }


def parse_filter(params: Mapping[str, str], keys: KeyRing, models: Mapping[str, int], now: float) -> RecordFilter:
    """What to list, from texts named as in FILTERS; `models` maps names to ids.

    Raises ValueError `name: why` for the first that cannot be understood.
    """
    fields: dict[str, Any] = {}
    for name, text in params.items():
        try:
            criterion = _criterion(name, text, keys, models, now)
            if "equal" in criterion:
                criterion["equal"] |= fields.get("equal", {})
            fields |= criterion
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from exc
    return RecordFilter(**fields)


def _criterion(name: str, text: str, keys: KeyRing, models: Mapping[str, int], now: float) -> dict[str, Any]:
    match name:
        case "since" | "until":
            return {f"{name}_us": int(parse_instant(text, now) * 1e6)}
        case "user":
            return {"user_hash": keys.user_hash(person_key(text))}
        case "conversation":
            return {"conversation": keys.user_hash((conversation_of({name: text}) or "").encode())}
        case "arm":
            return {"arm": _member(Arm, text)}
        case "outcome":
            return {"outcome": _member(Outcome, text)}
        case "model":
            if text not in models:
                raise ValueError(f"there is no model {text!r}; known models: {', '.join(models) or 'none yet'}")
            return {"model_id": models[text]}
        case "experiment":
            return {"experiment_id": read_whole(text, 0, _LAST_ROW)}
        case "status":
            return {"status": read_whole(text.lower().removesuffix("xx"), 0, 999)}
        case "min_quality" | "max_quality":
            return {name: read_number(text, 0.0, 1.0)}
        case "feedback":
            if text not in _FEEDBACK:
                raise ValueError(f"not one of {', '.join(_FEEDBACK)}")
            return _FEEDBACK[text]
        case "kind":
            if text.removeprefix("-") not in KINDS:
                raise ValueError(f"not one of {', '.join(KINDS)}; -task means all but task")
            return {"other_than": text[1:]} if text.startswith("-") else {"kind": text}
        case "tag":
            tag, sign, value = text.partition("=")
            if not tag or not sign or not value:
                raise ValueError(f"{text!r} is no tag; write its name and value, as in x-plan=free")
            return {"tag": (tag, value)}
        case "text":
            return {"text": text}
        case exact if exact in _EXACT:
            return {"equal": {_EXACT[exact].name: _EXACT[exact].of_text(text)}}
    raise ValueError(f"no such filter; use one of {', '.join(FILTERS)}")


def _member(kind: type[Arm] | type[Outcome], text: str) -> Arm | Outcome:
    try:
        return kind[text.upper().replace("-", "_")]
    except KeyError as exc:
        raise ValueError(f"not one of {', '.join(member.label for member in kind)}") from exc


_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"\d{1,9}(\.\d{1,9})?[smhdw]", re.ASCII)
_NUMBER: Final = re.compile(r"\d{9,12}(\.\d{1,9})?", re.ASCII)


def parse_instant(text: str, now: float) -> float:
    """Unix seconds from `2h` (ago; s, m, h, d, w), a Unix time, or an ISO date or time (UTC unless it says so)."""
    if text[-1:] in _UNITS_S and _DURATION.fullmatch(text):
        at = now - float(text[:-1]) * _UNITS_S[text[-1]]
    elif _NUMBER.fullmatch(text):
        at = float(text)
    else:
        try:
            instant = datetime.fromisoformat(text if text.isascii() else "")
            at = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as exc:
            raise ValueError(f"{text!r} is not a time; write 2h (ago), 2026-01-31, or 2026-01-31T12:00") from exc
    if not 0 <= at <= LAST_INSTANT_S:
        raise ValueError(f"{text!r} is outside the years 1970 to 9999")
    return at
