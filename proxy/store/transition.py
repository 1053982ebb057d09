"""One action's outcome, written whole: journal, phase, models, experiments, runs, looks and commands, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.channels import STATE, notify
from proxy.store.control import JournalState, Transition
from proxy.store.dialect import upsert
from proxy.store.engine import Database
from proxy.store.leases import guard
from proxy.store.rows import Value, to_row
from proxy.store.schema import commands, experiments, journal, looks, loop_state, models, runs

__all__ = ["transition"]


async def transition(db: Database, clock: Clock, change: Transition) -> None:
    """Write `change`. Raises PermanentError where the lease has moved on: then nothing was written."""
    now_us = int(clock.now() * 1e6)
    written: tuple[tuple[sa.Table, Sequence[Value]], ...] = (
        (models, change.models),
        (runs, change.runs),
        (experiments, change.experiments),
        (looks, change.looks),
        (commands, change.commands),
    )
    async with db.write() as connection:
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
