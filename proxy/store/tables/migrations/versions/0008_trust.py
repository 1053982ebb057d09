"""How far a vote was believed: whether it came with the feedback token, and what of it counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column. What was voted before counts on as it has been counted, for all that it says (15)."""
    op.add_column("feedback", sa.Column("trust", sa.SmallInteger(), nullable=False, server_default="15"))
