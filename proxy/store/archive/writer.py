"""Writing one day: records into row groups, row groups into files, files to the archive as they fill up. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from proxy.store.archive.location import ArchiveStore, DayFile
from proxy.store.archive.table import ENUMERATIONS, schema, to_row, weight
from proxy.store.tables.values import RecordView

__all__ = ["PART_BYTES", "DayWriter"]

PART_BYTES: Final = 256 << 20
"""A file is closed when it has grown to this."""
_GROUP_ROWS: Final = 10_000
_GROUP_BYTES: Final = 32 << 20
"""A row group is kept in memory while it is put together; as one is read."""
_LEVEL: Final = 6


class DayWriter:
    """Give it a day's records in order of their ids with `add`, then `finish`."""

    def __init__(
        self, place: ArchiveStore, date: str, version: str, scratch: Path, part_bytes: int = PART_BYTES
    ) -> None:
        """Files are put together in `scratch` and named for `version`, which no earlier writing of the day has used."""
        self._place, self._date, self._version = place, date, version
        self._scratch = scratch
        self._part_bytes = part_bytes
        self._group_bytes = min(_GROUP_BYTES, part_bytes)
        self._files: list[DayFile] = []
        self._group: list[dict[str, Any]] = []
        self._weight = 0
        self._open: pq.ParquetWriter | None = None
        self._first_id = self._last_id = ""
        self._in_file = 0
        self.records = self.bodies = self.votes = 0

    def add(self, views: Iterable[RecordView]) -> None:
        """Some more records."""
        for view in views:
            self._group.append(to_row(view))
            self._weight += weight(view)
            self.records += 1
            self.bodies += view.body is not None
            self.votes += len(view.votes)
            if len(self._group) >= _GROUP_ROWS or self._weight >= self._group_bytes:
                self._write_group()

    def finish(self) -> tuple[DayFile, ...]:
        """Upload the last file; returns all of them."""
        self._write_group()
        self._close_file()
        return tuple(self._files)

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._open is None:
            self._first_id = self._group[0]["id"]
            self._open = pq.ParquetWriter(
                self._local, schema(), compression="zstd", compression_level=_LEVEL, use_dictionary=list(ENUMERATIONS)
            )
        self._open.write_batch(pa.RecordBatch.from_pylist(self._group, schema=schema()))
        self._last_id = self._group[-1]["id"]
        self._in_file += len(self._group)
        self._group, self._weight = [], 0
        if self._local.stat().st_size >= self._part_bytes:
            self._close_file()

    def _close_file(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self._open = None
        with self._local.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        file = DayFile(
            name=f"{self._version}-{len(self._files):05}.parquet",
            records=self._in_file,
            bytes=self._local.stat().st_size,
            sha256=sha256,
            first_id=self._first_id,
            last_id=self._last_id,
        )
        self._place.put(self._local, self._date, file.name)
        self._local.unlink()
        self._files.append(file)
        self._in_file = 0

    @property
    def _local(self) -> Path:
        return self._scratch / f"{self._version}.parquet"
