"""The index of what a build has seen (`policies.dedupe.Index`): bands in a table of fixed size, the rest in the file.

A million samples have ten million bands, and each comes in a random place: in a B-tree they would cost more than all
else. Here a band chooses a bucket of eight entries, each a sample's number with eight bits of the band; a full bucket
forgets its oldest. What the table says is no more than a hint: the signatures decide. At a million samples one band in
twenty is forgotten, and a near duplicate shares several. The table takes up to 80 MiB, for pages that are used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from mmap import mmap
from typing import Final

from policies.similarity import Fingerprint

__all__ = ["INDEX_SCHEMA", "StagedIndex"]

INDEX_SCHEMA: Final = """
CREATE TABLE digests (digest INTEGER PRIMARY KEY);
CREATE TABLE signatures (id INTEGER PRIMARY KEY, signature BLOB NOT NULL);
"""
_WAYS: Final = 8
_BUCKETS: Final = 1 << 21
_FILTER_BYTES: Final = 1 << 22  # of digests: one in thirty is in doubt among a million
_BYTE: Final = _FILTER_BYTES - 1
_WAITING: Final = 500


class StagedIndex:
    """Used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """`db` has the tables of `INDEX_SCHEMA`, all empty."""
        self._db = db
        self._filter = bytearray(_FILTER_BYTES)
        self._tags = bytearray(_BUCKETS * _WAYS)  # 0 where there is no entry
        self._numbers = memoryview(mmap(-1, 4 * _BUCKETS * _WAYS)).cast("I")
        self._last = 0
        self._digests: set[int] = set()
        self._signatures: dict[int, bytes] = {}

    def has(self, digest: int) -> bool:
        """Whether a sample with this digest was added."""
        if not self._filter[digest >> 3 & _BYTE] >> (digest & 7) & 1:
            return False
        if digest in self._digests:
            return True
        return self._db.execute("SELECT 1 FROM digests WHERE digest = ?", (digest,)).fetchone() is not None

    def candidates(self, bands: Sequence[int]) -> Iterable[bytes]:
        """Signatures of the added samples that share, or seem to share, one of these bands: the newest of each."""
        found: set[int] = set()
        tags = self._tags
        for band in bands:
            at = (band & _BUCKETS - 1) * _WAYS
            place = tags.find(tag := (band >> 32) % 255 + 1, at, at + _WAYS)
            while place >= 0:
                found.add(self._numbers[place])
                place = tags.find(tag, place + 1, at + _WAYS)
        if not found:
            return ()
        waiting = self._signatures
        kept = [each for each in found if each not in waiting]
        rows: list[tuple[bytes]] = []
        if kept:
            wanted = ",".join("?" * len(kept))
            rows = self._db.execute(f"SELECT signature FROM signatures WHERE id IN ({wanted})", kept).fetchall()
        return [*(waiting[each] for each in found if each in waiting), *[signature for (signature,) in rows]]

    def add(self, item: Fingerprint) -> None:
        """Remember a sample."""
        self._last += 1
        digest = item.digest
        self._filter[digest >> 3 & _BYTE] |= 1 << (digest & 7)
        self._digests.add(digest)
        self._signatures[self._last] = item.signature
        self._enter(item.bands)
        if len(self._signatures) >= _WAITING:
            self._write()

    def _enter(self, bands: Iterable[int]) -> None:
        tags, numbers, number = self._tags, self._numbers, self._last
        for band in bands:
            at = (band & _BUCKETS - 1) * _WAYS
            place = tags.find(0, at, at + _WAYS)
            if place < 0:
                bucket = numbers[at : at + _WAYS].tolist()
                place = at + bucket.index(min(bucket))
            tags[place] = (band >> 32) % 255 + 1
            numbers[place] = number

    def _write(self) -> None:
        """What waits goes into the file; digests in their order, for neighbours share a page there."""
        self._db.executemany("INSERT INTO signatures VALUES (?, ?)", self._signatures.items())
        self._db.executemany("INSERT OR IGNORE INTO digests VALUES (?)", [(each,) for each in sorted(self._digests)])
        self._digests, self._signatures = set(), {}
