"""Tables of the loop and of what runs it: models, checks, experiments, runs, the journal, leases, spools, replicas."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, Table, Text

from proxy.store.tables.metadata import NO_ROWID, metadata
from proxy.store.tables.types import BigKey, RecordId, Words

__all__ = [
    "checks",
    "commands",
    "comparisons",
    "configs",
    "experiments",
    "journal",
    "judgements",
    "leases",
    "looks",
    "loop_state",
    "models",
    "preferences",
    "replicas",
    "run_users",
    "runs",
    "secrets",
    "spool_positions",
]

configs: Final = Table(
    "configs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("content", sa.JSON, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
models: Final = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("path", Text),
    Column("url", Text),
    Column("model", Text),
    Column("credential", Text),
    Column("rewrite", sa.JSON(none_as_null=True)),
    Column("state", Text, nullable=False),
    Column("run_id", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("retired_us", BigInteger),
    Column("detail", sa.JSON, nullable=False),
)
checks: Final = Table(
    "checks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("challenger_id", Integer, nullable=False),
    Column("champion_id", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("verdict", Text),
    Column("terms", sa.JSON, nullable=False),
    Column("summary", sa.JSON, nullable=False),
)
comparisons: Final = Table(
    "comparisons",
    metadata,
    Column("check_id", Integer, primary_key=True, autoincrement=False),
    Column("item", Text, primary_key=True),
    Column("record_id", RecordId),
    Column("user_hash", BigInteger, index=True),
    Column("tags", sa.JSON(none_as_null=True)),
    Column("outcome", Double),
    Column("facts", sa.JSON, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
)
Index("ix_comparisons_outcome", comparisons.c.check_id, comparisons.c.outcome, comparisons.c.item)
preferences: Final = Table(
    "preferences",
    metadata,
    Column("check_id", Integer, primary_key=True, autoincrement=False),
    Column("item", Text, primary_key=True),
    Column("who", Words, primary_key=True),
    Column("choice", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    **NO_ROWID,
)
judgements: Final = Table(
    "judgements",
    metadata,
    Column("record_id", RecordId, primary_key=True),
    Column("scorer", Text, primary_key=True),
    Column("asked_us", BigInteger, nullable=False, index=True),
    Column("score", Double),
    Column("tokens", Integer, nullable=False),
    Column("reason", Words),
    **NO_ROWID,
)
experiments: Final = Table(
    "experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("champion_model_id", Integer, nullable=False),
    Column("challenger_model_id", Integer, nullable=False),
    Column("salt", Text, nullable=False),
    Column("share", Double, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("epoch_started_us", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("verdict", Text),
    Column("frozen", sa.JSON, nullable=False),
    Column("state", sa.JSON, nullable=False),
)
looks: Final = Table(
    "looks",
    metadata,
    Column("experiment_id", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("assessment", sa.JSON, nullable=False),
)
runs: Final = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("manifest", sa.JSON(none_as_null=True)),
    Column("trainer", Text, nullable=False),
    Column("handle", sa.JSON(none_as_null=True)),
    Column("result", sa.JSON(none_as_null=True)),
    Column("error", Text),
)
run_users: Final = Table(
    "run_users",
    metadata,
    Column("user_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", Text, primary_key=True),
    **NO_ROWID,
)
journal: Final = Table(
    "journal",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("run_id", Text),
    Column("experiment_id", Integer),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("inputs", sa.JSON, nullable=False),
    Column("outcome", sa.JSON(none_as_null=True)),
    Column("finished_us", BigInteger),
    Column("config_id", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
)
_unfinished = journal.c.state == "intent"
Index("ix_journal_unfinished", journal.c.seq, sqlite_where=_unfinished, postgresql_where=_unfinished)
loop_state: Final = Table(
    "loop_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", sa.JSON, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)
leases: Final = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("detail", sa.JSON, nullable=False),
)
commands: Final = Table(
    "commands",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("verb", Text, nullable=False),
    Column("args", sa.JSON, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Text),
)
_pending = commands.c.state == "pending"
Index("ix_commands_pending", commands.c.id, sqlite_where=_pending, postgresql_where=_pending)
spool_positions: Final = Table(
    "spool_positions",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False, server_default="0"),
    Column("at_us", BigInteger, nullable=False, server_default="0"),
)
replicas: Final = Table(
    "replicas",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("detail", sa.JSON, nullable=False),
)
secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", sa.JSON, nullable=False),
)
