"""The loop's state has a value for its phase and one for its ledger.

No table changes: `proxy.loop.state` reads the flat state of before, and the next tick writes the new one. But a version
of before cannot read that, and its loop would fail at every tick: this revision has it say so when it starts.
"""

from __future__ import annotations

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing."""
