"""The temporary SQLite file behind a dataset build: what selection must remember, at constant memory.

A dataset of a million samples needs its duplicates' fingerprints, its users' counts, its unpaired answers and its lines
(whose caps are known only at the end). All of it lives here, without journal or fsync: a crash throws it away. Lines
are written some hundred at a time. Used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from policies.caps import Caps
from policies.formats import HEADS, TrainingLine, Waiting, shape
from policies.records import Author
from proxy.loop.dataset.index import INDEX_SCHEMA, StagedIndex
from proxy.loop.dataset.judged import Judged
from proxy.private import create

__all__ = ["CapCounter", "LineOrigin", "LineRow", "Split", "Staging"]

_SCHEMA = f"""
{INDEX_SCHEMA}
CREATE TABLE users (tally INTEGER NOT NULL, user INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (tally, user))
    WITHOUT ROWID;
CREATE TABLE waiting (seq INTEGER PRIMARY KEY, split INTEGER NOT NULL, conversation INTEGER NOT NULL,
    liked INTEGER NOT NULL, record_id TEXT NOT NULL, user INTEGER, author INTEGER NOT NULL,
    generation INTEGER NOT NULL, model TEXT NOT NULL, answer BLOB NOT NULL);
CREATE INDEX waiting_by_conversation ON waiting (split, conversation, liked, seq);
CREATE TABLE lines (seq INTEGER PRIMARY KEY, split INTEGER NOT NULL, record INTEGER NOT NULL, records INTEGER NOT NULL,
    author INTEGER NOT NULL, generation INTEGER NOT NULL, model INTEGER NOT NULL, liked INTEGER NOT NULL,
    preferred INTEGER NOT NULL, reasoned INTEGER NOT NULL, chars INTEGER NOT NULL, shape INTEGER NOT NULL,
    parts INTEGER NOT NULL);
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE sources (seq INTEGER NOT NULL, record_id TEXT NOT NULL, user INTEGER, author INTEGER NOT NULL,
    generation INTEGER NOT NULL, model INTEGER NOT NULL, vote REAL, PRIMARY KEY (seq, record_id)) WITHOUT ROWID;
"""
_AUTHORS: Final = tuple(Author)
"""By number."""
_CACHE_KIB = 32_768
_USERS_AT_HAND = 100_000
_PAGE = 5_000
_ONE_PIECE = 8_000_000  # bytes, less than the 10 MB by which `datasets` decides what a file looks like
_WAITING = 200
_WAITING_BYTES = 4_000_000


class Split(IntEnum):
    """Which file a sample goes to."""

    TRAIN = 0
    HOLDOUT = 1


class CapCounter(IntEnum):
    """What is counted per user, or per cluster."""

    SAMPLES = 0
    CORRECTIONS = 1
    CORRECTIONS_OF_CLUSTER = 2
    EARLIER_CORRECTIONS = 3
    """Those that take their places in later conversations."""
    EARLIER_CORRECTIONS_OF_CLUSTER = 4


class LineOrigin(NamedTuple):
    """A record behind a line."""

    record_id: str
    user: int | None
    model: str = ""
    generation: int = 0
    """Of the model that answered."""
    author: Author = Author.ELSEWHERE
    """Who wrote what is learnt from it."""
    vote: float | None = None
    """Mean of the votes on the answer, in [-1, 1]."""
    preferred: bool = False
    """Whether the line is from two answers that people compared."""
    regenerated: bool = False
    """Whether it is from an answer that a user had made anew, and the one that was kept."""


_COMPARED, _ANEW = 1, 2
"""The column `preferred`: from answers that people compared, or from one that was made anew."""


class LineRow(NamedTuple):
    """A staged line without its body. Lines are staged newest first, so the smallest `seq` is the newest."""

    seq: int
    record: int
    """The lines of one record stand together, and have the same number here."""
    records: int
    """How many records are behind it: two of a pair of answers."""
    author: Author
    generation: int
    model: str
    liked: bool
    """Whether people voted for its answer."""
    preferred: bool
    """Whether people compared its answer with another, side by side."""
    regenerated: bool
    """Whether it is from an answer that a user had made anew, and the one that was kept."""
    reasoned: bool
    """Whether a model had thought aloud in its conversation."""
    chars: int
    """Characters of its texts."""
    parts: bool
    """Whether it has contents in parts."""


class Staging:
    """Everything one build remembers; a context manager that closes and removes its file."""

    def __init__(self, path: Path | None) -> None:
        """A fresh file at `path`, replacing an old one; None keeps everything in memory (previews)."""
        self._path = path
        if path is not None:
            path.unlink(missing_ok=True)
            create(path)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"
            f"PRAGMA cache_size=-{_CACHE_KIB}; {_SCHEMA}"
        )
        self._db.execute("BEGIN")
        self.index = StagedIndex(self._db)
        """What was seen (policies.dedupe.Index)."""
        self._seq = self._bytes = self._total = 0
        self._models: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lines: list[tuple[int, ...]] = []
        self._bodies: list[tuple[int, bytes]] = []
        self._sources: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    # Users and pairs, per split

    def tally(self, split: Split, what: CapCounter) -> SplitTally:
        """Counts of one split."""
        return SplitTally(self._db, split, what)

    def partners(self, split: Split) -> SplitPartners:
        """Unpaired answers of one split."""
        return SplitPartners(self._db, split)

    def judged(self, caps: Caps) -> Judged:
        """What people disliked and corrected."""
        return Judged(self._db, caps)

    def unpaired(self) -> int:
        """Answers that found no partner."""
        return self._count("SELECT count(*) FROM waiting")

    def unpaired_records(self, limit: int) -> list[str]:
        """Record ids of the newest of them."""
        rows = self._db.execute("SELECT record_id FROM waiting ORDER BY seq LIMIT ?", (limit,))
        return [record_id for (record_id,) in rows]

    # Lines

    def stage(
        self, split: Split, record: int, line: TrainingLine, model: str, sources: Sequence[LineOrigin], body: bytes,
        *, liked: bool = False, preferred: bool = False, regenerated: bool = False, reasoned: bool = False,
        chars: int = 0,
    ) -> None:  # fmt: skip
        """Keep a line of the record with this number (see `LineRow`); call newest first."""
        self._seq += 1
        self._bytes += len(body)
        number = self._number(model)
        self._total += len(body)
        pair = _COMPARED if preferred else _ANEW if regenerated else 0
        kept = (int(split), record, len(sources), int(line.author), line.generation, number, liked, pair, reasoned)
        self._lines.append((self._seq, *kept, chars, shape(line.body), line.parts))
        self._bodies.append((self._seq, body))
        self._sources += [
            (
                self._seq,
                source.record_id,
                source.user,
                int(source.author),
                source.generation,
                self._number(source.model),
                source.vote,
            )
            for source in sources
        ]
        if len(self._lines) >= _WAITING or self._bytes >= _WAITING_BYTES:
            self.write()

    def write(self) -> None:
        """What waits goes into the file; needed before anything is read."""
        self._db.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._lines)
        self._db.executemany("INSERT INTO bodies VALUES (?, ?)", self._bodies)
        self._db.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?, ?, ?, ?, ?, ?)", self._sources)
        self._lines, self._bodies, self._sources, self._bytes = [], [], [], 0

    def lines(self, split: Split) -> Iterator[LineRow]:
        """The staged lines of a split, newest first. Lines may be dropped meanwhile."""
        after = 0
        while rows := self._db.execute(
            "SELECT seq, record, records, author, generation, model, liked, preferred, reasoned, chars, parts"
            " FROM lines WHERE split = ? AND seq > ? ORDER BY seq LIMIT ?",
            (int(split), after, _PAGE),
        ).fetchall():
            for seq, record, records, author, generation, model, liked, preferred, reasoned, chars, parts in rows:
                yield LineRow(
                    seq,
                    record,
                    records,
                    _AUTHORS[author],
                    generation,
                    self._models[model],
                    bool(liked),
                    preferred == _COMPARED,
                    preferred == _ANEW,
                    bool(reasoned),
                    chars,
                    bool(parts),
                )
            after = rows[-1][0]

    def drop(self, seqs: Sequence[int]) -> None:
        """Take lines back."""
        self._db.executemany("DELETE FROM lines WHERE seq = ?", [(seq,) for seq in seqs])

    def count(self, split: Split) -> int:
        """Lines of a split that are still in."""
        return self._count("SELECT count(*) FROM lines WHERE split = ?", int(split))

    def bodies(self, split: Split) -> Iterator[bytes]:
        """The lines of a split that are still in, without line ends, oldest first but for heads (see `_in_order`)."""
        for _, body in self._in_order("SELECT seq, body FROM lines JOIN bodies USING (seq)", split):
            yield body

    def in_parts(self) -> list[tuple[Split, Author, int]]:
        """How many lines that are still in have contents in parts, by split and author."""
        rows = self._db.execute("SELECT split, author, count(*) FROM lines WHERE parts GROUP BY split, author")
        return [(Split(split), Author(author), count) for split, author, count in rows]

    def records_of(self, seq: int) -> list[str]:
        """Ids of the records behind a line, whether it is still in or not."""
        rows = self._db.execute("SELECT record_id FROM sources WHERE seq = ?", (seq,))
        return [record_id for (record_id,) in rows]

    def sources(self, split: Split) -> Iterator[tuple[int, LineOrigin]]:
        """The records behind the lines of a split that are still in, in the order of `bodies`, with the line's number.

        Numbers begin with 1. A record whose line has another beside it comes with each.
        """
        rows = self._in_order(
            "SELECT seq, record_id, user, sources.model, sources.generation, sources.author, vote, preferred"
            " FROM lines JOIN sources USING (seq)",
            split,
        )
        at, last = 0, 0
        for seq, record_id, user, model, generation, author, vote, preferred in rows:
            at, last = at + (seq != last), seq
            origin = LineOrigin(record_id, user, self._models[model], generation, _AUTHORS[author], vote)
            yield at, origin._replace(preferred=preferred == _COMPARED, regenerated=preferred == _ANEW)

    def record_range(self, split: Split) -> tuple[str | None, str | None]:
        """Smallest and largest record id behind the lines of a split that are still in."""
        first, last = self._db.execute(
            "SELECT min(record_id), max(record_id) FROM lines JOIN sources USING (seq) WHERE split = ?", (int(split),)
        ).fetchone()
        return first, last

    def _in_order(self, select: str, split: Split) -> Iterator[tuple[Any, ...]]:
        """Rows that begin with `seq`, oldest first; of a file that `datasets` reads in several pieces, the first has a
        line of every shape (see policies.formats.layout)."""
        heads = self._heads(split) if self._total > _ONE_PIECE else ()
        for seq in heads:
            yield from self._db.execute(f"{select} WHERE lines.seq = ?", (seq,))
        for row in self._db.execute(f"{select} WHERE split = ? ORDER BY seq DESC", (int(split),)):
            if row[0] not in heads:
                yield row

    def _heads(self, split: Split) -> dict[int, None]:
        rows = self._db.execute(
            "SELECT max(seq) FROM lines WHERE split = ? GROUP BY shape ORDER BY max(seq) DESC LIMIT ?",
            (int(split), HEADS),
        )
        return {seq: None for (seq,) in rows}

    def _number(self, model: str) -> int:
        """A model's name is kept once."""
        number = self._numbers.get(model)
        if number is None:
            number = self._numbers[model] = len(self._models)
            self._models.append(model)
        return number

    def _count(self, query: str, *args: int) -> int:
        (count,) = self._db.execute(query, args).fetchone()
        return int(count)


class SplitTally:
    """Counts per user (policies.selection.Tally): those of late in memory, the others in the staging file."""

    def __init__(self, db: sqlite3.Connection, split: Split, what: CapCounter) -> None:
        self._db, self._number = db, len(Split) * int(what) + int(split)
        self._counts: dict[int, int] = {}
        self._spilt = False

    def add(self, user: int) -> int:
        """Count one more for `user`; returns the new count."""
        count = self._counts.get(user)
        if count is None:
            count = self._stored(user) if self._spilt else 0
            if len(self._counts) >= _USERS_AT_HAND:
                self._spill()
        self._counts[user] = count + 1
        return count + 1

    def _stored(self, user: int) -> int:
        query = "SELECT n FROM users WHERE tally = ? AND user = ?"
        row = self._db.execute(query, (self._number, user)).fetchone()
        return 0 if row is None else int(row[0])

    def _spill(self) -> None:
        rows = [(self._number, user, count) for user, count in sorted(self._counts.items())]
        self._db.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", rows)
        self._counts.clear()
        self._spilt = True


class SplitPartners:
    """Unpaired answers in the staging file (policies.formats.Partners)."""

    def __init__(self, db: sqlite3.Connection, split: Split) -> None:
        self._db, self._split = db, int(split)
        self.waiting = 0
        """Answers that wait now."""

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return the answer that waited longest."""
        row = self._db.execute(
            "SELECT seq, record_id, user, author, generation, model, answer FROM waiting"
            " WHERE split = ? AND conversation = ? AND liked = ? ORDER BY seq LIMIT 1",
            (self._split, conversation, liked),
        ).fetchone()
        if row is None:
            return None
        seq, record_id, user, author, generation, model, answer = row
        self.waiting -= 1
        self._db.execute("DELETE FROM waiting WHERE seq = ?", (seq,))
        return Waiting(
            record_id=record_id,
            user=user,
            author=_AUTHORS[author],
            generation=generation,
            model=model,
            answer=answer.decode("utf-8", "surrogatepass"),
        )

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        self.waiting += 1
        answer = waiting.answer.encode("utf-8", "surrogatepass")
        self._db.execute(
            "INSERT INTO waiting (split, conversation, liked, record_id, user, author, generation, model, answer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._split,
                conversation,
                liked,
                waiting.record_id,
                waiting.user,
                int(waiting.author),
                waiting.generation,
                waiting.model,
                answer,
            ),
        )
