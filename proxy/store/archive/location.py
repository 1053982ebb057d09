"""Where the archive is: days, their manifests and files, at one fsspec URL. Blocking; called in threads.

What appears under its name is whole: an object store shows a file when its upload has ended; on a file system it is
copied aside, synced and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from proxy.errors import PermanentError, TemporaryError
from proxy.private import make_folder, open_private, write_private
from proxy.store.archive.table import from_row
from proxy.store.tables.partitions import DAY_S
from proxy.store.tables.values import RecordView

__all__ = ["ArchiveStore", "DayFile", "DayManifest", "date_of"]

_MANIFEST: Final = "manifest.json"
_BATCH_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFile:
    """One Parquet file of a day."""

    name: str
    records: int
    bytes: int
    sha256: str
    first_id: str
    last_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayManifest:
    """What is archived of one day."""

    date: str
    """UTC, like 2026-01-31."""
    files: tuple[DayFile, ...]
    """In order of the ids."""
    records: int
    bodies: int
    """Records with a body."""
    votes: int
    store_records: int
    """What the store held when it was last compared."""
    store_votes: int
    forgotten_us: int
    """Users deleted up to this instant (Unix µs) are not in here."""
    written_at: str
    version: str
    """Of Ratchet."""
    format: int = 1

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the bytes of manifest.json. Raises PermanentError for a format of a later version."""
        content: dict[str, Any] = json.loads(data)
        if content["format"] != 1:
            raise PermanentError(
                f"the archive's day {content['date']} has format {content['format']}, this version reads 1; update it"
            )
        content["files"] = tuple(DayFile(**file) for file in content["files"])
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


def date_of(day: int) -> str:
    """The UTC date of a day that is counted from the Unix epoch."""
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


class ArchiveStore:
    """An archive at `url`, which may be a path. Raises PermanentError where a library for it is missing."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise PermanentError(
                f"the archive {url} cannot be used: {error}; pip install 'ratchet-proxy[archive]', and the driver of "
                "the bucket (s3fs, gcsfs, adlfs)"
            ) from error
        self._local = "file" in self._fs.protocol

    def dates(self) -> list[str]:
        """Archived days, oldest first."""
        with self._talking():
            self._fs.invalidate_cache()
            found = self._fs.glob(f"{self._root}/date=*/{_MANIFEST}")
        return sorted(name.split("/")[-2].removeprefix("date=") for name in found)

    def manifest(self, date: str) -> DayManifest | None:
        """Of one day; None where it is not archived."""
        with self._talking():
            try:
                return DayManifest.parse(self._fs.cat_file(self._path(date, _MANIFEST)))
            except FileNotFoundError:
                return None

    def put(self, source: Path, date: str, name: str) -> None:
        """Upload a local file of a day."""
        with self._talking():
            if self._local:
                _copy_durably(source, Path(self._path(date, name)))
            else:
                self._fs.put_file(str(source), self._path(date, name))

    def publish(self, manifest: DayManifest, scratch: Path) -> None:
        """Make these files the day, and remove what it was before."""
        text = scratch / _MANIFEST
        write_private(text, json.dumps(asdict(manifest), indent=2) + "\n")
        self.put(text, manifest.date, _MANIFEST)
        named = {_MANIFEST, *(file.name for file in manifest.files)}
        with self._talking():
            self._fs.invalidate_cache()
            for path in self._fs.ls(self._path(manifest.date), detail=False):
                if path.rsplit("/", 1)[-1] not in named:
                    self._fs.rm_file(path)

    def tidy(self) -> int:
        """Remove what no manifest names: files of a writing that was killed. Returns how many. While nobody writes."""
        gone = 0
        with self._talking():
            self._fs.invalidate_cache()
            for folder in self._fs.glob(f"{self._root}/date=*"):
                manifest = self.manifest(folder.rstrip("/").rsplit("/", 1)[-1].removeprefix("date="))
                named = {_MANIFEST, *(file.name for file in manifest.files)} if manifest is not None else set()
                for path in self._fs.ls(folder, detail=False):
                    if path.rsplit("/", 1)[-1] not in named:
                        self._fs.rm_file(path)
                        gone += 1
        return gone

    def records(
        self, manifest: DayManifest, *, after_id: str | None, before_id: str | None, newest_first: bool
    ) -> Iterator[list[RecordView]]:
        """The day's records between two ids, both exclusive, some at a time. Reads one row group after the other."""
        import pyarrow.parquet as pq

        step = -1 if newest_first else 1
        for file in manifest.files[::step]:
            if (after_id is not None and file.last_id <= after_id) or (
                before_id is not None and file.first_id >= before_id
            ):
                continue
            with self._talking(), self._fs.open(self._path(manifest.date, file.name), "rb") as source:
                parquet = pq.ParquetFile(source)
                for group in range(parquet.num_row_groups)[::step]:
                    table = parquet.read_row_group(group)
                    for start in range(0, table.num_rows, _BATCH_ROWS)[::step]:
                        rows = table.slice(start, _BATCH_ROWS).to_pylist()[::step]
                        yield [
                            from_row(row)
                            for row in rows
                            if (after_id is None or row["id"] > after_id)
                            and (before_id is None or row["id"] < before_id)
                        ]

    def records_of(self, manifest: DayManifest, users: Sequence[int]) -> int:
        """How many records of these users the day holds; reads one column."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        wanted = pa.array(users, pa.int64())
        held = 0
        for file in manifest.files:
            with self._talking(), self._fs.open(self._path(manifest.date, file.name), "rb") as source:
                column = pq.read_table(source, columns=["user_hash"]).column("user_hash")
            held += pc.sum(pc.is_in(column, value_set=wanted)).as_py() or 0
        return held

    def _path(self, date: str, name: str = "") -> str:
        return f"{self._root}/date={date}/{name}".rstrip("/")

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TemporaryError(f"the archive {self.url} cannot be reached: {error}") from error


def _copy_durably(source: Path, target: Path) -> None:
    make_folder(target.parent)
    aside = target.with_name(f".{target.name}.tmp")
    with source.open("rb") as read, open_private(aside, "wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())
    aside.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
