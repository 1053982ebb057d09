"""`ratchet records delete`: a user is forgotten everywhere, and a table says where, how much, and what remains.

The database's part is done here; each host's part by its controller, or here where this host runs none. The command
may be killed and repeated: every step finds what is left to do. What cannot be reached is said, and makes the exit
status 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from policies.wording import span
from proxy.cli.common import console, say
from proxy.cli.printable import plain
from proxy.errors import PermanentError, TemporaryError

if TYPE_CHECKING:
    from proxy.app.deletion import HostDeletion
    from proxy.config.model import Config
    from proxy.ids import KeyRing
    from proxy.store.retention.forgotten import HostReport, PlaceReport
    from proxy.store.store import Store
    from proxy.store.tables.values import Deleted

__all__ = ["UserDeletion", "print_deletion"]

_ASK_S: Final = 0.2
_ALIVE_S: Final = 15.0
_BACKUPS: Final = (
    "backups, snapshots and earlier versions of objects in a bucket, files exported to other places, data sent to a "
    "training service or provider, messages that webhooks delivered: you have to delete these yourself"
)


@dataclass(slots=True)
class UserDeletion:
    """One user, under all hashes that records of the name may have."""

    config: Config
    ring: KeyRing
    user: str
    wait_s: float
    archives: Sequence[str] = ()
    """Places of archives beside the configured one."""
    places: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, store: Store) -> dict[str, Any]:
        """Delete; returns the document that `--json` prints. Raises TemporaryError while the store is away."""
        from proxy.wire.person import former_keys

        keys = former_keys(self.user)
        hashes = [self.ring.user_hash(key) for key in keys]
        names = [key.decode("utf-8", "replace") for key in keys]
        at_us = int(await store.replicas.now() * 1e6)
        parts = [await store.deletion.delete_user(hashed, names, at_us) for hashed in hashes]
        self._database(parts)
        await self._dictionary(store)
        await self._hosts(store, hashes)
        for url in dict.fromkeys((self.config.store.archive.url, *self.archives)):
            if url is not None:
                await self._archive(store, url, hashes)
        remains = await store.deletion.compact()
        if remains:
            self._add("database's files", remains=remains)
        return {
            "records": sum(part.records for part in parts),
            "votes": sum(part.votes for part in parts),
            "rows": sum(part.rows for part in parts),
            "models": sorted({name for part in parts for name in part.models}),
            "runs": sorted({run for part in parts for run in part.runs}),
            "places": self.places,
            "complete": not any(place["failed"] for place in self.places),
            "not_reached": _BACKUPS,
        }

    def _add(
        self, place: str, found: int = 0, removed: int | None = None, *, remains: str = "", failed: bool = False,
        host: str | None = None,
    ) -> None:  # fmt: skip
        self.places.append(
            {
                "place": place,
                "host": host,
                "found": found,
                "removed": found if removed is None else removed,
                "remains": remains,
                "failed": failed,
            }
        )

    def _database(self, parts: Sequence[Deleted]) -> None:
        sums = "hourly totals without names: traffic, durations, quality"
        models = sorted({name for part in parts for name in part.models})
        learnt = f"models trained on them cannot unlearn them: {', '.join(models)}" if models else ""
        for place, name, remains in (
            ("records", "records", sums),
            ("requests and answers", "bodies", ""),
            ("votes", "votes", ""),
            ("scores", "scores", ""),
            ("other names of records", "aliases", ""),
            ("users' statistics of tests", "users", "the user is no longer part of the arms' statistics"),
            ("reasons and results of trainings", "words", learnt),
        ):
            self._add(place, sum(getattr(part, name) for part in parts), remains=remains)

    async def _dictionary(self, store: Store) -> None:
        """Dictionaries hold nobody's text, but for one that an earlier version has trained."""
        gone = await store.deletion.retire_dictionary()
        if gone is False:
            why = "another host runs an older version that needs it; it is removed when all hosts are updated"
            self._add("dictionary of raw texts", 1, 0, remains=why, failed=True)
        else:
            self._add("dictionary of raw texts", 0 if gone is None else 1)

    async def _hosts(self, store: Store, hashes: Sequence[int]) -> None:
        """This host's part, and what the others report."""
        from proxy.app.deletion import HostDeletion
        from proxy.app.paths import DataDir
        from proxy.clock import SystemClock

        data = DataDir.of(self.config)
        mine = HostDeletion(data, self.config.training_dir, store, SystemClock())
        async with _without_controller(data.run) as alone:
            if alone:
                await self._own_part(store, mine)
        answers, away = await self._answers(store, mine.id, hashes)
        for answer in answers:
            for place in answer.places:
                self._place(place, answer.host)
        for host, why in away:
            self._add("spool, training data", remains=why, failed=True, host=host)

    async def _own_part(self, store: Store, mine: HostDeletion) -> None:
        """What the controller does where one runs: store what is in the spool, then clear."""
        from prometheus_client import CollectorRegistry

        from proxy.clock import SystemClock
        from proxy.ingest import Ingestor
        from proxy.metrics.traffic import TrafficMetrics
        from proxy.spool import SpoolReader

        ingestor = Ingestor(
            self.config, store, SpoolReader(mine.spool, keep_s=self.config.spool.keep_seconds),
            TrafficMetrics(CollectorRegistry()), SystemClock(), user_hash=self.ring.user_hash,
        )  # fmt: skip

        async def drain() -> None:
            while await ingestor.run_once():
                pass

        pending = await mine.pending()
        if pending:
            await mine.answer(pending, drain)

    async def _answers(
        self, store: Store, own_id: str, hashes: Sequence[int]
    ) -> tuple[list[HostReport], list[tuple[str, str]]]:
        """What the hosts report, and which did not answer in time, with the reason."""
        expected = {replica.id: replica.host for replica in await store.replicas.list()}
        expected.setdefault(own_id, "this host")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait_s
        while True:
            announced = await store.forgotten.all(hashes)
            ages = await store.replicas.ages()
            missing = {name for each in announced for name in expected if name not in each.answered_by}
            waited_for = {name for name in missing if name == own_id or ages.get(name, 0.0) <= _ALIVE_S}
            if not waited_for or loop.time() > deadline:
                break
            await asyncio.sleep(_ASK_S)
        found = {name: each.hosts[name] for each in announced for name in each.answered_by}
        away = [(expected[name], self._why(ages.get(name), alive=name in waited_for)) for name in sorted(missing)]
        return [found[name] for name in sorted(found) if name not in missing], away

    def _why(self, age_s: float | None, *, alive: bool) -> str:
        if alive:
            return (
                f"it has not finished reading its spool within {self.wait_s:g} s (the store is slow, or its controller "
                "is down); it continues by itself, repeat the command to see the result"
            )
        seen = "" if age_s is None else f", last seen {span(age_s)} ago"
        return f"it is down{seen}; it deletes its part when it is back"

    def _place(self, place: PlaceReport, host: str) -> None:
        facts = asdict(place)
        self._add(facts.pop("place"), facts.pop("found"), facts.pop("removed"), host=host, **facts)

    async def _archive(self, store: Store, url: str, hashes: Sequence[int]) -> None:
        """Days that hold the user are written anew. Another pass may be running, or have been killed; then this one
        waits until it has ended or counts as dead."""
        from proxy.cli.stores import open_place
        from proxy.clock import SystemClock
        from proxy.store.control.leases import HeldError

        try:
            place = open_place(url)
            from proxy.store.archive import PASS_KEEPS_S, Archiver

            deadline = asyncio.get_running_loop().time() + max(self.wait_s, PASS_KEEPS_S + _ASK_S)
            archiver = Archiver(store, place, SystemClock())
            while True:
                try:
                    days = await archiver.forget(hashes)
                    break
                except HeldError:
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(_ASK_S)
        except (TemporaryError, PermanentError, OSError) as exc:
            self._add(f"archive {url}", remains=str(exc) or type(exc).__name__, failed=True)
        else:
            self._add(f"archive {url}", sum(day.forgotten for day in days))


@contextlib.asynccontextmanager
async def _without_controller(run: Any) -> AsyncIterator[bool]:
    """Whether no controller works in this data directory; none can begin to meanwhile."""
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(run / "controller.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def print_deletion(document: dict[str, Any]) -> None:
    """The table, and below it what it does not show."""
    from rich.table import Table

    say(f"{document['records']} records and {document['votes']} votes deleted ({document['rows']} rows in all)")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("place", overflow="fold")
    table.add_column("found", justify="right")
    table.add_column("removed", justify="right")
    table.add_column("what remains, and why", overflow="fold")
    for place in document["places"]:
        name = place["place"] if place["host"] is None else f"{place['place']} ({place['host']})"
        table.add_row(
            plain(name, "red" if place["failed"] else ""), str(place["found"]), str(place["removed"]),
            plain(place["remains"]),
        )  # fmt: skip
    console().print(table)
    if document["models"]:
        say(f"models trained on them: {', '.join(document['models'])}")
    say(f"not reached from here: {document['not_reached']}")
