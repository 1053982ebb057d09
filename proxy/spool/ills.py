"""What may be wrong with a spool, in words of counters and of people: why a frame was dropped, and what ails it now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["DROP_REASONS", "SPOOL_TROUBLES", "SpoolTrouble"]

SpoolTrouble = Literal["removed", "disk_full", "io_error", "fsync", "full"]
SPOOL_TROUBLES: Final[Mapping[SpoolTrouble, str]] = {
    "removed": "the spool's files were removed and cannot be created again: requests and votes are not recorded; see "
    "the log",
    "disk_full": "the spool's disk is full: requests and votes are not recorded until there is space",
    "io_error": "the spool cannot be written: requests and votes are not recorded; see the log",
    "fsync": "the spool's disk fails to sync: a power cut may lose what is not stored yet; see the log",
    "full": "the spool is full (spool.max_bytes): nothing is recorded until some of it is stored",
}
"""What may be wrong with a spool, the worst first, and how people are told."""
DROP_REASONS: Final = ("spool_full", "disk_full", "io_error", "too_large")
