"""Corrections are counted by an index of their own: few votes bring one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `ix_feedback_corrected`."""
    corrected = sa.text("correction IS NOT NULL")
    op.create_index(
        "ix_feedback_corrected", "feedback", ["created_us"], sqlite_where=corrected, postgresql_where=corrected
    )
