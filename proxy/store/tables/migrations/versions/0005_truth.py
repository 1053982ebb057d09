"""Time to first token, conversations, cached and reasoning tokens of records; refusals of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and an index over what is new: what was recorded before says nothing of it, and stays readable."""
    for name in ("ttft_us", "conversation"):
        op.add_column("records", sa.Column(name, sa.BigInteger()))
    for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        op.add_column("records", sa.Column(name, sa.Integer()))
    for name in ("n_refused", "s_refused"):
        op.add_column("user_stats", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    op.create_index(
        "ix_records_conversation",
        "records",
        ["conversation", "id"],
        sqlite_where=sa.text("conversation IS NOT NULL"),
        postgresql_where=sa.text("conversation IS NOT NULL"),
    )
