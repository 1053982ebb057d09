"""The write-ahead log between the gateway and the store: frames in segment files, one row of them per process."""

from proxy.spool.layout import is_alive, writers_of
from proxy.spool.reader import SpoolBatch, SpoolReader
from proxy.spool.usage import SpoolUsage
from proxy.spool.writer import DROP_REASONS, SpoolWriter

__all__ = ["DROP_REASONS", "SpoolBatch", "SpoolReader", "SpoolUsage", "SpoolWriter", "is_alive", "writers_of"]
