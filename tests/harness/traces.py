"""Looking for words wherever an installation may keep them: raw files, and what is packed inside of them.

Files are read as they are, and unpacked (gzip, Parquet); of a database every row of every table is looked at, bodies
with the dictionary they were packed with, and the dictionaries themselves.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq
import sqlalchemy as sa
import zstandard

from proxy.clock import SystemClock
from proxy.store.engine.database import Database
from proxy.store.tables.schema import bodies, dictionaries, metadata

__all__ = ["traces"]

_GZIP: Final = b"\x1f\x8b"


def traces(words: Iterable[str], root: Path, store_url: str) -> dict[str, set[str]]:
    """Where each of the words is found: a file's path below `root`, or `table NAME`. Words that are nowhere are left
    out."""
    wanted = {word: word.encode() for word in words}
    found: dict[str, set[str]] = {}
    for place, text in (*_files(root), *asyncio.run(_rows(store_url))):
        for word, sought in wanted.items():
            if sought in text:
                found.setdefault(word, set()).add(place)
    return found


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.name.endswith("-shm"):
            continue
        content, place = path.read_bytes(), str(path.relative_to(root))
        yield place, content
        if content.startswith(_GZIP):
            yield place, gzip.decompress(content)
        if path.suffix == ".parquet":
            yield place, repr(pq.read_table(path).to_pylist()).encode()


async def _rows(url: str) -> list[tuple[str, bytes]]:
    database = Database.connect(url, clock=SystemClock(), pool_size=1, busy_timeout_s=30.0)
    found = []
    try:
        async with database.read() as connection:
            known = {row.id: row.data for row in await connection.execute(sa.select(dictionaries))}
            for table in metadata.sorted_tables:
                for row in (await connection.execute(sa.select(table))).all():
                    text = b" ".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
                    found.append((f"table {table.name}", text))
                    if table is bodies:
                        dictionary = zstandard.ZstdCompressionDict(known.get(row.dictionary_id, b""))
                        unpacked = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(row.data)
                        found.append((f"table {table.name}", unpacked))
    finally:
        await database.close()
    return found
