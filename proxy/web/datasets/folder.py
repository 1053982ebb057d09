"""The files of a dataset, read a page at a time: lines by number, the records behind them, nothing loaded whole.

A file of a million lines is walked once to note where every 256th begins; what was noted is kept while the file is the
same. All of this blocks: call it beside the event loop.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["SPLITS", "WHY", "DatasetFolder", "DatasetLine", "LineSource", "is_run_id"]

SPLITS: Final = ("train", "holdout")
WHY: Final = ("person", "own", "elsewhere", "liked", "disliked")
"""By what lines may be chosen: whose answer it is, or how its record was voted on."""
_FILES: Final = {"train": "data.jsonl", "holdout": "holdout.jsonl"}
_STRIDE: Final = 256
_FIRST_LINE: Final = 1
_LONGEST_LINE: Final = 16_000_000
"""Bytes of one line that are looked at; what is longer is shown as the text of its beginning."""
_BEGINNING: Final = 20_000
_PORTION: Final = 1 << 20
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_run_id(name: str) -> bool:
    """Whether `name` can be a run's: never a path."""
    return _RUN_ID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSource:
    """A record behind a line, as the lineage has it. Files of earlier versions know less."""

    record_id: str
    user: int | None
    split: str
    line: int | None
    """Number of the line in its file, from 1 on."""
    model: str | None
    generation: int | None
    author: str | None
    """person, elsewhere or own."""
    vote: float | None
    """Mean of the votes on it, −1 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLine:
    """One line of a training file, and where it comes from."""

    number: int
    body: bytes
    sources: tuple[LineSource, ...]
    """None of a rehearsal line; two of a pair."""


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """What a build left in `path`. Any of its files may be gone by now."""

    path: Path

    def manifest(self) -> Mapping[str, Any] | None:
        """What manifest.json says, without what is not of its form; None where there is none that can be read."""
        try:
            content = orjson.loads((self.path / "manifest.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        if not isinstance(content, dict):
            return None
        return {name: value for name, value in content.items() if _MEMBERS.get(name, _anything)(value)}

    def size(self, split: str) -> int | None:
        """Bytes of the file of a split; None where it is gone."""
        try:
            return (self.path / _FILES[split]).stat().st_size
        except OSError:
            return None

    def count(self, split: str) -> int | None:
        """Lines of a split; None where its file is gone."""
        index = _index_of(self.path / _FILES[split], _line_index)
        return None if index is None else index.lines

    def lines(self, split: str, first: int, n: int) -> list[DatasetLine] | None:
        """`n` lines of a split from the number `first` on (the first one is 1); None where its file is gone."""
        file = self.path / _FILES[split]
        index = _index_of(file, _line_index)
        if index is None:
            return None
        try:
            bodies = list(_read(file, index, first, n))
        except OSError:  # removed this very moment, a training having ended
            return None
        behind = self.sources(split, first, n)
        return [DatasetLine(number=number, body=body, sources=behind.get(number, ())) for number, body in bodies]

    def chosen(self, split: str, why: str) -> Sequence[int] | None:
        """Numbers of the lines of a split whose records are there for this reason (WHY), in order; None where the
        lineage does not tell lines, or is gone."""
        found: Sequence[int] | None = _index_of(self.path / "lineage.csv", lambda *of: _chosen_lines(*of, split, why))
        return found

    def sources(self, split: str, first: int, n: int) -> dict[int, tuple[LineSource, ...]]:
        """The records behind these lines, by line; empty where the lineage does not tell lines."""
        index = _index_of(self.path / "lineage.csv", _lineage_index)
        found: dict[int, tuple[LineSource, ...]] = {}
        if index is None:
            return found
        buckets = range(first // _STRIDE, (first + n - 1) // _STRIDE + 1)
        ends = [index.where[split, bucket] for bucket in buckets if (split, bucket) in index.where]
        if not ends:
            return found
        start, end = min(start for start, _ in ends), max(end for _, end in ends)
        for source in self._lineage(start, end):
            if source.split == split and source.line is not None and first <= source.line < first + n:
                found[source.line] = (*found.get(source.line, ()), source)
        return found

    def tells_lines(self, split: str, of_nobody: int) -> bool:
        """Whether the lineage says whose each line of a split is, but for `of_nobody` lines, those of rehearsal.

        That of an earlier version does not, nor one that is cut.
        """
        index, lines = _index_of(self.path / "lineage.csv", _lineage_index), self.count(split) or 0
        return index is not None and 0 < lines <= index.told.get(split, 0) + of_nobody

    def record_ids(self) -> Iterator[list[bytes]]:
        """The ids in the lineage, as they stand there, in portions. Raises FileNotFoundError without one."""
        with (self.path / "lineage.csv").open("rb") as file:
            next(file, None)
            while rows := file.readlines(_PORTION):
                yield [row.partition(b",")[0] for row in rows if row[:1].isalnum()]

    def newest_sources(self, n: int) -> list[LineSource]:
        """The last `n` records of the training file's lineage, newest first: what is left once its lines are gone."""
        try:
            with (self.path / "lineage.csv").open("rb") as file:
                names = _names(next(file, b""))
                last = deque((row for row in file if b",train" in row), maxlen=n)
        except OSError:
            return []
        found = (_source(names, row) for row in reversed(last))
        return [source for source in found if source is not None]

    def _lineage(self, start: int, end: int) -> Iterator[LineSource]:
        with (self.path / "lineage.csv").open("rb") as file:
            names = _names(next(file, b""))
            file.seek(start)
            while file.tell() < end and (row := file.readline()):
                source = _source(names, row)
                if source is not None:
                    yield source


# What a manifest holds: somebody may have edited it, and no page may break of that


def _anything(value: object) -> bool:
    return True


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_count, value.values()))


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _examples(value: object) -> bool:
    lists = list(value.values()) if isinstance(value, dict) else [None]
    return all(isinstance(ids, list) and all(isinstance(name, str) for name in ids) for ids in lists)


def _reasoning(value: object) -> bool:
    return isinstance(value, dict) and _count(value.get("lines", 0)) and isinstance(value.get("kept", False), bool)


def _cost(value: object) -> bool:
    return value is None or isinstance(value, int | float)


_MEMBERS: Final[Mapping[str, Callable[[object], bool]]] = (
    dict.fromkeys(("seen", "records", "samples", "holdout_samples", "rehearsal_samples", "rehearsal_malformed",
                   "liked", "preferred", "bytes", "tokens"), _count)
    | dict.fromkeys(("dropped", "models", "authors", "generations"), _counts)
    | dict.fromkeys(("format_type", "sha256", "tokens_by", "config_fingerprint"), _text_or_none)
    | {"examples": _examples, "reasoning": _reasoning, "estimated_cost": _cost}
)  # fmt: skip


# Where lines begin


@dataclass(frozen=True, slots=True)
class _LineIndex:
    lines: int
    starts: tuple[int, ...]
    """Offsets of every 256th line."""


def _index_of(file: Path, build: Any) -> Any:
    """What `build` notes about the file in its present state; None where it is gone."""
    try:
        state = file.stat()
        return build(file, state.st_mtime_ns, state.st_size)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _line_index(file: Path, mtime_ns: int, size: int) -> _LineIndex:
    starts, offset, lines = [], 0, 0
    with file.open("rb") as rows:
        for row in rows:
            if lines % _STRIDE == 0:
                starts.append(offset)
            lines += 1
            offset += len(row)
    return _LineIndex(lines, tuple(starts))


@dataclass(frozen=True, slots=True)
class _LineageIndex:
    where: Mapping[tuple[str, int], tuple[int, int]]
    """Of every 256 lines of a split, from where to where in the lineage their records stand."""
    told: Mapping[str, int]
    """Lines of each split of which there is a record."""


@lru_cache(maxsize=8)
def _lineage_index(file: Path, mtime_ns: int, size: int) -> _LineageIndex:
    found: dict[tuple[bytes, int], tuple[int, int]] = {}
    told: Counter[str] = Counter()
    former: list[bytes] = []
    with file.open("rb") as rows:
        header = next(rows, b"")
        names, offset = _names(header), len(header)
        if "line" not in names or "split" not in names:
            return _LineageIndex({}, {})
        split, line = names.index("split"), names.index("line")  # before any cell that may be quoted
        for row in rows:
            cells = row.split(b",", line + 1)
            end = offset + len(row)
            if len(cells) > line and cells[line].isdigit():
                key = (cells[split], int(cells[line]) // _STRIDE)
                start, former_end = found.get(key, (offset, end))
                found[key] = (min(start, offset), max(former_end, end))
                if (mine := [cells[split], cells[line]]) != former:  # both records of a pair stand together
                    told[cells[split].decode("utf-8", "replace")] += 1
                    former = mine
            offset = end
    where = {(name.decode("utf-8", "replace"), bucket): ends for (name, bucket), ends in found.items()}
    return _LineageIndex(where, told)


@lru_cache(maxsize=16)
def _chosen_lines(file: Path, mtime_ns: int, size: int, split: str, why: str) -> Sequence[int] | None:
    found = array("L")
    with file.open("rb") as rows:
        names = _names(next(rows, b""))
        if "line" not in names or "split" not in names:
            return None
        for row in rows:
            source = _source(names, row)
            if source is None or source.line is None or source.split != split or not _is_there(source, why):
                continue
            if not found or found[-1] != source.line:
                found.append(source.line)
    return array("L", sorted(set(found)))


def _is_there(source: LineSource, why: str) -> bool:
    vote = source.vote or 0.0
    return source.author == why or (why == "liked" and vote > 0) or (why == "disliked" and vote < 0)


def _read(file: Path, index: _LineIndex, first: int, n: int) -> Iterator[tuple[int, bytes]]:
    at = first - _FIRST_LINE
    if not 0 <= at < index.lines:
        return
    with file.open("rb") as rows:
        rows.seek(index.starts[at // _STRIDE])
        for position in range(at // _STRIDE * _STRIDE, min(at + n, index.lines)):
            body = rows.readline(_LONGEST_LINE)
            if len(body) == _LONGEST_LINE and not body.endswith(b"\n"):
                body = body[:_BEGINNING]
                while (rest := rows.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
            if position >= at:
                yield position + _FIRST_LINE, body.rstrip(b"\n")


# The lineage's rows


def _names(header: bytes) -> list[str]:
    return header.decode("utf-8", "replace").strip().split(",")


def _source(names: list[str], row: bytes) -> LineSource | None:
    """A row by the names of its columns; None for one that is none."""
    text = row.decode("utf-8", "replace").rstrip("\r\n")
    cells = next(csv.reader([text])) if '"' in text else text.split(",")
    values = dict(zip(names, cells, strict=False))
    if not values.get("record_id") or values.get("split") not in SPLITS:
        return None
    return LineSource(
        record_id=values["record_id"],
        user=_whole(values.get("user")),
        split=values["split"],
        line=_whole(values.get("line")),
        model=values.get("model") or None,
        generation=_whole(values.get("generation")),
        author=values.get("author") or None,
        vote=_number(values.get("vote")),
    )


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
