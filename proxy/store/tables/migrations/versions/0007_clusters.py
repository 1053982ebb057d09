"""Who vouches for a user's name: the cluster of each record, and how many users and clusters an arm's evidence has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and a table. What was recorded before has no cluster, and its users are believed as they were."""
    op.add_column("records", sa.Column("cluster", sa.BigInteger()))
    for name in ("claimed_users", "clusters"):
        op.add_column("arm_stats", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("user_stats", sa.Column("claimed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "claimed_users",
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.SmallInteger(), nullable=False),
        sa.Column("user_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "epoch", "arm", "user_key", name="pk_claimed_users"),
        sqlite_with_rowid=False,
    )
