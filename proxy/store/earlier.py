"""The exchange that another goes on from, found by the id that its provider gave to the answer.

Who reads a conversation that the provider keeps (`previous_response_id`) looks here for its earlier parts. A name alone
proves little, for clients name requests too: whoever asks compares the answer's own id, and the user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from policies.records import Outcome, Sample, StickySource
from proxy.store.bodies import BodyCodec
from proxy.store.engine import Database
from proxy.store.ingest import KEY_SOURCES
from proxy.store.keys import alias_hash
from proxy.store.samples import sample_of_row
from proxy.store.schema import aliases, models, records
from proxy.store.values import RecordFlag

__all__ = ["Earlier", "earlier", "names_user"]

_MOST: Final = 4
"""Records with one name that are looked at, newest first."""
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


async def earlier(db: Database, codec: BodyCodec, name: str) -> tuple[Earlier, ...]:
    """Records that have this name as an alias, newest first; those whose bodies are gone are left out."""
    columns = ("id", "user_hash", "quality", "feedback", "served_by", "body", "kind", "flags", "status", "outcome",
               "key_source")  # fmt: skip
    named = sa.select(aliases.c.id).where(aliases.c.hash == alias_hash(name)).order_by(aliases.c.id.desc()).limit(_MOST)
    async with db.read() as connection:
        ids = (await connection.scalars(named)).all()
        if not ids:
            return ()
        query = (
            sa.select(*(records.c[column] for column in columns), models.c.name)
            .join(models, models.c.id == records.c.model_id, isouter=True)
            .where(records.c.id.in_(ids))
            .order_by(records.c.id.desc())
        )
        rows = (await connection.execute(query)).all()
        found = await codec.read(connection, {row.id: row.body for row in rows})
    return tuple(
        Earlier(
            sample=replace(sample_of_row(row, found[row.id], None), trainable=not row.flags & RecordFlag.NO_TRAIN),
            names_user=KEY_SOURCES[row.key_source] in _NAMING,
            whole=not row.flags & _NOT_WHOLE
            and 200 <= row.status < 300
            and Outcome(row.outcome).with_status(row.status) is Outcome.OK,
        )
        for row in rows
        if row.id in found
    )


async def names_user(db: Database, record_id: str) -> bool:
    """Whether the key of this record is a user."""
    async with db.read() as connection:
        source = await connection.scalar(sa.select(records.c.key_source).where(records.c.id == record_id))
    return source is not None and KEY_SOURCES[source] in _NAMING
