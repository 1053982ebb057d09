"""The temporary SQLite file behind a dataset build: what selection must remember, at constant memory.

A dataset of a million samples needs its duplicates' fingerprints, its users' counts, its unpaired answers and its lines
(whose caps are known only at the end). All of it lives here, without journal or fsync: a crash throws it away.
Used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from policies.dedupe import Fingerprint
from policies.formats import Line, Waiting
from policies.records import Author
from proxy.loop.dataset.judged import Judged

__all__ = ["LineRow", "Source", "Split", "Staging"]

_SCHEMA = """
CREATE TABLE digests (digest INTEGER PRIMARY KEY);
CREATE TABLE signatures (id INTEGER PRIMARY KEY, signature BLOB NOT NULL);
CREATE TABLE bands (band INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (band, id)) WITHOUT ROWID;
CREATE TABLE users (split INTEGER NOT NULL, user INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (split, user))
    WITHOUT ROWID;
CREATE TABLE waiting (seq INTEGER PRIMARY KEY, split INTEGER NOT NULL, conversation INTEGER NOT NULL,
    liked INTEGER NOT NULL, record_id TEXT NOT NULL, user INTEGER, author INTEGER NOT NULL,
    generation INTEGER NOT NULL, answer BLOB NOT NULL);
CREATE INDEX waiting_by_conversation ON waiting (split, conversation, liked, seq);
CREATE TABLE lines (seq INTEGER PRIMARY KEY, split INTEGER NOT NULL, author INTEGER NOT NULL,
    generation INTEGER NOT NULL, model TEXT NOT NULL);
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE sources (seq INTEGER NOT NULL, record_id TEXT NOT NULL, user INTEGER, PRIMARY KEY (seq, record_id))
    WITHOUT ROWID;
"""
_CANDIDATES = 256  # of texts that share a band; far more than a text has near duplicates, since those are dropped
_CACHE_KIB = 65_536
_PAGE = 5_000


class Split(IntEnum):
    """Which file a sample goes to."""

    TRAIN = 0
    HOLDOUT = 1


@dataclass(frozen=True, slots=True)
class Source:
    """A record behind a line."""

    record_id: str
    user: int | None


@dataclass(frozen=True, slots=True)
class LineRow:
    """A staged line without its body. Lines are staged newest first, so the smallest `seq` is the newest."""

    seq: int
    author: Author
    generation: int
    model: str


class Staging:
    """Everything one build remembers; a context manager that closes and removes its file. Also the dedupe `Index`."""

    def __init__(self, path: Path | None) -> None:
        """A fresh file at `path`, replacing an old one; None keeps everything in memory (previews)."""
        self._path = path
        if path is not None:
            path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"
            f"PRAGMA cache_size=-{_CACHE_KIB}; {_SCHEMA}"
        )
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    # The dedupe index (policies.dedupe.Index)

    def has(self, digest: int) -> bool:
        """Whether a text with this digest was added."""
        return self._db.execute("SELECT 1 FROM digests WHERE digest = ?", (digest,)).fetchone() is not None

    def candidates(self, bands: Sequence[int]) -> Iterable[bytes]:
        """Signatures of at most 256 added texts that share at least one of these bands."""
        shared = f"SELECT id FROM bands WHERE band IN ({','.join('?' * len(bands))}) LIMIT {_CANDIDATES}"
        rows = self._db.execute(f"SELECT signature FROM signatures WHERE id IN ({shared})", tuple(bands))
        return [row[0] for row in rows.fetchall()]

    def add(self, item: Fingerprint) -> None:
        """Remember a text."""
        self._db.execute("INSERT OR IGNORE INTO digests VALUES (?)", (item.digest,))
        row = self._db.execute("INSERT INTO signatures (signature) VALUES (?)", (item.signature,)).lastrowid
        self._db.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", [(band, row) for band in item.bands])

    # Users and pairs, per split

    def tally(self, split: Split) -> SplitTally:
        """Counts per user of one split."""
        return SplitTally(self._db, split)

    def partners(self, split: Split) -> SplitPartners:
        """Unpaired answers of one split."""
        return SplitPartners(self._db, split)

    def judged(self) -> Judged:
        """What people disliked and corrected."""
        return Judged(self._db)

    def unpaired(self) -> int:
        """Answers that found no partner."""
        return self._count("SELECT count(*) FROM waiting")

    # Lines

    def stage(self, split: Split, line: Line, model: str, sources: Iterable[Source], body: bytes) -> None:
        """Keep a line; call newest first."""
        seq = self._db.execute(
            "INSERT INTO lines (split, author, generation, model) VALUES (?, ?, ?, ?)",
            (int(split), int(line.author), line.generation, model),
        ).lastrowid
        self._db.execute("INSERT INTO bodies VALUES (?, ?)", (seq, body))
        self._db.executemany(
            "INSERT OR IGNORE INTO sources VALUES (?, ?, ?)",
            [(seq, source.record_id, source.user) for source in sources],
        )

    def lines(self, split: Split) -> Iterator[LineRow]:
        """The staged lines of a split, newest first. Lines may be dropped meanwhile."""
        after = 0
        while rows := self._db.execute(
            "SELECT seq, author, generation, model FROM lines WHERE split = ? AND seq > ? ORDER BY seq LIMIT ?",
            (int(split), after, _PAGE),
        ).fetchall():
            for seq, author, generation, model in rows:
                yield LineRow(seq, Author(author), generation, model)
            after = rows[-1][0]

    def drop(self, seqs: Sequence[int]) -> None:
        """Take lines back."""
        self._db.executemany("DELETE FROM lines WHERE seq = ?", [(seq,) for seq in seqs])

    def count(self, split: Split) -> int:
        """Lines of a split that are still in."""
        return self._count("SELECT count(*) FROM lines WHERE split = ?", int(split))

    def bodies(self, split: Split) -> Iterator[bytes]:
        """The lines of a split that are still in, oldest first, without line ends."""
        rows = self._db.execute(
            "SELECT body FROM lines JOIN bodies USING (seq) WHERE split = ? ORDER BY seq DESC", (int(split),)
        )
        for (body,) in rows:
            yield body

    def sources(self, split: Split) -> Iterator[Source]:
        """The records behind the lines of a split that are still in, oldest line first."""
        rows = self._db.execute(
            "SELECT record_id, user FROM lines JOIN sources USING (seq) WHERE split = ? ORDER BY seq DESC",
            (int(split),),
        )
        for record_id, user in rows:
            yield Source(record_id, user)

    def record_range(self, split: Split) -> tuple[str | None, str | None]:
        """Smallest and largest record id behind the lines of a split that are still in."""
        first, last = self._db.execute(
            "SELECT min(record_id), max(record_id) FROM lines JOIN sources USING (seq) WHERE split = ?", (int(split),)
        ).fetchone()
        return first, last

    def _count(self, query: str, *args: int) -> int:
        (count,) = self._db.execute(query, args).fetchone()
        return int(count)


class SplitTally:
    """Counts per user in the staging file (policies.selection.Tally)."""

    def __init__(self, db: sqlite3.Connection, split: Split) -> None:
        self._db, self._split = db, int(split)

    def add(self, user: int) -> int:
        """Count one more for `user`; returns the new count."""
        (count,) = self._db.execute(
            "INSERT INTO users VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n", (self._split, user)
        ).fetchone()
        return int(count)


class SplitPartners:
    """Unpaired answers in the staging file (policies.formats.Partners)."""

    def __init__(self, db: sqlite3.Connection, split: Split) -> None:
        self._db, self._split = db, int(split)

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return the answer that waited longest."""
        row = self._db.execute(
            "SELECT seq, record_id, user, author, generation, answer FROM waiting"
            " WHERE split = ? AND conversation = ? AND liked = ? ORDER BY seq LIMIT 1",
            (self._split, conversation, liked),
        ).fetchone()
        if row is None:
            return None
        seq, record_id, user, author, generation, answer = row
        self._db.execute("DELETE FROM waiting WHERE seq = ?", (seq,))
        return Waiting(
            record_id=record_id,
            user=user,
            author=Author(author),
            generation=generation,
            answer=answer.decode("utf-8", "surrogatepass"),
        )

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        answer = waiting.answer.encode("utf-8", "surrogatepass")
        self._db.execute(
            "INSERT INTO waiting (split, conversation, liked, record_id, user, author, generation, answer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._split,
                conversation,
                liked,
                waiting.record_id,
                waiting.user,
                int(waiting.author),
                waiting.generation,
                answer,
            ),
        )
