"""How many frames a spool's position stands for, and when it was written.

So a database that goes back can be told how much it lacks, also where the spool has that no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns. Frames are counted from here on."""
    op.add_column("spool_positions", sa.Column("frames", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("spool_positions", sa.Column("at_us", sa.BigInteger(), nullable=False, server_default="0"))
