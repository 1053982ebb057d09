"""Control verbs on their way to the loop: `promote`, `rollback`, `pause`, …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.credentials import Credential
from proxy.store.control.credentials import keep
from proxy.store.engine.channels import COMMANDS, notify
from proxy.store.engine.database import Database
from proxy.store.tables.control import CommandRow, CommandState
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import commands

__all__ = ["Commands"]


class Commands:
    """The `commands` table. The loop settles them through `Journal.transition`."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def submit(
        self,
        verb: str,
        *,
        who: str,
        why: str,
        args: Mapping[str, Any] | None = None,
        key: Credential | None = None,
    ) -> CommandRow:
        """Leave a verb for the loop. A `key` that comes with it is kept in the same transaction; the argument
        `credential` is its name."""
        row: dict[str, Any] = {
            "at_us": int(self._clock.now() * 1e6),
            "verb": verb,
            "args": dict(args or {}),
            "who": who,
            "why": why,
            "state": CommandState.PENDING.value,
            "detail": None,
        }
        async with self._db.write() as connection:
            if key is not None:
                row["args"]["credential"] = await keep(connection, key)
            made = await connection.execute(sa.insert(commands).values(row).returning(commands))
            await notify(connection, COMMANDS)
            return to_value(CommandRow, made.one())

    async def pending(self) -> list[CommandRow]:
        """Oldest first."""
        query = sa.select(commands).where(commands.c.state == "pending").order_by(commands.c.id)
        async with self._db.read() as connection:
            return [to_value(CommandRow, row) for row in await connection.execute(query)]

    async def get(self, command_id: int) -> CommandRow | None:
        """By id: what became of it."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(commands).where(commands.c.id == command_id))).first()
        return to_value(CommandRow, row) if row is not None else None
