"""Several names of one record: votes that give them wait for any of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "vote_names",
        sa.Column("hash", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", "place", name="pk_vote_names"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_vote_names_name", "vote_names", ["name"])
