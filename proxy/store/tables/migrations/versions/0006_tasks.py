"""How many of the requests were chat UIs' own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a sum; what was recorded before has none."""
    op.add_column("traffic", sa.Column("tasks", sa.BigInteger(), nullable=False, server_default="0"))
