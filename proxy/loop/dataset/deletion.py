"""Taking users out of a dataset's folder, by its lineage, and out of what a training left beside it.

Lines of theirs go from data.jsonl and holdout.jsonl, their rows from lineage.csv, and the manifest is corrected. The
new files are written aside, a mark says that they are whole, and only then do they take the places of the old ones:
killed anywhere, the next call finishes it. Whoever has an old file open (a training that runs) reads that to its end.
Where the lineage does not say whose a line is (earlier versions), the files of lines are removed.

What the training said (log, reason, progress, texts in its result) may quote samples, and goes with them: logs are
emptied, as a training that still runs may go on writing. Other files are the training's own, and are only counted.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from proxy.private import open_private, replace_private

__all__ = ["FolderReport", "blank_words", "dataset_folders", "delete_users", "has_gap", "is_unfinished", "numbers_of",
           "read_document", "remove_unfinished", "remove_untold"]  # fmt: skip

_MARK: Final = "forgetting"
_NEXT: Final = ".next"
_FILES: Final = {"train": "data.jsonl", "holdout": "holdout.jsonl"}
_REWRITTEN: Final = (*_FILES.values(), "lineage.csv", "manifest.json")
_LOGS: Final = ("train.log",)
_SAID: Final = ("failure.txt", "progress.json")
_OURS: Final = frozenset((*_REWRITTEN, *_LOGS, *_SAID, "order.json", "exit.json", "result.json", "process.json",
                          "run.lock"))  # fmt: skip
_KEPT_RESULTS: Final = ("model_path", "url", "model", "job_id")
_BLANK: Final = "removed with a user's data"
_LEAST_COLUMNS: Final = 3
_QUIET_S: Final = 60.0
"""A build that has written nothing for so long is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderReport:
    """What became of the users in one folder."""

    folder: Path
    lines: int
    """Theirs, in both files."""
    words: int
    """Files in which the training may have quoted them, and which were blanked."""
    strangers: int
    """Files that the training itself made there."""


def dataset_folders(*roots: Path) -> list[Path]:
    """Folders below `roots` in which a dataset was built: those with a lineage, or with what a build leaves behind."""
    found: dict[Path, None] = {}
    for root in roots:
        for at, names, files in os.walk(root):
            names.sort()
            if {"lineage.csv", "manifest.json", "staging.db", _MARK} & set(files):
                found[Path(at).resolve()] = None
    return list(found)


def delete_users(folder: Path, users: Collection[int], at: str) -> FolderReport:
    """Take these users (keyed hashes) out of the folder. `at` is written into the manifest: when, as ISO text.

    Raises OSError; then nothing was changed, or the next call goes on.
    """
    _finish(folder)
    names = next(_rows(folder), [])
    wanted = {str(user) for user in users}
    theirs = [row for row in _rows(folder) if row[1] in wanted] if names else []
    lines = 0
    if theirs and "line" in names:
        split, line = names.index("split"), names.index("line")
        lines = _rewrite(folder, {(row[split], int(row[line])) for row in theirs}, at)
    elif theirs:
        lines = _without_lines(folder, wanted, len(theirs), at)
    if not has_gap(folder) and not lines:
        return FolderReport(folder=folder, lines=0, words=0, strangers=0)
    words = blank_words(folder)
    strangers = sum(1 for file in folder.rglob("*") if file.is_file() and file.name not in _OURS) if lines else 0
    return FolderReport(folder=folder, lines=lines, words=words, strangers=strangers)


def remove_untold(folder: Path) -> int:
    """Remove the files of lines of a folder without a lineage: nobody can say whose they are. Returns how many."""
    if (folder / "lineage.csv").exists():
        return 0
    found = [file for name in _FILES.values() if (file := folder / name).is_file()]
    for file in found:
        file.unlink(missing_ok=True)
    return len(found)


def blank_words(folder: Path) -> int:
    """Blank what the training said; returns in how many files. Safe to repeat."""
    changed = 0
    for name in _LOGS:
        if (folder / name).is_file() and (folder / name).stat().st_size:
            os.truncate(folder / name, 0)
            changed += 1
    for file in (*(folder / name for name in _SAID), *folder.glob("openai-*.jsonl"), *folder.glob("*.tmp")):
        if file.is_file():
            file.unlink()
            changed += 1
    for name, blanked in (("exit.json", _blank_exit), ("result.json", _blank_result)):
        content = read_document(folder / name)
        if content is not None and (after := blanked(content)) != content:
            _write(folder / name, json.dumps(after).encode())
            changed += 1
    return changed


def has_gap(folder: Path) -> bool:
    """Whether users were taken out of this dataset after it was built."""
    return isinstance(manifest := read_document(folder / "manifest.json"), dict) and "deleted" in manifest


def is_unfinished(folder: Path, now: float) -> bool:
    """Whether a build that is not under way any more (Unix seconds `now`) left the folder without a manifest."""
    if (folder / "manifest.json").exists():
        return False
    newest = max((file.stat().st_mtime for file in folder.iterdir() if file.is_file()), default=0.0)
    return now - newest > _QUIET_S


def remove_unfinished(folder: Path) -> int:
    """Remove what a build left that was killed; the next attempt writes all of it anew. Returns how many files."""
    names = ("staging.db", *_REWRITTEN, *(f"{name}.tmp" for name in _REWRITTEN))
    found = [file for name in names if (file := folder / name).is_file()]
    for file in found:
        file.unlink(missing_ok=True)
    return len(found)


def _finish(folder: Path) -> None:
    """Complete what an earlier call began, or take it back."""
    whole = (folder / _MARK).exists()
    for name in _REWRITTEN:
        aside = folder / f"{name}{_NEXT}"
        if aside.exists():
            aside.replace(folder / name) if whole else aside.unlink()
    (folder / _MARK).unlink(missing_ok=True)


def _rewrite(folder: Path, gone: Collection[tuple[str, int]], at: str) -> int:
    """Write the files anew without these lines; returns how many they are."""
    digest = _copies(folder, gone)
    kept = _Left()
    dropped = _copy_lineage(folder, gone, kept)
    manifest = read_document(folder / "manifest.json")
    if isinstance(manifest, dict):
        after = _corrected(manifest, dropped, kept, at, digest)
        _write(folder / f"manifest.json{_NEXT}", json.dumps(after, indent=2).encode() + b"\n")
    _write(folder / _MARK, b"")
    _finish(folder)
    return len(gone)


@dataclass(slots=True)
class _Left:
    """Of the rows that stay: what the manifest says of them."""

    first: str | None = None
    last: str | None = None
    shared: set[str] = field(default_factory=set)
    """Records that are behind a line that goes, and behind one that stays."""

    def add(self, record: str, split: str, dropped: Collection[str]) -> None:
        """Count a row."""
        if record in dropped:
            self.shared.add(record)
        if split == "train":
            self.first = record if self.first is None else min(self.first, record)
            self.last = record if self.last is None else max(self.last, record)


def _copy_lineage(folder: Path, gone: Collection[tuple[str, int]], kept: _Left) -> list[dict[str, str]]:
    """The lineage without the lines that go, aside; returns their rows by name of column."""
    names, *_ = _rows(folder)
    split, line = names.index("split"), names.index("line")
    dropped = [
        dict(zip(names, row, strict=False))
        for row in islice(_rows(folder), 1, None)
        if (row[split], int(row[line])) in gone
    ]
    ids = {row[names[0]] for row in dropped}
    number = _numbers(gone)

    def renumbered() -> Iterator[list[str]]:
        yield names
        for row in islice(_rows(folder), 1, None):
            if (row[split], int(row[line])) not in gone:
                kept.add(row[0], row[split], ids)
                row[line] = str(number(row[split], int(row[line])))
                yield row

    _write_rows(folder / f"lineage.csv{_NEXT}", renumbered())
    return dropped


def _without_lines(folder: Path, users: Collection[str], theirs: int, at: str) -> int:
    """Of a lineage that does not tell lines: the files of lines go, the rows of the users, too."""
    for name in _FILES.values():
        (folder / name).unlink(missing_ok=True)
    manifest = read_document(folder / "manifest.json")
    if isinstance(manifest, dict):
        note = _note(manifest, theirs, at) | {"files": "removed: the lineage does not say whose a line is"}
        _write(folder / "manifest.json", json.dumps({**manifest, "deleted": note}, indent=2).encode() + b"\n")
    _write_rows(folder / "lineage.csv", (row for row in list(_rows(folder)) if row[1] not in users))
    return theirs


def _copies(folder: Path, gone: Collection[tuple[str, int]]) -> tuple[str, int, float] | None:
    """The files of lines without those, aside; returns the training file's new digest, its size, and that as a share of
    what it was. None where there is no training file any more."""
    told = None
    for split, name in _FILES.items():
        source = folder / name
        if not source.is_file():
            continue
        digest, size = hashlib.sha256(), 0
        with source.open("rb") as lines, open_private(folder / f"{name}{_NEXT}", "wb") as out:
            for number, text in enumerate(lines, start=1):
                if (split, number) not in gone:
                    digest.update(text)
                    size += out.write(text)
            _sync(out)
        if split == "train":
            told = digest.hexdigest(), size, size / max(1, source.stat().st_size)
    return told


def _numbers(gone: Collection[tuple[str, int]]) -> Callable[[str, int], int]:
    """What number a line has once those are gone."""
    by_split = {split: sorted(number for name, number in gone if name == split) for split in _FILES}
    return lambda split, number: number - bisect_left(by_split.get(split, []), number)


def _corrected(
    manifest: dict[str, Any],
    dropped: list[dict[str, str]],
    kept: _Left,
    at: str,
    digest: tuple[str, int, float] | None,
) -> dict[str, Any]:
    """The manifest of what is left. Counts by line are of each line's first record."""
    lines = {(row["split"], row["line"]): row for row in reversed(dropped)}
    trained = [row for (split, _), row in lines.items() if split == "train"]
    records = len({row["record_id"] for row in dropped} - kept.shared)
    after = {
        **manifest,
        "samples": _less(manifest, "samples", len(trained)),
        "holdout_samples": _less(manifest, "holdout_samples", len(lines) - len(trained)),
        "records": _less(manifest, "records", records),
        "dropped": {**(manifest.get("dropped") or {}), "deleted_user": _more(manifest, records)},
        "first_record_id": kept.first,
        "last_record_id": kept.last,
        "liked": _less(manifest, "liked", sum(_liked(row) for row in trained)),
        "preferred": _less(manifest, "preferred", sum(row.get("preferred") == "yes" for row in trained)),
        "regenerated": _less(manifest, "regenerated", sum(row.get("preferred") == "regenerated" for row in trained)),
        "deleted": _note(manifest, len(lines), at),
    }
    for member, column in (("models", "model"), ("authors", "author"), ("generations", "generation")):
        counted = [row for row in trained if member != "generations" or row.get("author") != "person"]
        gone = Counter(row[column] for row in counted if column in row)
        after[member] = {name: max(0, n - gone[name]) for name, n in (manifest.get(member) or {}).items()}
    if digest is not None:
        after["sha256"], after["bytes"], share = digest
        after["tokens"] = round((manifest.get("tokens") or 0) * share)
        if (cost := manifest.get("estimated_cost")) is not None:
            after["estimated_cost"] = round(cost * share, 6)
    return after


def _note(manifest: Mapping[str, Any], lines: int, at: str) -> dict[str, Any]:
    """What the manifest says of it: how many lines in all, and when the last ones."""
    return {"lines": (manifest.get("deleted") or {}).get("lines", 0) + lines, "at": at}


def _less(manifest: Mapping[str, Any], name: str, n: int) -> int:
    return max(0, int(manifest.get(name) or 0) - n)


def _more(manifest: Mapping[str, Any], n: int) -> int:
    return int((manifest.get("dropped") or {}).get("deleted_user", 0)) + n


def _liked(row: Mapping[str, str]) -> bool:
    return not row.get("preferred") and bool(row.get("vote")) and float(row["vote"]) > 0


def _blank_exit(content: Any) -> Any:
    if not isinstance(content, dict) or content.get("code") == 0:
        return content
    return {**content, "reason": content.get("kept") or _BLANK}


def _blank_result(content: Any) -> Any:
    """Numbers, and what names the model; of the library's form ({"result": …} or {"error": …}) the same."""
    if not isinstance(content, dict):
        return None
    if "error" in content:
        return {**content, "error": content.get("kept") or _BLANK}
    if isinstance(content.get("result"), dict):
        return {**content, "result": _blank_result(content["result"])}
    return numbers_of(content)


def numbers_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """A training's result without texts, but for those that name its model."""
    return {name: value if name in _KEPT_RESULTS else _numbers_of(value) for name, value in result.items()}


def _numbers_of(value: Any) -> Any:
    if isinstance(value, str):
        return _BLANK
    if isinstance(value, dict):
        return {name: _numbers_of(item) for name, item in value.items()}
    return [_numbers_of(item) for item in value] if isinstance(value, list) else value


def _rows(folder: Path) -> Iterator[list[str]]:
    """The lineage's rows, the names of its columns first; none where there is no lineage."""
    path = folder / "lineage.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.reader(file):
                if len(row) >= _LEAST_COLUMNS:
                    yield row


def _write_rows(path: Path, rows: Iterable[list[str]]) -> None:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    _write(path, content.getvalue().encode())


def _write(path: Path, content: bytes) -> None:
    replace_private(path, content, durable=True)


def read_document(path: Path) -> Any:
    """A JSON file; None where it is missing or cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
