"""What goes into the store (`incoming`) and what comes out of it (`views`), under one name: no behaviour, no SQL.

Instants are Unix microseconds (UTC) in fields ending `_us`, as are durations; a record's id is the 32 hex
digits of its UUIDv7, so it carries its own time (`proxy.store.tables.keys`). `None` means unknown, never zero.
"""

from __future__ import annotations

from proxy.store.tables.incoming import (
    FLAGS,
    NO_POSITION,
    Applied,
    BodyPayload,
    IngestBatch,
    JoinedVote,
    NewAnswer,
    NewRecord,
    NewVote,
    OutsideVote,
    RecordFlag,
    SpoolPosition,
)
from proxy.store.tables.views import (
    Deleted,
    Page,
    Pruned,
    RecordFilter,
    RecordRow,
    RecordView,
    StoreSize,
    TrafficPoint,
    TrafficTotals,
    VoteCounts,
    VoteView,
)

__all__ = [
    "FLAGS",
    "NO_POSITION",
    "Applied",
    "BodyPayload",
    "Deleted",
    "IngestBatch",
    "JoinedVote",
    "NewAnswer",
    "NewRecord",
    "NewVote",
    "OutsideVote",
    "Page",
    "Pruned",
    "RecordFilter",
    "RecordFlag",
    "RecordRow",
    "RecordView",
    "SpoolPosition",
    "StoreSize",
    "TrafficPoint",
    "TrafficTotals",
    "VoteCounts",
    "VoteView",
]
