"""The archive's columns, and between a row of them and a record. They have the names that the store's values have.

Enumerations are their words, instants are timestamps (µs, UTC), durations stay µs, flags are a column each. A record
whose body retention had dropped before it was archived has null in `target` and in all columns of the body.
What comes with a later version of Ratchet, flags too, stands behind all that files have by now (`_PLACES`), which keep
their places; readers give null for a column that an old file does not have. `tags` are those that came with the
body (a library's), `record_tags` the column `tags` of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import pyarrow as pa

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.store.tables.columns import RECORD_COLUMNS
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.values import BodyPayload, RecordFlag, RecordRow, RecordView, VoteView

__all__ = ["ENUMERATIONS", "from_row", "schema", "to_row", "weight"]

_PLACES: Final = (
    "id", "created_at", "user_hash", "key_source", "arm", "served_by", "model_id", "model_name", "experiment_id",
    "epoch", "config_id", "kind", "method", "target", "status", "outcome", "duration_us", "upstream_us", "ttfb_us",
    "own_us", "request_bytes", "response_bytes", "prompt_tokens", "completion_tokens", "quality", "quality_source",
    "feedback", "no_train", "streamed", "fallback", "truncated_request", "truncated_response", "redacted", "sample",
    "query", "response_text", "messages", "request", "response", "request_headers", "response_headers",
    "request_sha256", "response_sha256", "error", "tags", "scores", "votes", "ttft_us", "conversation",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cluster", "unread", "resent", "claimed",
    "vote_trust", "judged", "answer_chars", "behaviour", "record_tags", "rewritten",
    "vote_external", "vote_amends",
)  # fmt: skip
"""The columns in the order of the files that are written by now."""
_ARCHIVED: Final = tuple(column for column in RECORD_COLUMNS if column.archive is not None)
_PLAIN: Final = ("model_name", *(column.name for column in _ARCHIVED if column.values is None))
_WORDS: Final = tuple((column.name, column.values) for column in _ARCHIVED if column.values is not None)
_OF_BODY: Final = ("target", "request", "response", "query", "response_text", "request_sha256", "response_sha256",
                   "error")  # fmt: skip
_MAPS: Final = ("request_headers", "response_headers", "tags")
_OF_VOTE: Final = ("fid", "source", "feedback", "retracted", "comment", "correction", "quality_score", "effective")
ENUMERATIONS: Final = ("key_source", "arm", "served_by", "model_name", "kind", "method", "outcome", "quality_source")
"""Columns of few different words."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FLAGS: Final = {flag.name.lower(): flag for flag in RecordFlag if flag.name is not None}


@cache
def schema() -> pa.Schema:
    """Of every file."""
    text, instant, words = pa.string(), pa.timestamp("us", tz="UTC"), pa.map_(pa.string(), pa.string())
    vote = pa.struct(
        [
            ("fid", text), ("source", text), ("feedback", pa.int8()), ("retracted", pa.bool_()), ("comment", text),
            ("correction", text), ("quality_score", pa.float64()), ("effective", pa.bool_()), ("tags", words),
            ("created_at", instant),
        ]
    )  # fmt: skip
    types = {
        **{column.name: pa.type_for_alias(column.archive) for column in _ARCHIVED},
        **dict.fromkeys(_FLAGS, pa.bool_()),
        "id": text, "created_at": instant, "model_name": text, "target": text, "query": text, "response_text": text,
        "messages": pa.list_(pa.struct([("role", text), ("content", text)])), "request": pa.binary(),
        "response": pa.binary(), "request_headers": words, "response_headers": words, "request_sha256": text,
        "response_sha256": text, "error": text, "tags": words, "scores": pa.map_(text, pa.float64()),
        "votes": pa.list_(vote), "vote_trust": pa.list_(pa.int8()), "record_tags": words,
        "vote_external": pa.list_(pa.int64()), "vote_amends": pa.list_(pa.bool_()),
    }  # fmt: skip
    names = (*_PLACES, *(name for name in types if name not in _PLACES))
    columns = [pa.field(name, types[name], nullable=name not in ("id", "created_at")) for name in names]
    return pa.schema(columns, metadata={"ratchet_archive": "1"})


def to_row(view: RecordView) -> dict[str, Any]:
    """The record as a row."""
    row, body = view.row, view.body
    values: dict[str, Any] = {name: getattr(row, name) for name in _PLAIN}
    values |= {name: kept.word(getattr(row, name)) for name, kept in _WORDS}
    values |= {
        "id": row.id,
        "created_at": row.created_us,
        **{name: flag in row.flags for name, flag in _FLAGS.items()},
        "scores": list(view.scores.items()),
        "votes": [_vote_to_row(vote) for vote in view.votes],
        "vote_trust": [int(vote.trust) for vote in view.votes],
        "vote_external": [vote.external for vote in view.votes],
        "vote_amends": [vote.amends for vote in view.votes],
        "record_tags": None if row.tags is None else list(row.tags.items()),
    }
    if body is not None:
        values |= {name: getattr(body, name) for name in _OF_BODY}
        values |= {name: list(getattr(body, name).items()) for name in _MAPS}
        values["messages"] = [dict(message) for message in body.messages]
    return values


def from_row(row: Mapping[str, Any]) -> RecordView:
    """The inverse of `to_row`, from a row of any archived file."""
    body = _body(row) if row["target"] is not None else None
    flags = RecordFlag.NONE
    for name, flag in _FLAGS.items():
        flags |= flag if row.get(name) else RecordFlag.NONE
    given: dict[str, Any] = {name: row.get(name) for name in _PLAIN}
    given |= {name: kept.of_word(row[name]) for name, kept in _WORDS}
    given["outcome"] = given["outcome"].with_status(row["status"])
    facts = RecordRow(
        id=row["id"],
        created_us=id_time_us(row["id"]),
        flags=flags,
        tags=dict(row["record_tags"]) if row.get("record_tags") else None,
        query=row["query"],
        response_text=row["response_text"],
        **given,
    )
    n = len(row["votes"])
    trusted = map(BallotTrust, row.get("vote_trust") or [FULL_TRUST] * n)
    external, amends = (
        row.get(name) or [missing] * n for name, missing in (("vote_external", None), ("vote_amends", False))
    )
    each = zip(row["votes"], trusted, external, amends, strict=True)
    votes = tuple(_vote_from_row(vote, trust=trust, external=ext, amends=am) for vote, trust, ext, am in each)
    return RecordView(row=facts, body=body, votes=votes, scores=dict(row["scores"]))


def weight(view: RecordView) -> int:
    """About how many bytes the record takes before compression."""
    body = view.body
    if body is None:
        return 500
    texts = (body.query, body.response_text, *(text for message in body.messages for text in message.values()))
    return 500 + len(body.request) + len(body.response) + sum(len(text) for text in texts if text)


def _body(row: Mapping[str, Any]) -> BodyPayload:
    facts = {name: row[name] for name in _OF_BODY} | {name: dict(row[name]) for name in _MAPS}
    return BodyPayload(method=row["method"], messages=tuple(row["messages"]), **facts)


def _vote_to_row(vote: VoteView) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(vote, name) for name in _OF_VOTE}
    return values | {"tags": list(vote.tags.items()), "created_at": vote.created_us}


def _vote_from_row(row: Mapping[str, Any], **beside: Any) -> VoteView:
    """`beside`: what stands in columns of their own, which came later."""
    created_us = (row["created_at"] - _EPOCH) // _MICROSECOND
    given = {name: row[name] for name in _OF_VOTE}
    return VoteView(tags=dict(row["tags"]), created_us=created_us, **beside, **given)
