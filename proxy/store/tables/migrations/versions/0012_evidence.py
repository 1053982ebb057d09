"""What else is known of an answer, and summed for each user: the judge's score, how the answer behaves, and its tags.

Sums by tag have tables of their own, so that a record without tags costs nothing more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEW = ("given", "judge", "judge_voted", "length", "declined", "malformed", "truncated", "language")
_ALL = ("quality", "positive", "latency", "error", "slow", "voted", "refused", *_NEW)


def _key() -> list[sa.Column[int]]:
    return [
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.SmallInteger(), nullable=False),
    ]


def upgrade() -> None:
    """Add columns and two tables. Of what was recorded before, nothing of this was observed."""
    op.add_column("records", sa.Column("judged", sa.Double()))
    op.add_column("records", sa.Column("answer_chars", sa.Integer()))
    op.add_column("records", sa.Column("behaviour", sa.SmallInteger()))
    op.add_column("records", sa.Column("tags", sa.JSON(none_as_null=True)))
    for name in (f"{part}_{metric}" for metric in _NEW for part in ("n", "s")):
        op.add_column("user_stats", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "tag_users",
        *_key(),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("user_key", sa.BigInteger(), nullable=False),
        *(sa.Column(f"{part}_{metric}", sa.Double(), nullable=False) for metric in _ALL for part in ("n", "s")),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", "arm", "tag", "user_key", name="pk_tag_users"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tag_users_user_key", "tag_users", ["user_key"])
    op.create_table(
        "tag_arms",
        *_key(),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("moments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", "arm", "tag", name="pk_tag_arms"),
    )
