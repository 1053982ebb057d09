"""The archive: finished days as Parquet files (zstd) at any fsspec URL, which the database then need not keep.

    date=2026-01-31/<version>-00000.parquet   records in order of their ids, everything that is known about each
                    manifest.json             which files make up the day, written last

A day is its manifest: files that it does not name do not count. A pass may be stopped anywhere and repeated; it brings
every day up to what the store knows now (late records and votes are added, deleted users are taken out) without losing
what retention has dropped from the store since. The columns are in `table.py`.

pyarrow and fsspec come with `pip install 'ratchet-proxy[archive]'`; buckets need their driver too (s3fs, gcsfs, adlfs).
"""

from proxy.store.archive.archiver import PASS_KEEPS_S, ArchivedDay, Archiver
from proxy.store.archive.location import ArchiveStore
from proxy.store.archive.source import ArchiveSource

__all__ = ["PASS_KEEPS_S", "ArchiveSource", "ArchiveStore", "ArchivedDay", "Archiver"]
