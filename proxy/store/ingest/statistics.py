"""Per user and per arm: what the experiment's decisions are made of, kept exact by every batch.

A user's row holds counts and sums; an arm's row holds the moments of its users' weighted vectors. When a user's totals
change, the old vector leaves the arm's moments and the new one enters them, in the same transaction. The sums by tag
are kept in the same way, in tables of their own, and those of the users' past where an experiment is adjusted by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.estimates import DEFAULT_ICC, Moments, UserTotals, Vector, moments_gain
from policies.records import Arm
from proxy.store.engine.dialect import for_update, insert_new, upsert
from proxy.store.engine.kept import Given, KeptStatement
from proxy.store.ingest.deltas import Deltas, ExperimentKey, TagKey
from proxy.store.ingest.facts import Terms, Totals
from proxy.store.ingest.past import Moved, forget_past, past_after
from proxy.store.tables.schema import (
    USER_TOTALS,
    claimed_users,
    conversation_votes,
    experiments,
    feedback,
    tag_arms,
    tag_users,
    user_stats,
)
from proxy.store.tables.schema import arm_stats as arm_table

__all__ = ["count_users", "forget_user", "terms_of", "totals_of"]

_CHUNK: Final = 500


class _Books:
    """Where sums are kept: of users, and of their arms."""

    def __init__(self, users: sa.Table, arms: sa.Table, *key: str) -> None:
        """`key`: what tells one arm from another."""
        self.users: Final = users
        self.arms: Final = arms
        self.key: Final = key
        self.totals: Final = KeptStatement(self._totals)
        """Keys and totals of some users of an arm; their rows are locked."""
        self.arm: Final = KeptStatement(self._arm)
        """What is known of an arm (`written`); its row is locked."""
        self.write: Final = KeptStatement(self._write)

    @property
    def written(self) -> list[sa.Column[Any]]:
        """The columns of an arm that are no key."""
        return [column for column in self.arms.columns if column.name not in self.key]

    def _totals(self, given: Given) -> sa.Select[Any]:
        wanted = self.users.c.user_key
        columns = [wanted, *(self.users.c[name] for name in USER_TOTALS)]
        query = sa.select(*columns).where(*self._mine(given, self.users), given.among("user_keys", wanted))
        return query.order_by(wanted).with_for_update()

    def _arm(self, given: Given) -> sa.Select[Any]:
        return sa.select(*self.written).where(*self._mine(given, self.arms)).with_for_update()

    def _write(self, given: Given) -> sa.Update:
        values = {column.name: given.value(f"new_{column.name}", column) for column in self.written}
        return sa.update(self.arms).where(*self._mine(given, self.arms)).values(values)

    def _mine(self, given: Given, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        return [table.c[name] == given.value(f"key_{name}", table.c[name]) for name in self.key]

    def row_of(self, key: ExperimentKey | TagKey) -> dict[str, Any]:
        """The columns of the key."""
        return dict(zip(self.key, key, strict=True)) | {"arm": int(key[2])}

    def mine(self, key: ExperimentKey | TagKey) -> dict[str, Any]:
        """The key as the statements here are given it: under a column's own name SQLAlchemy takes a value to be set."""
        return {f"key_{name}": value for name, value in self.row_of(key).items()}

    def key_of(self, row: Any) -> Any:
        """The key, from a row of either table."""
        return tuple(Arm(row.arm) if name == "arm" else getattr(row, name) for name in self.key)


_ARMS: Final = _Books(user_stats, arm_table, "experiment_id", "epoch", "arm")
_TAGS: Final = _Books(tag_users, tag_arms, "experiment_id", "epoch", "arm", "tag")
_FROZEN: Final = KeptStatement(
    lambda given: sa.select(experiments.c.id, experiments.c.frozen).where(given.among("ids", experiments.c.id))
)
_CLAIMED: Final = KeptStatement(
    lambda given: sa.select(claimed_users.c.user_key).where(
        *(claimed_users.c[name] == given.value(name, claimed_users.c[name]) for name in _ARMS.key),
        given.among("users", claimed_users.c.user_key),
    )
)


async def terms_of(connection: AsyncConnection, experiment_ids: Iterable[int]) -> dict[int, Terms]:
    """The frozen terms of those of the experiments that exist."""
    wanted = set(experiment_ids)
    if not wanted:
        return {}
    rows = await _FROZEN.rows(connection, ids=sorted(wanted))
    return {experiment_id: Terms.of(frozen) for experiment_id, frozen in rows}


async def count_users(connection: AsyncConnection, deltas: Deltas, terms: Mapping[int, Terms]) -> None:
    """Add the users' deltas to their rows and move the arms' moments along; then the same by tag."""
    for key in sorted(deltas.users):
        mine = terms[key[0]]
        change, moved = await _count(connection, _ARMS, key, deltas.users[key], mine.icc, deltas.clusters[key])
        fresh = {unit for unit, (old, _) in moved.items() if old is None}
        clusters = len(fresh & deltas.clusters[key])
        claimed = sorted(deltas.claimed_users[key])
        await _add_to_arm(connection, key, deltas.requests[key], change, claimed=claimed, clusters=clusters,
                          moved=moved if mine.cuped else None, icc=mine.icc)  # fmt: skip
    for tag_key in sorted(deltas.tagged):
        change, _ = await _count(connection, _TAGS, tag_key, deltas.tagged[tag_key], terms[tag_key[0]].icc)
        await _add_to_tag(connection, tag_key, deltas.tag_requests[tag_key], change)


async def forget_user(connection: AsyncConnection, user_key: int) -> int:
    """Take a user out of every experiment, moments included; returns how many rows that were.

    Where the name was only claimed, the sums of its cluster stay: they say nothing of whom they are made of.
    """
    gone = 0
    for books in (_ARMS, _TAGS):
        mine = books.users.c.user_key == user_key
        query = sa.select(books.users).where(mine).order_by(*books.users.primary_key)
        rows = (await connection.execute(for_update(connection, query))).all()
        terms = await terms_of(connection, {row.experiment_id for row in rows})
        for row in rows:
            icc = terms.get(row.experiment_id, Terms()).icc
            vector = totals_of(row).vector(icc)
            change, key = Moments().replaced(vector, None), books.key_of(row)
            if books is _ARMS:
                await _add_to_arm(connection, key, 0, change, moved={user_key: (vector, None)}, icc=icc)
            else:
                await _add_to_tag(connection, key, 0, change)
        await connection.execute(sa.delete(books.users).where(mine))
        gone += len(rows)
    await forget_past(connection, user_key)
    for table in (conversation_votes, feedback):  # the vote, and all that named them and a conversation
        await connection.execute(sa.delete(table).where(table.c.user_hash == user_key))
    return gone + await _forget_claimed(connection, user_key)


async def _forget_claimed(connection: AsyncConnection, user_key: int) -> int:
    query = sa.select(claimed_users).where(claimed_users.c.user_key == user_key).order_by(*claimed_users.primary_key)
    rows = (await connection.execute(query)).all()
    for row in rows:
        mine = [arm_table.c[name] == getattr(row, name) for name in ("experiment_id", "epoch", "arm")]
        fewer = {"claimed_users": arm_table.c.claimed_users - 1}
        await connection.execute(sa.update(arm_table).where(*mine).values(fewer))
    await connection.execute(sa.delete(claimed_users).where(claimed_users.c.user_key == user_key))
    return len(rows)


async def _count(
    connection: AsyncConnection,
    books: _Books,
    key: ExperimentKey | TagKey,
    changed: Mapping[int, Totals],
    icc: float,
    clusters: frozenset[int] | set[int] = frozenset(),
) -> tuple[Moments, dict[int, tuple[Vector | None, Vector]]]:
    """What the arm's moments gain, and how the units' vectors have changed."""
    change = Moments()
    moved: dict[int, tuple[Vector | None, Vector]] = {}
    users = sorted(changed.items())
    for start in range(0, len(users), _CHUNK):
        chunk = dict(users[start : start + _CHUNK])
        gained, units = await _count_chunk(connection, books, key, chunk, clusters, icc)
        change += gained
        moved |= units
    return change, moved


async def _count_chunk(
    connection: AsyncConnection,
    books: _Books,
    key: ExperimentKey | TagKey,
    users: Mapping[int, Totals],
    clusters: frozenset[int] | set[int],
    icc: float,
) -> tuple[Moments, dict[int, tuple[Vector | None, Vector]]]:
    before = await _lock_users(connection, books, key, list(users))
    rows: list[dict[str, Any]] = []
    moved: dict[int, tuple[Vector | None, Vector]] = {}
    for user_key, (n, s) in users.items():
        old = before.get(user_key)
        more = UserTotals(n=tuple(n), s=tuple(s))
        new = old.plus(more) if old else more
        moved[user_key] = (old.vector(icc) if old else None, new.vector(icc))
        rows.append(_row(books, key, user_key, new, claimed=user_key in clusters))
    await upsert(connection, books.users, rows)
    return moments_gain(moved.values()), moved


async def _lock_users(
    connection: AsyncConnection, books: _Books, key: ExperimentKey | TagKey, keys: list[int]
) -> dict[int, UserTotals]:
    """Totals of the users who have any. On PostgreSQL new users get a row of zeros first, so that there is something
    to lock when two controllers meet the same new user at once."""
    table = books.users
    if connection.dialect.name == "postgresql":
        await insert_new(connection, table, [_row(books, key, user_key, UserTotals()) for user_key in keys])
    rows = await books.totals.rows(connection, **books.mine(key), user_keys=keys)
    totals = ((row[0], UserTotals(n=row[1::2], s=row[2::2])) for row in rows)
    return {user_key: known for user_key, known in totals if any(known.n)}


async def _add_to_arm(
    connection: AsyncConnection,
    key: ExperimentKey,
    requests: int,
    change: Moments,
    *,
    claimed: Sequence[int] = (),
    clusters: int = 0,
    moved: Moved | None = None,
    icc: float = DEFAULT_ICC,
) -> None:
    """Its row is locked while the claimed users that are new to it are told from the others, and the past of the units
    that have `moved` is looked up (None: it is not used)."""
    known = await _locked(connection, _ARMS, key)
    if claimed:
        known["claimed_users"] += await _note_claimed(connection, _ARMS.row_of(key), claimed)
    if moved is not None:
        known["past"] = await past_after(connection, key[0], known["past"], moved, icc)
    known["clusters"] += clusters
    await _add(connection, _ARMS, key, known, requests, change)


async def _add_to_tag(connection: AsyncConnection, key: TagKey, requests: int, change: Moments) -> None:
    await _add(connection, _TAGS, key, await _locked(connection, _TAGS, key), requests, change)


async def _locked(connection: AsyncConnection, books: _Books, key: ExperimentKey | TagKey) -> dict[str, Any]:
    """What is known of an arm, by column. Its row is locked; there is one from now on."""
    nothing = {"requests": 0, "moments": Moments().to_bytes()}
    await insert_new(connection, books.arms, [books.row_of(key) | nothing])
    [found] = await books.arm.rows(connection, **books.mine(key))
    return dict(zip((column.name for column in books.written), found, strict=True))


async def _add(
    connection: AsyncConnection,
    books: _Books,
    key: ExperimentKey | TagKey,
    known: Mapping[str, Any],
    requests: int,
    change: Moments,
) -> None:
    """Write what is known of an arm, with these requests and this change of its moments."""
    moments = (Moments.from_bytes(known["moments"]) + change).to_bytes()
    after = {**known, "requests": known["requests"] + requests, "moments": moments}
    await books.write.changed(connection, **books.mine(key), **{f"new_{name}": n for name, n in after.items()})


async def _note_claimed(connection: AsyncConnection, arm: Mapping[str, int], users: Sequence[int]) -> int:
    """Write down that these users were seen in the arm; returns how many had not been."""
    new = 0
    for start in range(0, len(users), _CHUNK):
        chunk = users[start : start + _CHUNK]
        known = {row[0] for row in await _CLAIMED.rows(connection, **arm, users=chunk)}
        rows = [{**arm, "user_key": user_key} for user_key in chunk if user_key not in known]
        await insert_new(connection, claimed_users, rows)
        new += len(rows)
    return new


def totals_of(row: Any) -> UserTotals:
    """From a row of `user_stats`, or of `tag_users`."""
    values = [getattr(row, name) for name in USER_TOTALS]
    return UserTotals(n=tuple(values[0::2]), s=tuple(values[1::2]))


def _row(
    books: _Books, key: ExperimentKey | TagKey, user_key: int, totals: UserTotals, *, claimed: bool = False
) -> dict[str, Any]:
    values = [0.0] * len(USER_TOTALS)
    values[0::2], values[1::2] = totals.n, totals.s
    row = {**books.row_of(key), "user_key": user_key, **dict(zip(USER_TOTALS, values, strict=True))}
    if books is _ARMS:
        row["claimed"] = claimed
    return row
