"""What was fetched of votes that live in another system: which, as of when, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from proxy.store.tables.types import RecordId, Words

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "outside_votes",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("changed_s", sa.BigInteger(), nullable=False),
        sa.Column("fid", RecordId(), nullable=False),
        sa.Column("alias", Words()),
        sa.PrimaryKeyConstraint("system", "id", name="pk_outside_votes"),
        sqlite_with_rowid=False,
    )
