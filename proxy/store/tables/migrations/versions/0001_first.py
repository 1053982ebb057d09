"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.store.tables.types import BigKey, Code, RecordId, Words

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "aliases",
        sa.Column("hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", RecordId(), nullable=False),
        sa.PrimaryKeyConstraint("hash", "id", name="pk_aliases"),
        postgresql_partition_by="RANGE (id)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "arm_stats",
        sa.Column("experiment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("moments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", "arm", name="pk_arm_stats"),
    )
    op.create_table(
        "bodies",
        sa.Column("block", BigKey, autoincrement=False, nullable=False),
        sa.Column("dictionary_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("block", name="pk_bodies"),
        postgresql_partition_by="RANGE (block)",
    )
    op.create_table(
        "commands",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
    )
    op.create_index(
        "ix_commands_pending",
        "commands",
        ["id"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "configs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_configs"),
        sa.UniqueConstraint("fingerprint", name="uq_configs_fingerprint"),
    )
    op.create_table(
        "deleted_users",
        sa.Column("user_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("user_hash", name="pk_deleted_users"),
    )
    op.create_table(
        "dictionaries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dictionaries"),
    )
    op.create_table(
        "durations",
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bin", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("step_s", "at_s", "arm", "model_id", "bin", name="pk_durations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("champion_model_id", sa.Integer(), nullable=False),
        sa.Column("challenger_model_id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("epoch_started_us", sa.BigInteger(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
        sa.Column("verdict", sa.Text()),
        sa.Column("frozen", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
    )
    op.create_table(
        "feedback",
        sa.Column("fid", RecordId(), nullable=False),
        sa.Column("record_id", RecordId()),
        sa.Column("alias_hash", sa.BigInteger()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("feedback", sa.SmallInteger()),
        sa.Column("retracted", sa.Boolean(), nullable=False),
        sa.Column("joined", sa.Boolean(), nullable=False),
        sa.Column("quality_score", sa.Double()),
        sa.Column("source", Words(), nullable=False),
        sa.Column("comment", Words()),
        sa.Column("correction", Words()),
        sa.Column("tags", sa.JSON()),
        sa.PrimaryKeyConstraint("fid", name="pk_feedback"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_feedback_parked",
        "feedback",
        ["alias_hash", "record_id"],
        sqlite_where=sa.text("joined IS 0"),
        postgresql_where=sa.text("joined IS false"),
    )
    op.create_index("ix_feedback_record", "feedback", ["record_id"])
    op.create_table(
        "journal",
        sa.Column("seq", BigKey, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("experiment_id", sa.Integer()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.JSON()),
        sa.Column("finished_us", sa.BigInteger()),
        sa.Column("config_id", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_journal"),
    )
    op.create_index("ix_journal_at_us", "journal", ["at_us"])
    op.create_index(
        "ix_journal_unfinished",
        "journal",
        ["seq"],
        sqlite_where=sa.text("state = 'intent'"),
        postgresql_where=sa.text("state = 'intent'"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "looks",
        sa.Column("experiment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("assessment", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "at_us", name="pk_looks"),
    )
    op.create_table(
        "loop_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_loop_state"),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("url", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("credential", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("retired_us", sa.BigInteger()),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "quality_hours",
        sa.Column("at_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bin", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at_s", "bin", name="pk_quality_hours"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "records",
        sa.Column("id", RecordId(), nullable=False),
        sa.Column("user_hash", sa.BigInteger()),
        sa.Column("body", sa.BigInteger()),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("upstream_us", sa.BigInteger(), nullable=False),
        sa.Column("ttfb_us", sa.BigInteger()),
        sa.Column("own_us", sa.BigInteger(), nullable=False),
        sa.Column("request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("response_bytes", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.Double()),
        sa.Column("feedback", sa.Double()),
        sa.Column("prompt_tokens", sa.Integer()),
        sa.Column("completion_tokens", sa.Integer()),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.Integer()),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("config_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.Column("arm", sa.SmallInteger(), nullable=False),
        sa.Column("served_by", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("key_source", sa.SmallInteger(), nullable=False),
        sa.Column(
            "kind",
            Code("chat", "completions", "responses", "embeddings", "messages", "ollama", "kserve", "json", "other"),
            nullable=False,
        ),
        sa.Column("method", Code("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"), nullable=False),
        sa.Column("quality_source", Code("heuristic", "pointer", "feedback", "judge")),
        sa.PrimaryKeyConstraint("id", name="pk_records"),
        postgresql_partition_by="RANGE (id)",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_records_user",
        "records",
        ["user_hash", "id"],
        sqlite_where=sa.text("user_hash IS NOT NULL"),
        postgresql_where=sa.text("user_hash IS NOT NULL"),
    )
    op.create_index(
        "ix_records_voted",
        "records",
        ["id"],
        sqlite_where=sa.text("feedback IS NOT NULL"),
        postgresql_where=sa.text("feedback IS NOT NULL"),
    )
    op.create_index(
        "ix_records_wrong",
        "records",
        ["id"],
        sqlite_where=sa.text("status >= 400 OR outcome != 0"),
        postgresql_where=sa.text("status >= 400 OR outcome != 0"),
    )
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_table(
        "run_users",
        sa.Column("user_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_hash", "run_id", name="pk_run_users"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
        sa.Column("manifest", sa.JSON()),
        sa.Column("trainer", sa.Text(), nullable=False),
        sa.Column("handle", sa.JSON()),
        sa.Column("result", sa.JSON()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "scores",
        sa.Column("record_id", RecordId(), nullable=False),
        sa.Column("scorer", Words(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "scorer", name="pk_scores"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spool_positions",
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name="pk_spool_positions"),
    )
    op.create_table(
        "traffic",
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status_class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("fallbacks", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("voted", sa.BigInteger(), nullable=False),
        sa.Column("positive", sa.BigInteger(), nullable=False),
        sa.Column("negative", sa.BigInteger(), nullable=False),
        sa.Column("neutral", sa.BigInteger(), nullable=False),
        sa.Column("scored", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("step_s", "at_s", "arm", "model_id", "status_class", "outcome", name="pk_traffic"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "user_stats",
        sa.Column("experiment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("user_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n_quality", sa.Double(), nullable=False),
        sa.Column("s_quality", sa.Double(), nullable=False),
        sa.Column("n_positive", sa.Double(), nullable=False),
        sa.Column("s_positive", sa.Double(), nullable=False),
        sa.Column("n_latency", sa.Double(), nullable=False),
        sa.Column("s_latency", sa.Double(), nullable=False),
        sa.Column("n_error", sa.Double(), nullable=False),
        sa.Column("s_error", sa.Double(), nullable=False),
        sa.Column("n_slow", sa.Double(), nullable=False),
        sa.Column("s_slow", sa.Double(), nullable=False),
        sa.Column("n_voted", sa.Double(), nullable=False),
        sa.Column("s_voted", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", "arm", "user_key", name="pk_user_stats"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE bodies ALTER COLUMN data SET STORAGE EXTERNAL")  # compressed already
