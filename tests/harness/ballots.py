"""The side app of a worker behind a real socket, its spool, and a store that ingests it: votes from wire to row."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from prometheus_client.registry import CollectorRegistry

from policies.ballots import BallotTrust
from proxy.config import parse_config
from proxy.ingest.ingestor import Ingestor
from proxy.metrics.shared import SharedCounters, read_counters
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordView, VoteView
from proxy.web.public import FEEDBACK_COUNTERS, create_public_app
from tests.harness.install import Install
from tests.harness.webserver import serving

TOKEN = "the back end's own feedback token"


@dataclass
class Ballots:
    """One install that takes votes; `settings` go into the table `feedback`."""

    root: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    spool_bytes: int = 1 << 26
    public_url: str | None = None
    url: str = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve and have a store until left."""
        self.install = Install(self.root)
        document = {
            "server": {"data_dir": str(self.root), "public_url": self.public_url},
            "champion": {"url": "http://127.0.0.1:1"},
            "feedback": {"token": TOKEN, **self.settings},
            "spool": {"max_bytes": self.spool_bytes, "segment_bytes": self.spool_bytes},
        }
        config = parse_config(document)
        self.spool = SpoolWriter(self.root / "spool", config.spool)
        counters = SharedCounters(self.root / "stats", FEEDBACK_COUNTERS)
        app = create_public_app(
            config, self.spool, self.install.ids, counters, self.install.clock, ambiguous=self.ambiguous
        )
        self.store: Store = await self.install.open_store()
        self.ingestor = Ingestor(
            config,
            self.store,
            SpoolReader(self.root / "spool"),
            TrafficMetrics(CollectorRegistry()),
            self.install.clock,
        )
        try:
            async with serving(app) as self.url:
                yield self
        finally:
            self.spool.close()
            counters.close()
            await self.store.close()

    async def ambiguous(self, aliases: Sequence[str]) -> frozenset[str]:
        """What the controller would tell a worker."""
        return await self.store.ingest.ambiguous(aliases)

    async def record(self, *aliases: str, user: str = "ann") -> NewRecord:
        """An answered chat that these other names mean, in the store."""
        made = self.install.record(user=user, aliases=aliases)
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(made,)))
        return made

    async def view(self, record: NewRecord) -> RecordView:
        """The record, after all votes that were taken so far."""
        await self.ingestor.run_once()
        found = await self.store.records.get(record.id)
        assert found is not None
        return found

    async def thumb(self, record: NewRecord) -> float | None:
        """What people think of it: -1 to 1."""
        return (await self.view(record)).row.feedback

    async def last_vote(self, record: NewRecord) -> VoteView:
        """The newest vote on it."""
        return (await self.view(record)).votes[-1]

    def refusals(self, reason: str) -> float:
        """Requests that were refused for that reason."""
        return read_counters(self.root / "stats")[f'feedback_refused_total{{reason="{reason}"}}']


def believed(vote: VoteView) -> bool:
    """Whether it came with the token."""
    return bool(vote.trust & BallotTrust.TOKEN)
