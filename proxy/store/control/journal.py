"""The journal: every action is written down before it is begun, with its inputs, and again when it has ended.

An action's outcome is written whole by `transition`: journal, state, rows and commands in one transaction, or nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.control.leases import guard
from proxy.store.engine.channels import STATE, notify
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import upsert
from proxy.store.tables.control import JournalEntry, JournalState, LoopTransaction
from proxy.store.tables.rows import Value, to_row, to_value
from proxy.store.tables.schema import checks, commands, experiments, journal, looks, loop_state, models, runs

__all__ = ["Journal"]


class Journal:
    """The `journal` table. Entries are finished by `transition`."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def intend(
        self,
        action: str,
        *,
        fence: int,
        who: str,
        why: str,
        inputs: Mapping[str, Any],
        run_id: str | None = None,
        experiment_id: int | None = None,
        config_id: int = 0,
        lease: str = "loop",
    ) -> JournalEntry:
        """Write an intent. Raises PermanentError where the lease has moved on."""
        row = {
            "at_us": int(self._clock.now() * 1e6),
            "action": action,
            "state": JournalState.INTENT.value,
            "run_id": run_id,
            "experiment_id": experiment_id,
            "who": who,
            "why": why,
            "inputs": dict(inputs),
            "outcome": None,
            "finished_us": None,
            "config_id": config_id,
            "fence": fence,
        }
        async with self._db.write() as connection:
            await guard(connection, lease, fence)
            made = await connection.execute(sa.insert(journal).values(row).returning(journal))
            return to_value(JournalEntry, made.one())

    async def unfinished(self) -> list[JournalEntry]:
        """Intents without an outcome, oldest first."""
        return await self._list(sa.select(journal).where(journal.c.state == "intent").order_by(journal.c.seq))

    async def get(self, seq: int) -> JournalEntry | None:
        """By sequence number."""
        found = await self._list(sa.select(journal).where(journal.c.seq == seq))
        return found[0] if found else None

    async def recent(self, *, before_seq: int | None = None, limit: int = 50) -> list[JournalEntry]:
        """Newest first."""
        query = sa.select(journal).order_by(journal.c.seq.desc()).limit(limit)
        return await self._list(query.where(journal.c.seq < before_seq) if before_seq is not None else query)

    async def done(self, since_us: int, until_us: int, *, page: int = 100) -> AsyncGenerator[JournalEntry]:
        """What was decided in the window and done, decisions to do nothing among it, oldest first; a page at a time,
        for each entry has its whole snapshot."""
        window = journal.c.at_us >= since_us, journal.c.at_us < until_us, journal.c.state == JournalState.DONE.value
        query = sa.select(journal).where(*window).order_by(journal.c.seq).limit(page)
        found: list[JournalEntry] | None = None
        while found is None or len(found) == page:
            found = await self._list(query if not found else query.where(journal.c.seq > found[-1].seq))
            for entry in found:
                yield entry

    async def acted(
        self, actions: Sequence[str], since_us: int, until_us: int | None = None, *, limit: int = 50
    ) -> list[JournalEntry]:
        """The first actions of these kinds that were done from an instant on, oldest first."""
        query = sa.select(journal).where(
            journal.c.at_us >= since_us, journal.c.action.in_(actions), journal.c.state == JournalState.DONE.value
        )
        if until_us is not None:
            query = query.where(journal.c.at_us <= until_us)
        return await self._list(query.order_by(journal.c.at_us, journal.c.seq).limit(limit))

    async def latest_at(self, at_us: int) -> JournalEntry | None:
        """The last entry written at or before an instant."""
        query = (
            sa.select(journal).where(journal.c.at_us <= at_us).order_by(journal.c.at_us.desc(), journal.c.seq.desc())
        )
        found = await self._list(query.limit(1))
        return found[0] if found else None

    async def last(self, action: str) -> JournalEntry | None:
        """The newest entry of this action."""
        query = sa.select(journal).where(journal.c.action == action).order_by(journal.c.seq.desc()).limit(1)
        found = await self._list(query)
        return found[0] if found else None

    async def transition(self, change: LoopTransaction) -> None:
        """Write what an action changed in one transaction. Raises PermanentError where the lease has moved on: then
        nothing was written."""
        now_us = int(self._clock.now() * 1e6)
        written: tuple[tuple[sa.Table, Sequence[Value]], ...] = (
            (models, change.models),
            (checks, change.checks),
            (runs, change.runs),
            (experiments, change.experiments),
            (looks, change.looks),
            (commands, change.commands),
        )
        async with self._db.write() as connection:
            await guard(connection, change.lease, change.fence)
            for table, values in written:
                await upsert(connection, table, [to_row(value) for value in values])
            await upsert(
                connection,
                loop_state,
                [{"name": name, "value": value, "updated_us": now_us} for name, value in change.state.items()],
            )
            if change.seq is not None:
                state = JournalState.FAILED if change.failed else JournalState.DONE
                done = {"state": state.value, "outcome": dict(change.outcome), "finished_us": now_us}
                await connection.execute(sa.update(journal).where(journal.c.seq == change.seq).values(done))
            if change.state:
                await notify(connection, STATE)

    async def _list(self, query: sa.Select[Any]) -> list[JournalEntry]:
        async with self._db.read() as connection:
            return [to_value(JournalEntry, row) for row in await connection.execute(query)]
