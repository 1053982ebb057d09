"""Settings of the store: where records live and how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.intervals import Interval
from proxy.config import forms

__all__ = ["ArchiveConfig", "RetentionConfig", "StoreConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """Bodies and metadata age separately. Whole ranges are dropped, oldest first."""

    bodies_days: Annotated[float, Interval("[0, inf)", "days, 0 to keep")] = 30.0
    """Requests and responses older than this are dropped. 0: keep."""
    records_days: Annotated[float, Interval("[0, inf)", "days, 0 to keep")] = 365.0
    """Metadata and feedback older than this are dropped. 0: keep."""
    max_bytes: Annotated[int, Interval("[0, inf)", "bytes")] = 0
    """Oldest bodies, then oldest records, are dropped while the database is larger than this. 0: no cap."""
    failed_runs_days: Annotated[float, Interval("[0, inf)", "days, 0 to keep")] = 14.0
    """Folders of trainings that failed or were cancelled are removed so long after their end, training data, logs and
    all. 0: keep."""
    interval_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 3600.0
    """Seconds between two passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """Finished days (UTC) are written here as Parquet files, and retention drops nothing that is not written yet."""

    url: str | None = None
    """Folder, or URL that fsspec knows, like s3://bucket/ratchet. Needs ratchet-proxy[archive]. None: no archive."""
    settle_hours: Annotated[float, Interval("[0, inf)", "hours")] = 1.0
    """A day is finished so long after its end: by then the spools have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """The database."""

    url: Annotated[str | None, forms.store_url] = field(default=None, metadata={"secret": True})
    """`sqlite:///path/to/file.db` or `postgresql://user:password@host/database`. None: ratchet.db in the data directory."""
    url_file: str | None = None
    """File that holds the url."""
    listen_url: Annotated[str | None, forms.postgresql_url] = field(default=None, metadata={"secret": True})
    """PostgreSQL behind a pooler (pgbouncer): a url past it, on which replicas hear of each other's changes at once. None: `url`;
    where a pooler is found there, they ask every few seconds."""
    listen_url_file: str | None = None
    """File that holds the listen_url."""
    pool_size: Annotated[int, Interval("[1, inf)", "a count")] = 5
    """Connections to PostgreSQL."""
    ingest_batch: Annotated[int, Interval("[1, inf)", "a count")] = 1000
    """Records per transaction at most."""
    ingest_interval_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 0.25
    """Longest wait of a record in the spool while the store is up."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
