"""What is known of a challenger before users see it: checks, the answers they compare, people's preferences, and what a
judge said of records; and what is rewritten in a request on its way to a model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.store.tables.types import RecordId, Words

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and four tables."""
    op.add_column("models", sa.Column("rewrite", sa.JSON(none_as_null=True)))
    op.create_table(
        "checks",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("challenger_id", sa.Integer(), nullable=False),
        sa.Column("champion_id", sa.Integer(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
        sa.Column("verdict", sa.Text()),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
    )
    op.create_table(
        "comparisons",
        sa.Column("check_id", sa.Integer(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("record_id", RecordId()),
        sa.Column("user_hash", sa.BigInteger()),
        sa.Column("tags", sa.JSON(none_as_null=True)),
        sa.Column("outcome", sa.Double()),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("check_id", "item", name="pk_comparisons"),
    )
    op.create_index("ix_comparisons_user_hash", "comparisons", ["user_hash"])
    op.create_index("ix_comparisons_created_us", "comparisons", ["created_us"])
    op.create_index("ix_comparisons_outcome", "comparisons", ["check_id", "outcome", "item"])
    op.create_table(
        "preferences",
        sa.Column("check_id", sa.Integer(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("who", Words(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("check_id", "item", "who", name="pk_preferences"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "judgements",
        sa.Column("record_id", RecordId(), nullable=False),
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("asked_us", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("reason", Words()),
        sa.PrimaryKeyConstraint("record_id", "scorer", name="pk_judgements"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_judgements_asked_us", "judgements", ["asked_us"])
