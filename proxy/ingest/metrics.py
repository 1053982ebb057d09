"""What ingest tells about itself. What it tells about the traffic is in `proxy.metrics.traffic`."""

from __future__ import annotations

from prometheus_client.registry import CollectorRegistry

from proxy.metrics.families import CounterFamily

__all__ = ["IngestMetrics"]


class IngestMetrics:
    """Counters of one ingestor; add to `.value`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> CounterFamily:
            return CounterFamily(registry, name, text)

        self.records = counter("ratchet_ingest_records", "Records stored.").cell()
        self.votes = counter("ratchet_ingest_votes", "Votes stored.").cell()
        self.parked = counter("ratchet_ingest_parked_votes", "Votes stored before their record.").cell()
        self.ambiguous = counter(
            "ratchet_ingest_ambiguous_votes",
            "Votes on an id that requests of several users share: kept, but counted for none of them.",
        ).cell()
        self.duplicates = counter("ratchet_ingest_duplicates", "Records and votes that were already stored.").cell()
        self.deleted = counter("ratchet_ingest_deleted", "Records left out because their user had been deleted.").cell()
        self.batches = counter("ratchet_ingest_batches", "Transactions.").cell()
        self.retries = counter(
            "ratchet_ingest_retries", "Attempts that failed because the store was unavailable."
        ).cell()
        self.again = counter(
            "ratchet_ingest_fed_again",
            "Requests and votes that the database lost in a failover and that were stored again from the spool.",
        ).cell()
        self.gone = counter(
            "ratchet_ingest_not_fed_again",
            "Requests and votes that the database lost in a failover and that the spool no longer had.",
        ).cell()
        self.skipped_bytes = counter("ratchet_ingest_skipped_bytes", "Unreadable bytes in the spool.").cell()
        raw = CounterFamily(
            registry, "ratchet_ingest_raw", "Frames stored raw because they could not be interpreted.", ("reason",)
        )
        self.raw = {reason: raw.cell(reason) for reason in ("unreadable", "refused", "fatal")}
        self.rejected = counter(
            "ratchet_ingest_rejected", "Frames that the store refused even as raw bytes; they are kept in a file."
        ).cell()
