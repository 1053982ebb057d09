"""The exchange that another goes on from, found by the id that its provider gave to the answer.

Who reads a conversation that the provider keeps (`previous_response_id`) looks here for its earlier parts. A name alone
proves little, for clients name requests too: whoever asks compares the answer's own id, and the user.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from policies.records import Outcome, Sample, StickySource
from proxy.store.engine.database import Database
from proxy.store.ingest.batch import KEY_SOURCES
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.reading.samples import sample_of_row
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.schema import aliases, models, records
from proxy.store.tables.values import BodyPayload, RecordFlag

__all__ = ["Earlier", "earlier", "name_users"]

_MOST: Final = 4
"""Records a name that are looked at, newest first."""
_COLUMNS: Final = ("id", "user_hash", "quality", "feedback", "served_by", "body", "kind", "flags", "status", "outcome",
                   "key_source", "cluster")  # fmt: skip
_NOT_WHOLE: Final = int(RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE | RecordFlag.UNREAD)
_NAMING: Final = frozenset({StickySource.RATCHET_HEADER, StickySource.HEADER, StickySource.COOKIE, StickySource.BODY})
"""Where a key is a user, and not what stands in for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An exchange that may be what another goes on from."""

    sample: Sample
    """Not `trainable` where the request asked not to be trained on. No votes."""
    names_user: bool
    """Whether its key is a user; else two keys of one user may differ."""
    whole: bool
    """An answer, and all of it is at hand."""


async def earlier(db: Database, codec: BodyCodec, names: Sequence[str]) -> dict[str, tuple[Earlier, ...]]:
    """Records that have these names as an alias, by name, newest first; those whose bodies are gone are left out."""
    hashes = {alias_hash(name): name for name in names}
    named = sa.select(aliases.c.hash, aliases.c.id).where(aliases.c.hash.in_(list(hashes)))
    async with db.read() as connection:
        claims = (await connection.execute(named.order_by(aliases.c.id.desc()).limit(_MOST * len(hashes)))).all()
        query = (
            sa.select(*(records.c[column] for column in _COLUMNS), models.c.name)
            .join(models, models.c.id == records.c.model_id, isouter=True)
            .where(records.c.id.in_({claim.id for claim in claims}))
        )
        rows = {row.id: row for row in (await connection.execute(query)).all()} if claims else {}
        found = await codec.read(connection, {row.id: row.body for row in rows.values()})
    by_name: defaultdict[str, tuple[Earlier, ...]] = defaultdict(tuple)
    for claim in claims:
        if claim.id in found:
            by_name[hashes[claim.hash]] += (_earlier(rows[claim.id], found[claim.id]),)
    return by_name


def _earlier(row: Any, body: BodyPayload) -> Earlier:
    well = Outcome(row.outcome).with_status(row.status) is Outcome.OK and 200 <= row.status < 300
    return Earlier(
        sample=replace(sample_of_row(row, body, None), trainable=not row.flags & RecordFlag.NO_TRAIN),
        names_user=KEY_SOURCES[row.key_source] in _NAMING,
        whole=well and not row.flags & _NOT_WHOLE,
    )


async def name_users(db: Database, record_ids: Sequence[str]) -> set[str]:
    """Those of the records whose key is a user."""
    query = sa.select(records.c.id, records.c.key_source).where(records.c.id.in_(record_ids))
    async with db.read() as connection:
        rows = (await connection.execute(query)).all()
    return {row.id for row in rows if KEY_SOURCES[row.key_source] in _NAMING}
