"""The tables: those of traffic and votes here, the loop's own in `loop_tables`. Migrations build them (a test
compares); queries are written against these.

A record's id is a UUIDv7: the key is the time, rows arrive in key order, and "older than" is a range of keys.
On PostgreSQL the three tables that grow with traffic (`records`, `bodies`, `aliases`) are partitioned by day, so that
forgetting is dropping; on SQLite those with a record's id as key have no rowid, which saves an index each. Bodies are
kept in blocks of several (`bodies.py`); a record has its block's key plus its place in it. Enumerations are kept as
their integers, instants as Unix microseconds, sums per hour and minute as whole seconds (`at_s`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, SmallInteger, Table, Text

from policies.estimates import METRICS, Metric
from policies.past import PAST
from proxy.store.tables.columns import RECORD_COLUMNS
from proxy.store.tables.loop_tables import (
    checks,
    commands,
    comparisons,
    configs,
    experiments,
    journal,
    judgements,
    leases,
    looks,
    loop_state,
    models,
    preferences,
    replicas,
    run_users,
    runs,
    secrets,
    spool_positions,
)
from proxy.store.tables.metadata import BY_DAY, NO_ROWID, metadata
from proxy.store.tables.types import BigKey, RecordId, Words

__all__ = [
    "HOUR_S",
    "MINUTE_S",
    "PARTITIONED",
    "PAST_TOTALS",
    "SUMS",
    "TEN_MINUTES_S",
    "USER_TOTALS",
    "WENT_WRONG",
    "aliases",
    "arm_stats",
    "bodies",
    "checks",
    "claimed_users",
    "commands",
    "comparisons",
    "configs",
    "conversation_votes",
    "deleted_users",
    "dictionaries",
    "durations",
    "experiments",
    "feedback",
    "journal",
    "judgements",
    "leases",
    "looks",
    "loop_state",
    "metadata",
    "models",
    "outside_votes",
    "preferences",
    "quality_hours",
    "records",
    "replicas",
    "run_users",
    "runs",
    "scores",
    "secrets",
    "spool_positions",
    "tag_arms",
    "tag_users",
    "traffic",
    "user_past",
    "user_stats",
    "vote_names",
]

HOUR_S: Final = 3600
TEN_MINUTES_S: Final = 600
MINUTE_S: Final = 60

PARTITIONED: Final = ("records", "bodies", "aliases")
"""By day, on PostgreSQL."""

records: Final = Table(
    "records",
    metadata,
    Column("id", RecordId, primary_key=True),
    Column("body", BigInteger),
    *(column.sql() for column in RECORD_COLUMNS),
    **BY_DAY,
)
_user_known = records.c.user_hash.is_not(None)
_of_conversation = records.c.conversation.is_not(None)
_voted = records.c.feedback.is_not(None)
WENT_WRONG: Final = sa.or_(records.c.status >= sa.literal_column("400"), records.c.outcome != sa.literal_column("0"))
"""As the index has it: with the numbers as parameters, PostgreSQL's generic plans would not know it again."""
Index("ix_records_user", records.c.user_hash, records.c.id, sqlite_where=_user_known, postgresql_where=_user_known)
Index(
    "ix_records_conversation",
    records.c.conversation,
    records.c.id,
    sqlite_where=_of_conversation,
    postgresql_where=_of_conversation,
)
for _name in ("prompt_key", "answers_key", "thread_key"):  # which only records of tests have
    _known = records.c[_name].is_not(None)
    _columns = (records.c.user_hash, records.c[_name], records.c.id)
    Index(f"ix_records_{_name}", *_columns, sqlite_where=_known, postgresql_where=_known)
Index("ix_records_voted", records.c.id, sqlite_where=_voted, postgresql_where=_voted)
Index("ix_records_wrong", records.c.id, sqlite_where=WENT_WRONG, postgresql_where=WENT_WRONG)

bodies: Final = Table(
    "bodies",
    metadata,
    Column("block", BigKey, primary_key=True, autoincrement=False),
    Column("dictionary_id", Integer, nullable=False),
    Column("n", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (block)",
)
dictionaries: Final = Table(
    "dictionaries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
aliases: Final = Table(
    "aliases",
    metadata,
    Column("hash", BigInteger, primary_key=True, autoincrement=False),
    Column("id", RecordId, primary_key=True),
    **BY_DAY,
)
feedback: Final = Table(
    "feedback",
    metadata,
    Column("fid", RecordId, primary_key=True),
    Column("record_id", RecordId),
    Column("alias_hash", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("feedback", SmallInteger),
    Column("retracted", Boolean, nullable=False),
    Column("joined", Boolean, nullable=False),
    Column("quality_score", Double),
    Column("source", Words, nullable=False),
    Column("comment", Words),
    Column("correction", Words),
    Column("tags", sa.JSON(none_as_null=True)),
    Column("trust", SmallInteger, nullable=False, server_default="15"),
    Column("whole", Boolean, nullable=False, server_default=sa.false()),
    Column("conversation", BigInteger),
    Column("user_hash", BigInteger),
    Column("copied", Boolean, nullable=False, server_default=sa.false()),
    Column("external", BigInteger),
    Column("amends", Boolean, nullable=False, server_default=sa.false()),
    **NO_ROWID,
)
_parked = feedback.c.joined.is_(sa.false())
_corrected = feedback.c.correction.is_not(None)
Index("ix_feedback_record", feedback.c.record_id)
Index("ix_feedback_corrected", feedback.c.created_us, sqlite_where=_corrected, postgresql_where=_corrected)
Index("ix_feedback_parked", feedback.c.alias_hash, feedback.c.record_id, sqlite_where=_parked, postgresql_where=_parked)
_named = feedback.c.user_hash.is_not(None)
Index("ix_feedback_named", feedback.c.user_hash, sqlite_where=_named, postgresql_where=_named)
_external = feedback.c.external.is_not(None)
Index("ix_feedback_external", feedback.c.external, sqlite_where=_external, postgresql_where=_external)
Index("ix_feedback_waiting", feedback.c.fid, sqlite_where=_parked, postgresql_where=_parked)
scores: Final = Table(
    "scores",
    metadata,
    Column("record_id", RecordId, primary_key=True),
    Column("scorer", Words, primary_key=True),
    Column("score", Double, nullable=False),
    **NO_ROWID,
)

USER_TOTALS: Final = tuple(f"{part}_{metric}" for metric in METRICS for part in ("n", "s"))
"""Columns of `user_stats`: count and sum of each metric."""
_LATER: Final = dict.fromkeys(USER_TOTALS[2 * METRICS.index(Metric.REFUSED) :], "0")
"""Columns that older rows do not have, and what they read there."""
_LATER_BY_TAG: Final = dict.fromkeys(USER_TOTALS[2 * METRICS.index(Metric.CONVERSATION) :], "0")
PAST_TOTALS: Final = tuple(f"{part}_{metric}" for metric in PAST for part in ("n", "s"))
"""Columns of `user_past`: count and sum of each metric of which the users' past is kept."""
user_stats: Final = Table(
    "user_stats",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Double, nullable=False, server_default=_LATER.get(name)) for name in USER_TOTALS),
    Column("claimed", Boolean, nullable=False, server_default=sa.false()),
    **NO_ROWID,
)
arm_stats: Final = Table(
    "arm_stats",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("moments", LargeBinary, nullable=False),
    Column("claimed_users", BigInteger, nullable=False, server_default="0"),
    Column("clusters", BigInteger, nullable=False, server_default="0"),
    Column("past", LargeBinary),
)
user_past: Final = Table(
    "user_past",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("user_key", BigInteger, primary_key=True, autoincrement=False, index=True),
    *(Column(name, Double, nullable=False) for name in PAST_TOTALS),
    **NO_ROWID,
)
conversation_votes: Final = Table(
    "conversation_votes",
    metadata,
    Column("user_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("conversation", BigInteger, primary_key=True, autoincrement=False),
    Column("fid", RecordId, nullable=False),
    Column("value", SmallInteger),
    Column("record_id", RecordId),
    Column("mixed", Boolean, nullable=False),
    Column("experiment_id", Integer),
    Column("epoch", Integer),
    Column("arm", SmallInteger),
    Column("unit", BigInteger),
    Column("claimed", Boolean, nullable=False),
    Column("tags", sa.JSON(none_as_null=True)),
    **NO_ROWID,
)
Index("ix_conversation_votes_place", conversation_votes.c.experiment_id, conversation_votes.c.epoch)
claimed_users: Final = Table(
    "claimed_users",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    **NO_ROWID,
)

tag_users: Final = Table(
    "tag_users",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Column("user_key", BigInteger, primary_key=True, autoincrement=False, index=True),
    *(Column(name, Double, nullable=False, server_default=_LATER_BY_TAG.get(name)) for name in USER_TOTALS),
    **NO_ROWID,
)
tag_arms: Final = Table(
    "tag_arms",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("moments", LargeBinary, nullable=False),
)

quality_hours: Final = Table(
    "quality_hours",
    metadata,
    Column("at_s", BigInteger, primary_key=True, autoincrement=False),
    Column("bin", SmallInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, nullable=False),
    **NO_ROWID,
)
SUMS: Final = (
    "n",
    "fallbacks",
    "duration_us",
    "prompt_tokens",
    "completion_tokens",
    "voted",
    "positive",
    "negative",
    "neutral",
    "scored",
)
"""Whole-number columns of `traffic`."""
traffic: Final = Table(
    "traffic",
    metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),
    Column("at_s", BigInteger, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    Column("status_class", SmallInteger, primary_key=True, autoincrement=False),
    Column("outcome", SmallInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in SUMS),
    Column("quality", Double, nullable=False),
    Column("tasks", BigInteger, nullable=False, server_default="0"),
    **NO_ROWID,
)
durations: Final = Table(
    "durations",
    metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),
    Column("at_s", BigInteger, primary_key=True, autoincrement=False),
    Column("arm", SmallInteger, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    Column("bin", SmallInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, nullable=False),
    **NO_ROWID,
)
vote_names: Final = Table(
    "vote_names",
    metadata,
    Column("hash", BigInteger, primary_key=True, autoincrement=False),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    **NO_ROWID,
)
Index("ix_vote_names_name", vote_names.c.name)
outside_votes: Final = Table(
    "outside_votes",
    metadata,
    Column("system", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("changed_s", BigInteger, nullable=False),
    Column("fid", RecordId, nullable=False),
    Column("alias", Words),
    **NO_ROWID,
)
deleted_users: Final = Table(
    "deleted_users",
    metadata,
    Column("user_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("detail", sa.JSON, nullable=False),
)
