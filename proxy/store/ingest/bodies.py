"""How requests and responses are packed: blocks of up to 64, zstd with a dictionary trained on the first few hundred.

Short texts compress badly alone. A batch is cut into blocks that are compressed as one, which also spares a key and
half a page per record; at low traffic a block holds one record, and then the dictionary, which knows what this
installation's requests look like, makes up for it (measured in docs/benchmarks.md). A full one does without.
Dictionaries are kept in the database and named in every row, so old rows stay readable whatever comes later. 0 means
none; 1 was trained by earlier versions on bodies as they were, so that it holds what users said: `retire` packs its
blocks anew and removes it.

A block's key begins with the milliseconds of its first record: keys are in order of time, as record ids are.
Unpacked, a block is a count, as many lengths, and the bodies (length 0: deleted); a body is three lengths (all u32,
little-endian), the request, the response and a JSON array of facts (`packing.py`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
import zstandard
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.errors import TemporaryError
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import insert_new
from proxy.store.engine.kept import KeptStatement
from proxy.store.engine.threads import in_a_thread
from proxy.store.ingest.compressing import Compressor
from proxy.store.ingest.masking import blanked
from proxy.store.ingest.packing import Search, in_blocks, joined, pack, split, unpack
from proxy.store.tables.keys import BLOCK_RECORDS, block_key
from proxy.store.tables.schema import bodies, dictionaries, records
from proxy.store.tables.values import BodyPayload

__all__ = ["Block", "BodyCodec", "grouped"]

_DICTIONARY_BYTES: Final = 112 * 1024
_SAMPLES: Final = 500
_SAMPLE_BYTES: Final = 16 * 1024
_NO_DICTIONARY: Final = 0
_RAW: Final = 1
"""Of users' own text; no block is packed with it any more."""
_BLANKED: Final = 2
_RETIRED_AT_ONCE: Final = 16
"""Blocks a transaction."""
_LOOKED_UP: Final = 1000
_MADE: Final = KeptStatement(
    lambda given: sa.select(dictionaries.c.created_us).where(
        dictionaries.c.id == given.value("dictionary", dictionaries.c.id)
    )
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some bodies, compressed together."""

    key: int
    dictionary_id: int
    ids: tuple[str, ...]
    data: bytes


def grouped(where: Iterable[int | None]) -> dict[int, set[int]]:
    """Places by block, of the bodies that records point to."""
    places: dict[int, set[int]] = {}
    for body in where:
        if body is not None:
            places.setdefault(body - body % BLOCK_RECORDS, set()).add(body % BLOCK_RECORDS)
    return places


class BodyCodec:
    """Packs and unpacks bodies with the dictionaries of one store. Usable from several threads."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Know nothing of the database any more: it may be another one."""
        with self._lock:
            self._current = _NO_DICTIONARY
            self._made_us = 0
            self._compressor = Compressor()
            self._decompressors = {_NO_DICTIONARY: zstandard.ZstdDecompressor()}
        self._samples: list[tuple[int | None, bytes]] | None = None
        """Bodies, each with its user, to train the first dictionary on; None before the database was asked for one."""

    async def check(self, connection: AsyncConnection) -> None:
        """In a transaction that stores blocks: that this database has the dictionary that they are packed with. Raises
        TemporaryError where it was replaced by one that has not; the next `prepare` finds its own."""
        if self._current == _NO_DICTIONARY:
            return
        made = await _MADE.rows(connection, dictionary=self._current)
        if not made or made[0][0] != self._made_us:
            self.forget()
            raise TemporaryError("store: the database is not the one that bodies were packed for", retry_after_s=0.0)

    async def prepare(self, payloads: Iterable[tuple[int | None, BodyPayload]]) -> None:
        """Get the newest dictionary, or train the first one when enough bodies (with their users) have been seen.
        Writes: call it outside of a transaction."""
        if self._samples is None:
            await self._load_newest()
        if self._current == _NO_DICTIONARY:
            await self._learn(payloads)

    async def encode(self, payloads: Sequence[tuple[str, BodyPayload]]) -> list[Block]:
        """Blocks of the bodies of these records, in their order."""
        if not payloads:
            return []
        return await in_a_thread(self._blocks, payloads)

    async def load(self, connection: AsyncConnection, dictionary_ids: Iterable[int]) -> None:
        """Make these dictionaries known to `decode`."""
        missing = set(dictionary_ids) - self._decompressors.keys()
        if missing:
            rows = await connection.execute(sa.select(dictionaries).where(dictionaries.c.id.in_(missing)))
            for row in rows:
                self._decompressors[row.id] = _decompressor(row.data)

    async def read(
        self, connection: AsyncConnection, wanted: Mapping[str, int | None], saying: str | None = None
    ) -> dict[str, BodyPayload]:
        """Bodies by record id, of records given with where it is; left out are those that retention has dropped, and
        those that do not say the words `saying`."""
        places = grouped(wanted.values())
        if not places:
            return {}
        keys = list(places)
        query = sa.select(bodies).where(bodies.c.block.in_(keys), bodies.c.block.between(min(keys), max(keys)))
        rows = (await connection.execute(query)).all()
        await self.load(connection, {row.dictionary_id for row in rows})
        found = await asyncio.to_thread(self._decode, rows, places, Search(saying).finds if saying else unpack)
        return {record_id: found[body] for record_id, body in wanted.items() if body in found}

    async def without(self, connection: AsyncConnection, key: int, places: Collection[int]) -> int:
        """Take bodies out of a block for good; returns how many there were."""
        await self.check(connection)
        row = (await connection.execute(sa.select(bodies).where(bodies.c.block == key))).first()
        if row is None:
            return 0
        await self.load(connection, {row.dictionary_id})
        changed = await asyncio.to_thread(self._repacked, row, places)
        where = bodies.c.block == key
        if changed["n"]:
            await connection.execute(sa.update(bodies).where(where).values(changed))
        else:
            await connection.execute(sa.delete(bodies).where(where))
        return int(row.n) - int(changed["n"])

    async def has_raw(self) -> bool:
        """Whether there is a dictionary of raw bodies."""
        async with self._db.read() as connection:
            return await connection.scalar(sa.select(dictionaries.c.id).where(dictionaries.c.id == _RAW)) is not None

    async def retire(self) -> int:
        """Pack blocks anew that use the dictionary of raw bodies, some at a time; returns how many that were. Safe to
        stop anywhere. Writes: call it outside of a transaction."""
        await self.prepare(())
        done, after = 0, -1
        while keys := await self._packed_raw(after):
            for start in range(0, len(keys), _RETIRED_AT_ONCE):
                async with self._db.write() as connection:
                    for key in keys[start : start + _RETIRED_AT_ONCE]:
                        await self.without(connection, key, ())
            done, after = done + len(keys), keys[-1]
        return done

    async def forget_raw(self) -> bool:
        """Remove the dictionary of raw bodies; False where a block uses it."""
        used = sa.select(bodies.c.block).where(bodies.c.dictionary_id == _RAW)
        async with self._db.write() as connection:
            gone = await connection.execute(sa.delete(dictionaries).where(dictionaries.c.id == _RAW, ~used.exists()))
        return bool(gone.rowcount)

    async def _packed_raw(self, after: int) -> list[int]:
        """Some of the blocks behind `after` that use it."""
        query = sa.select(bodies.c.block).where(bodies.c.dictionary_id == _RAW, bodies.c.block > after)
        async with self._db.read() as connection:
            return list(await connection.scalars(query.order_by(bodies.c.block).limit(_LOOKED_UP)))

    def _decode(
        self,
        rows: Iterable[Any],
        places: Mapping[int, Collection[int]],
        read: Callable[[bytes], BodyPayload | None],
    ) -> dict[int, BodyPayload]:
        found: dict[int, BodyPayload] = {}
        for row in rows:
            packed = self._split(row)
            for place in places[row.block]:
                if packed[place] and (body := read(packed[place])) is not None:
                    found[row.block + place] = body
        return found

    def _split(self, row: Any) -> list[bytes]:
        with self._lock:
            data = self._decompressors[row.dictionary_id].decompress(row.data)
        return split(data)

    def _blocks(self, payloads: Sequence[tuple[str, BodyPayload]]) -> list[Block]:
        return self._compress([(record_id, pack(payload)) for record_id, payload in payloads])

    def _repacked(self, row: Any, places: Collection[int]) -> dict[str, Any]:
        """What becomes of a block's row without the bodies in `places`; `n` of them are left."""
        kept = [b"" if place in places else data for place, data in enumerate(self._split(row))]
        n = sum(map(bool, kept))
        if not n:
            return {"n": 0}
        with self._lock:
            dictionary_id, data = self._compressed(kept)
        return {"dictionary_id": dictionary_id, "data": data, "n": n}

    def _compressed(self, packed: Sequence[bytes]) -> tuple[int, bytes]:
        """A block of these, behind the dictionary that reads it. Called with the lock."""
        data, with_words = self._compressor.compress(joined(packed))
        return self._current if with_words else _NO_DICTIONARY, data

    def _compress(self, packed: Sequence[tuple[str, bytes]]) -> list[Block]:
        blocks = []
        key = 0
        with self._lock:
            for part in in_blocks(packed):
                ids = tuple(record_id for record_id, _ in part)
                key = max(key + BLOCK_RECORDS, block_key(ids[0]))
                dictionary_id, data = self._compressed([body for _, body in part])
                blocks.append(Block(key=key, dictionary_id=dictionary_id, ids=ids, data=data))
        return blocks

    async def _load_newest(self) -> None:
        async with self._db.read() as connection:
            newest = sa.select(dictionaries).where(dictionaries.c.id > _RAW).order_by(dictionaries.c.id.desc()).limit(1)
            row = (await connection.execute(newest)).first()
            if row is not None:
                await asyncio.to_thread(self._use, row.id, row.data, row.created_us)
                self._samples = []
                return
            self._samples = await self._stored(connection)

    async def _stored(self, connection: AsyncConnection) -> list[tuple[int | None, bytes]]:
        """Bodies that an earlier process wrote, the newest."""
        query = sa.select(records.c.user_hash, records.c.body).where(records.c.body.is_not(None))
        rows = (await connection.execute(query.order_by(records.c.id.desc()).limit(_SAMPLES))).all()
        places = grouped(row.body for row in rows)
        found = (await connection.execute(sa.select(bodies).where(bodies.c.block.in_(list(places))))).all()
        await self.load(connection, {row.dictionary_id for row in found})
        packed = await asyncio.to_thread(lambda: {row.block: self._split(row) for row in found})
        at = ((row.user_hash, *divmod(row.body, BLOCK_RECORDS)) for row in rows)
        told = ((user, packed.get(block * BLOCK_RECORDS, ()), place) for user, block, place in at)
        return [(user, data[place][:_SAMPLE_BYTES]) for user, data, place in told if place < len(data) and data[place]]

    async def _learn(self, payloads: Iterable[tuple[int | None, BodyPayload]]) -> None:
        samples = self._samples
        if samples is None:
            return
        wanted = max(0, _SAMPLES - len(samples))
        samples += await asyncio.to_thread(_sampled, [*islice(payloads, wanted)])
        if len(samples) < _SAMPLES or self._samples is not samples:  # forgotten meanwhile, or taken by somebody else
            return
        self._samples = []
        try:
            data = await asyncio.to_thread(_train, samples)
        except zstandard.ZstdError as exc:  # all alike, or all tiny: nothing to learn yet
            _log.info("no dictionary for bodies yet: %s", exc)
            return
        await self._keep(data)

    async def _keep(self, data: bytes) -> None:
        """Store the dictionary; another process may have been quicker, then theirs is used."""
        async with self._db.write() as connection:
            row = {"id": _BLANKED, "data": data, "created_us": int(self._db.clock.now() * 1e6)}
            await insert_new(connection, dictionaries, [row])
        await self._load_newest()

    def _use(self, dictionary_id: int, data: bytes, made_us: int) -> None:
        compressor = Compressor(data)
        with self._lock:
            self._current = dictionary_id
            self._made_us = made_us
            self._compressor = compressor
            self._decompressors[dictionary_id] = _decompressor(data)


def _sampled(payloads: Sequence[tuple[int | None, BodyPayload]]) -> list[tuple[int | None, bytes]]:
    return [(user, pack(payload)[:_SAMPLE_BYTES]) for user, payload in payloads]


def _train(samples: Sequence[tuple[int | None, bytes]]) -> bytes:
    return zstandard.train_dictionary(_DICTIONARY_BYTES, [*blanked(samples)], k=400, d=6).as_bytes()


def _decompressor(dictionary: bytes) -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
