"""Who was deleted, and what each host has done about it: how replicas hear of a deletion, and answer.

A deletion is announced by a row: the user's keyed hash and the instant up to which everything goes. Records from before
it are refused from then on, whoever brings them in. Every host that shares the store has places of its own (spool,
training folders); it looks for announcements that it has not answered, clears its places, and leaves a report in the
row. So a host that is away does its part when it is back, and a command that was killed is repeated without harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.database import Database
from proxy.store.engine.dialect import for_update, upsert
from proxy.store.tables.schema import deleted_users, models, run_users

__all__ = ["Announced", "Forgotten", "HostReport", "PlaceReport", "announce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReport:
    """What became of a user in one place."""

    place: str
    found: int = 0
    removed: int = 0
    """Of what was found; less than that where some remains."""
    remains: str = ""
    """What is still there, and why."""
    failed: bool = False
    """Whether the place could not be reached, or not be cleared to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """One host's answer to a deletion."""

    id: str
    host: str
    at_us: int
    """The instant of the deletion that it answers."""
    places: tuple[PlaceReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A deletion, as it was announced."""

    user_hash: int
    at_us: int
    """Everything of the user up to here goes."""
    models: tuple[str, ...]
    """Models that were trained on the user's data."""
    runs: tuple[str, ...]
    """Trainings whose data had the user's."""
    hosts: Mapping[str, HostReport]
    """By a host's id (`proxy.app.heartbeat`), its last answer."""

    @property
    def answered_by(self) -> set[str]:
        """Hosts that have done their part of this very deletion."""
        return {name for name, report in self.hosts.items() if report.at_us >= self.at_us}


class Forgotten:
    """The `deleted_users` table, as hosts use it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def newest(self) -> tuple[int, int]:
        """How many deletions there are, and the instant of the last: changes with each, and is quick to ask for."""
        query = sa.select(sa.func.count(), sa.func.max(deleted_users.c.at_us)).select_from(deleted_users)
        async with self._db.read() as connection:
            count, last = (await connection.execute(query)).one()
        return int(count), int(last or 0)

    async def all(self, user_hashes: Sequence[int] | None = None) -> list[Announced]:
        """Deletions, of all users or of these, oldest first."""
        query = sa.select(deleted_users).order_by(deleted_users.c.at_us)
        if user_hashes is not None:
            query = query.where(deleted_users.c.user_hash.in_(user_hashes))
        async with self._db.read() as connection:
            return [_announced(row) for row in await connection.execute(query)]

    async def report(self, answered: Iterable[Announced], report: HostReport) -> None:
        """Leave a host's report in each of these deletions; one that has been announced again stays unanswered."""
        for each in answered:
            async with self._db.write() as connection:
                where = deleted_users.c.user_hash == each.user_hash
                row = (await connection.execute(for_update(connection, sa.select(deleted_users).where(where)))).first()
                if row is None:
                    continue
                said = {**asdict(report), "at_us": each.at_us}
                hosts = {**row.detail.get("hosts", {}), report.id: said}
                detail = {**row.detail, "hosts": hosts}
                await connection.execute(sa.update(deleted_users).where(where).values(detail=detail))


async def announce(connection: AsyncConnection, now_us: int, user_hash: int) -> Announced:
    """Write the name down, and which runs and models had the user's data. Again: from now on anew."""
    query = sa.select(deleted_users.c.detail).where(deleted_users.c.user_hash == user_hash)
    earlier: Any = await connection.scalar(query) or {}
    last = await connection.scalar(sa.select(sa.func.max(deleted_users.c.at_us)))
    trained = sa.select(run_users.c.run_id).where(run_users.c.user_hash == user_hash)
    runs = {*earlier.get("runs", ()), *await connection.scalars(trained)}
    named = sa.select(models.c.name).where(models.c.run_id.in_(runs))
    names = {*earlier.get("models", ()), *await connection.scalars(named)}
    detail = {**earlier, "models": sorted(names), "runs": sorted(runs)}
    at_us = max(now_us, (last or 0) + 1)  # later than any other: the archive goes by that
    row = {"user_hash": user_hash, "at_us": at_us, "detail": detail}
    await upsert(connection, deleted_users, [row])
    await connection.execute(sa.delete(run_users).where(run_users.c.user_hash == user_hash))
    return Announced(
        user_hash=user_hash, at_us=at_us, models=tuple(detail["models"]), runs=tuple(detail["runs"]), hosts={}
    )


def _announced(row: Any) -> Announced:
    hosts = row.detail.get("hosts", {})
    return Announced(
        user_hash=row.user_hash,
        at_us=row.at_us,
        models=tuple(row.detail.get("models", ())),
        runs=tuple(row.detail.get("runs", ())),
        hosts={name: _report(said) for name, said in hosts.items()},
    )


def _report(said: Mapping[str, Any]) -> HostReport:
    places = tuple(PlaceReport(**place) for place in said["places"])
    return HostReport(id=said["id"], host=said["host"], at_us=said["at_us"], places=places)
