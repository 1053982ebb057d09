"""What lets a test decide sooner: what users show without voting, votes on whole conversations, and each user's past.

`arm_stats.past` is written only where an experiment adjusts by the users' past (`ab_test_config.cuped`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.store.tables.types import RecordId

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_NEW = ("conversation", "regenerated", "rephrased", "retried", "abandoned", "copied")
_PAST = ("quality", "positive", "latency")


def upgrade() -> None:
    """Add columns and two tables. Of what was recorded before, nothing of this was observed."""
    for table in ("user_stats", "tag_users"):
        for name in (f"{part}_{metric}" for metric in _NEW for part in ("n", "s")):
            op.add_column(table, sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    op.add_column("arm_stats", sa.Column("past", sa.LargeBinary()))
    op.add_column("records", sa.Column("signals", sa.SmallInteger()))
    for name in ("prompt_key", "answers_key", "thread_key"):
        op.add_column("records", sa.Column(name, sa.BigInteger()))
        known = sa.text(f"{name} IS NOT NULL")
        columns = ["user_hash", name, "id"]
        op.create_index(f"ix_records_{name}", "records", columns, sqlite_where=known, postgresql_where=known)
    op.add_column("feedback", sa.Column("whole", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in ("conversation", "user_hash"):
        op.add_column("feedback", sa.Column(name, sa.BigInteger()))
    named = sa.text("user_hash IS NOT NULL")
    op.create_index("ix_feedback_named", "feedback", ["user_hash"], sqlite_where=named, postgresql_where=named)
    op.add_column("feedback", sa.Column("copied", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "user_past",
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("user_key", sa.BigInteger(), nullable=False),
        *(sa.Column(f"{part}_{metric}", sa.Double(), nullable=False) for metric in _PAST for part in ("n", "s")),
        sa.PrimaryKeyConstraint("experiment_id", "user_key", name="pk_user_past"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_user_past_user_key", "user_past", ["user_key"])
    op.create_table(
        "conversation_votes",
        sa.Column("user_hash", sa.BigInteger(), nullable=False),
        sa.Column("conversation", sa.BigInteger(), nullable=False),
        sa.Column("fid", RecordId(), nullable=False),
        sa.Column("value", sa.SmallInteger()),
        sa.Column("record_id", RecordId()),
        sa.Column("mixed", sa.Boolean(), nullable=False),
        sa.Column("experiment_id", sa.Integer()),
        sa.Column("epoch", sa.Integer()),
        sa.Column("arm", sa.SmallInteger()),
        sa.Column("unit", sa.BigInteger()),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("user_hash", "conversation", name="pk_conversation_votes"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_conversation_votes_place", "conversation_votes", ["experiment_id", "epoch"])
