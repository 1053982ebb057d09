"""Several replicas on one PostgreSQL: each a whole `ratchet serve` with a directory, ports and a spool of its own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from proxy.ids import KeyRing, RecordIds
from tests.harness.load import Load
from tests.harness.postgres import PostgresServer
from tests.harness.serve import RatchetProcess, await_true, request

__all__ = ["Fleet"]


class Fleet:
    """Replicas on a new database of `server`."""

    def __init__(
        self, directory: Path, server: PostgresServer, size: int, *, champion: str, settings: Mapping[str, Any]
    ) -> None:
        self.server = server
        self.url = server.new_database()
        self.replicas = [
            RatchetProcess(
                directory / f"replica-{n}",
                champion=champion,
                settings={
                    **settings,
                    "store": {"url": self.url, "ingest_interval_seconds": 0.05},
                    "trainer": {**settings.get("trainer", {}), "directory": str(directory / "training")},
                },
            )
            for n in range(size)
        ]

    def start(self) -> None:
        """All at once: whoever is first makes the tables, the keys and the first decision."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(_start, self.replicas))
        await_true(self.leader, "a leader", self.check)

    def stop(self) -> None:
        for replica in self.replicas:
            replica.terminate()
        for replica in self.replicas:
            replica.wait(expect=None)

    def check(self) -> None:
        """Raise where a replica has ended by itself."""
        for replica in self.replicas:
            assert replica.process is not None
            assert replica.process.poll() is None, replica.log

    def status(self, replica: RatchetProcess) -> dict[str, Any]:
        """Its /status; empty while it does not answer."""
        try:
            return dict(request(replica.admin_url, "/status", timeout_s=5).json())
        except (OSError, ValueError):
            return {}

    def order(self, replica: RatchetProcess, verb: str) -> int:
        """Ask `replica` for something; returns the command's id."""
        body = {"verb": verb, "why": "the test asks for it"}
        answer = request(replica.admin_url, "/api/commands", method="POST", body=body, headers={"x-ratchet-csrf": "1"})
        assert answer.status == 202, answer.body
        return int(answer.json()["id"])

    def leader(self) -> RatchetProcess | None:
        """Whoever holds the lease now, by the database."""
        row = self.query("select detail->>'pid' from leases where name = 'loop' and expires_us > "
                         "extract(epoch from clock_timestamp()) * 1e6")  # fmt: skip
        pids = {replica.controller_pid: replica for replica in self.replicas}
        return pids.get(int(row[0])) if row else None

    def query(self, sql: str) -> list[str]:
        """The first column of `sql`, as text."""
        done = subprocess.run(
            ["psql", self.url, "-X", "-At", "-c", sql], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.split()

    def records(self) -> list[str]:
        """Ids of all records."""
        return [line.replace("-", "") for line in self.query("select id from records")]

    async def assert_nothing_lost(self, *loads: Load) -> None:
        """Every whole answer has its record, whichever replica gave it, and no request has two."""
        ids = RecordIds(KeyRing.load_or_create(self.replicas[0].data_dir / "keys.json"))
        answered = {ids.verify(token) for load in loads for token in load.answered}
        assert len(answered) == sum(len(load.answered) for load in loads) > 0
        await asyncio.to_thread(
            await_true, lambda: answered <= set(self.records()), "every answer to be stored", self.check, 60
        )
        stored = self.records()
        assert len(stored) == len(set(stored)) <= sum(load.sent for load in loads)


def _start(replica: RatchetProcess) -> None:
    replica.start()
    replica.await_admin()
