"""What replicas tell each other through the database (PostgreSQL's NOTIFY), to be quicker than the poll beneath.

A notification leaves with the commit of what it tells of. It carries nothing: who hears it looks for itself, so a lost
one costs a few seconds and nothing else.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["CHANNELS", "COMMANDS", "STATE", "notify"]

STATE: Final = "ratchet_state"
"""The loop has changed its state: routes may be others."""
COMMANDS: Final = "ratchet_commands"
"""A person has asked the loop for something."""
CHANNELS: Final = (STATE, COMMANDS)


async def notify(connection: AsyncConnection, channel: str) -> None:
    """Tell everybody who listens, once this transaction is committed. SQLite has one controller and nobody to tell."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text("SELECT pg_notify(:channel, '')"), {"channel": channel})
