"""Several replicas on one PostgreSQL: each a whole `ratchet serve` with a directory, ports and a spool of its own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

from proxy.ids import KeyRing, RecordIds
from tests.harness.hosts import TOKEN, HostProcess
from tests.harness.load import Load
from tests.harness.network import Network
from tests.harness.postgres import PostgresServer
from tests.harness.serve import RatchetProcess, await_true, request

__all__ = ["Fleet"]


class Fleet:
    """Replicas on a new database of `server`: on ports of this machine, or each on a host of `network`."""

    def __init__(
        self,
        directory: Path,
        server: PostgresServer,
        size: int,
        *,
        champion: str,
        settings: Mapping[str, Any],
        network: Network | None = None,
        clocks: Sequence[float] = (),
    ) -> None:
        """`clocks`: by how many seconds the hosts' clocks are ahead."""
        self.server = server
        self.url = server.new_database()
        self._admin = {} if network is None else {"authorization": f"Bearer {TOKEN}"}
        whole = {
            **settings,
            "store": {"url": self.url, "ingest_interval_seconds": 0.05},
            "sticky": {"trusted_networks": ["127.0.0.0/8", "198.18.0.0/15"]},  # its crowd is a backend of its own
            "trainer": {**settings.get("trainer", {}), "directory": str(directory / "training")},
        }
        folders = [directory / f"replica-{n}" for n in range(size)]
        self.hosts = [] if network is None else [
            HostProcess(folder, network, n, champion=champion, settings=whole, clock_ahead_s=ahead_s)
            for n, (folder, ahead_s) in enumerate(zip(folders, [*clocks, *[0.0] * size], strict=False))
        ]  # fmt: skip
        self.replicas: Sequence[RatchetProcess] = self.hosts or [
            RatchetProcess(folder, champion=champion, settings=whole) for folder in folders
        ]

    def start(self) -> None:
        """All at once: whoever is first makes the tables, the keys and the first decision.

        Ends when all have the same keys: on a busy machine one may have begun with keys of its own, and join later.
        """
        with ThreadPoolExecutor() as pool:
            list(pool.map(_start, self.replicas))
        await_true(self.leader, "a leader", self.check)
        await_true(self._agree_on_keys, "the same keys everywhere", self.check)

    def stop(self) -> None:
        for replica in self.replicas:
            replica.terminate()
        for replica in self.replicas:
            replica.wait(expect=None)

    def _agree_on_keys(self) -> bool:
        first, *others = [KeyRing(replica.data_dir / "keys.json").document() for replica in self.replicas]
        return all(other == first for other in others)

    def check(self) -> None:
        """Raise where a replica has ended by itself; one that a test killed has no process."""
        for replica in self.replicas:
            assert replica.process is None or replica.process.poll() is None, replica.log

    def status(self, replica: RatchetProcess) -> dict[str, Any]:
        """Its /status; empty while it does not answer."""
        try:
            return dict(request(replica.admin_url, "/status", headers=self._admin, timeout_s=8).json())
        except (OSError, HTTPException, ValueError):
            return {}

    def ask(self, replica: RatchetProcess, path: str) -> Any:
        """What its admin port answers, as a document."""
        return request(replica.admin_url, path, headers=self._admin).json()

    def order(self, replica: RatchetProcess, verb: str) -> int:
        """Ask `replica` for something; returns the command's id."""
        body = {"verb": verb, "why": "the test asks for it"}
        headers = {"x-ratchet-csrf": "1", **self._admin}
        answer = request(replica.admin_url, "/api/commands", method="POST", body=body, headers=headers)
        assert answer.status == 202, answer.body
        return int(answer.json()["id"])

    def leader(self) -> RatchetProcess | None:
        """Whoever holds the lease now, by the database."""
        row = self.query("select detail->>'pids', detail->>'pid' from leases where name = 'loop' and expires_us > "
                         "extract(epoch from clock_timestamp()) * 1e6")  # fmt: skip
        space, _, pid = row[0].partition("|") if row else ("", "", "")
        running = [replica for replica in self.replicas if replica.process is not None]
        return next((replica for replica in running if _is(replica, space, pid)), None)

    def query(self, sql: str) -> list[str]:
        """What `sql` gives, as text; columns are joined by a bar."""
        done = subprocess.run(
            ["psql", self.url, "-X", "-At", "-c", sql], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.split()

    def late_entries(self) -> list[str]:
        """Journal entries whose fence is lower than an earlier one's: written under a lease that had moved on."""
        return self.query(
            "select seq from journal late where fence < (select max(fence) from journal where seq < late.seq) "
            "order by seq"
        )

    def records(self) -> list[str]:
        """Ids of all records."""
        return [line.replace("-", "") for line in self.query("select id from records")]

    async def assert_nothing_lost(self, *loads: Load) -> None:
        """Every whole answer has its record, whichever replica gave it, and no request has two."""
        await asyncio.to_thread(
            self.check_records, [token for load in loads for token in load.answered], sum(load.sent for load in loads)
        )

    def check_records(self, tokens: Sequence[str], sent: int) -> None:
        """Wait until each whole answer has its record; then there are no two of one, nor more than were `sent`."""
        ids = RecordIds(KeyRing(self.replicas[0].data_dir / "keys.json"))
        answered = {ids.verify(token) for token in tokens}
        assert len(answered) == len(tokens) > 0
        await_true(lambda: answered <= set(self.records()), "every answer to be stored", self.check)
        stored = self.records()
        assert len(stored) == len(set(stored)) <= sent


def _is(replica: RatchetProcess, space: str, pid: str) -> bool:
    """Whether that is the process id of its controller, where it lives."""
    if isinstance(replica, HostProcess) and replica.process_ids != space:
        return False
    return (replica.data_dir / "run" / "controller.pid").read_text().split() == [pid]


def _start(replica: RatchetProcess) -> None:
    replica.start()
    replica.await_admin()
