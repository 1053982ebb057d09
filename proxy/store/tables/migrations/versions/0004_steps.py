"""Durations by ten minutes, for charts of a day; an index of the votes that wait, to look at some at a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Sum up the minutes that are kept, and create `ix_feedback_waiting`."""
    op.execute(
        "INSERT INTO durations (step_s, at_s, arm, model_id, bin, n) "
        "SELECT 600, at_s - at_s % 600, arm, model_id, bin, sum(n) FROM durations WHERE step_s = 60 "
        "GROUP BY at_s - at_s % 600, arm, model_id, bin ON CONFLICT DO NOTHING"
    )
    op.create_index(
        "ix_feedback_waiting",
        "feedback",
        ["fid"],
        sqlite_where=sa.text("joined IS 0"),
        postgresql_where=sa.text("joined IS false"),
    )
