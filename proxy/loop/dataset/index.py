"""The index of what a build has seen (`policies.dedupe.Index`): in the staging file, with a filter before it.

A million samples have fifteen million bands, and each comes in a random place. So nearly all questions are answered
without the file, by a filter of fixed size (Bloom 1970, with one bit per key): what it does not know was never added.
What is added waits, and goes into the file in order, some hundred samples at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from policies.dedupe import Fingerprint

__all__ = ["INDEX_SCHEMA", "StagedIndex"]

INDEX_SCHEMA: Final = """
CREATE TABLE digests (digest INTEGER PRIMARY KEY);
CREATE TABLE signatures (id INTEGER PRIMARY KEY, signature BLOB NOT NULL);
CREATE TABLE bands (band INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (band, id)) WITHOUT ROWID;
"""
_CANDIDATES = 128  # of texts that share a band; far more than a text has near duplicates, since those are dropped
_FILTER_BYTES = 1 << 24  # one key in nine is in doubt among fifteen million
_BYTE = _FILTER_BYTES - 1
_WAITING = 500


class StagedIndex:
    """Used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """`db` has the tables of `INDEX_SCHEMA`, all empty."""
        self._db = db
        self._filter = bytearray(_FILTER_BYTES)
        self._last = 0
        self._digests: set[int] = set()
        self._signatures: dict[int, bytes] = {}
        self._bands: dict[int, list[int]] = {}

    def has(self, digest: int) -> bool:
        """Whether a sample with this digest was added."""
        if not self._filter[digest >> 3 & _BYTE] >> (digest & 7) & 1:
            return False
        if digest in self._digests:
            return True
        return self._db.execute("SELECT 1 FROM digests WHERE digest = ?", (digest,)).fetchone() is not None

    def candidates(self, bands: Sequence[int]) -> Iterable[bytes]:
        """Signatures of at most 128 added samples that share at least one of these bands, and of those that wait."""
        known = self._filter
        asked = [band for band in bands if known[band >> 3 & _BYTE] >> (band & 7) & 1]
        if not asked:
            return ()
        waiting = {at for band in asked for at in self._bands.get(band, ())}
        shared = f"SELECT id FROM bands WHERE band IN ({','.join('?' * len(asked))}) LIMIT {_CANDIDATES}"
        rows = self._db.execute(f"SELECT signature FROM signatures WHERE id IN ({shared})", asked)
        return [*map(self._signatures.__getitem__, sorted(waiting)), *[row[0] for row in rows.fetchall()]]

    def add(self, item: Fingerprint) -> None:
        """Remember a sample."""
        self._last += 1
        for key in (item.digest, *item.bands):
            self._filter[key >> 3 & _BYTE] |= 1 << (key & 7)
        for band in item.bands:
            self._bands.setdefault(band, []).append(self._last)
        self._digests.add(item.digest)
        self._signatures[self._last] = item.signature
        if len(self._signatures) >= _WAITING:
            self._write()

    def _write(self) -> None:
        """What waits goes into the file, in the order of its keys: neighbours share a page there."""
        bands = [(band, at) for band in sorted(self._bands) for at in self._bands[band]]
        self._db.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", bands)
        self._db.executemany("INSERT INTO signatures VALUES (?, ?)", self._signatures.items())
        self._db.executemany("INSERT OR IGNORE INTO digests VALUES (?)", [(each,) for each in sorted(self._digests)])
        self._digests, self._signatures, self._bands = set(), {}, {}
