"""Votes that another system's client changes and takes back by an id of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns. Earlier votes have no such id."""
    op.add_column("feedback", sa.Column("external", sa.BigInteger()))
    op.add_column("feedback", sa.Column("amends", sa.Boolean(), nullable=False, server_default=sa.false()))
    known = sa.text("external IS NOT NULL")
    op.create_index("ix_feedback_external", "feedback", ["external"], sqlite_where=known, postgresql_where=known)
