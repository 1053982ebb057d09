"""A record as a sample, whole or from a row with the columns that samples need. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from policies.ballots import can_be_judged
from policies.records import Arm, LoggedExchange, Outcome, Sample
from proxy.store.ingest.facts import VoteSummary
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.values import BodyPayload, RecordFlag, RecordRow, RecordView

__all__ = ["SAMPLE_COLUMNS", "is_judged", "judged_of", "sample_of", "sample_of_row"]

SAMPLE_COLUMNS: Final = ("id", "user_hash", "quality", "feedback", "served_by", "body", "kind", "flags", "status",
                         "outcome", "cluster")  # fmt: skip
"""What `sample_of_row` reads of a record, and where its body is."""
_CUT: Final = int(RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE)


def sample_of(view: RecordView) -> Sample | None:
    """A whole record as a sample; None where it may not become training data, or its body is gone."""
    if view.body is None or RecordFlag.SAMPLE not in view.row.flags:
        return None
    return _whole(view.row, view.body, view.votes)


def judged_of(view: RecordView) -> Sample | None:
    """A whole record as a sample, if somebody disliked or corrected it; None also where its body is gone."""
    if view.body is None:
        return None
    sample = _whole(view.row, view.body, view.votes)
    return sample if is_judged(sample) else None


def is_judged(sample: Sample) -> bool:
    """Whether somebody disliked or corrected it."""
    return sample.correction is not None or (sample.feedback is not None and sample.feedback < 0)


def sample_of_row(row: Any, body: BodyPayload, correction: str | None) -> Sample:
    """A row with SAMPLE_COLUMNS of a record, and its model's `name`."""
    judged = (row.feedback is None and correction is None) or can_be_judged(Outcome(row.outcome), row.status)
    return Sample(
        record_id=row.id,
        created_at=id_time_us(row.id) / 1e6,
        user=row.user_hash,
        query=body.query or "",
        response=body.response_text or "",
        exchange=_exchange(row.kind, row.flags, body),
        model=row.name or "",
        arm=Arm(row.served_by),
        quality=row.quality,
        feedback=row.feedback if judged else None,
        correction=correction if judged else None,
        trainable=not row.flags & RecordFlag.NO_TRAIN,
        cluster=row.cluster if row.flags & RecordFlag.CLAIMED else None,
        tags=body.tags,
    )


def _whole(row: RecordRow, body: BodyPayload, votes: Sequence[Any]) -> Sample:
    judged = can_be_judged(row.outcome, row.status)
    return Sample(
        record_id=row.id,
        created_at=id_time_us(row.id) / 1e6,
        user=row.user_hash,
        query=body.query or "",
        response=body.response_text or "",
        exchange=_exchange(row.kind, row.flags, body),
        model=row.model_name or "",
        arm=row.served_by,
        quality=row.quality,
        feedback=row.feedback if judged else None,
        correction=VoteSummary.of(votes).correction if judged else None,
        trainable=RecordFlag.NO_TRAIN not in row.flags,
        cluster=row.cluster if RecordFlag.CLAIMED in row.flags else None,
        tags=body.tags,
    )


def _exchange(kind: str, flags: int, body: BodyPayload) -> LoggedExchange:
    return LoggedExchange(
        kind=kind,
        target=body.target,
        request=body.request,
        response=body.response,
        request_type=body.request_headers.get("content-type", ""),
        response_type=body.response_headers.get("content-type", ""),
        cut=bool(flags & _CUT),
    )
