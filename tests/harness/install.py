"""A data directory as a server leaves it: keys, a SQLite store with records in it, made through the ordinary doors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from policies.records import Arm, StickySource
from proxy.clock import ManualClock
from proxy.config import Config, parse_config
from proxy.ids import KeyRing, RecordIds
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote
from tests.harness.tables import sqlite_with_tables


@dataclass
class Install:
    """One install below `root`, at a time that stands still."""

    root: Path
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.keys = KeyRing.load_or_create(self.root / "keys.json")
        self.ids = RecordIds(self.keys)

    @property
    def config(self) -> Config:
        """A configuration with this data directory."""
        return parse_config({"server": {"data_dir": str(self.root)}, "champion": {"url": "http://127.0.0.1:1"}})

    async def open_store(self) -> Store:
        """The store of this install; whoever opens it closes it."""
        return await Store.open(sqlite_with_tables(self.root / "ratchet.db"), clock=self.clock)

    def record(self, *, user: str = "ann", query: str = "What is 65816?", response: str = "A CPU.", model_id: int = 1,
               arm: Arm = Arm.CHAMPION, quality: float = 0.8, status: int = 200,
               aliases: Sequence[str] = ()) -> NewRecord:  # fmt: skip
        """A chat of `user`, one second after the one before."""
        self.clock.advance(1.0)
        body = BodyPayload(
            method="POST",
            target="/v1/chat/completions",
            request=b'{"model": "m"}',
            response=b'{"choices": []}',
            query=query,
            response_text=response,
        )
        return NewRecord(
            id=self.ids.mint(self.clock.now()).hex,
            user_hash=self.keys.user_hash(user.encode()),
            key_source=StickySource.HEADER,
            arm=arm,
            served_by=arm,
            model_id=model_id,
            kind="chat",
            status=status,
            duration_us=120_000,
            prompt_tokens=7,
            completion_tokens=5,
            quality=quality,
            quality_source="heuristic",
            body=body,
            aliases=tuple(aliases),
        )

    def vote(self, record: NewRecord, feedback: int, source: str = "bob") -> NewVote:
        """A vote on `record`, now."""
        fid = self.ids.new_uuid(self.clock.now())
        created_us = int(self.clock.now() * 1e6)
        return NewVote(fid=fid, record_id=record.id, source=source, feedback=feedback, created_us=created_us)

    async def fill(self, records: Sequence[NewRecord], votes: Sequence[NewVote] = ()) -> None:
        """Put them into the store, with a model that answered."""
        store = await self.open_store()
        try:
            await store.models.add("champion")
            await store.ingest.apply(
                IngestBatch(writer="w0-1-1", segment=1, offset=1, records=tuple(records), votes=tuple(votes))
            )
        finally:
            await store.close()
