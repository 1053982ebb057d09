"""The whole story on three hosts whose clocks differ by a minute, while hosts that lead it die.

Each host is a network namespace with its own addresses and process ids; they share a real PostgreSQL. Customers ask and
vote at any of them, the signing key is rotated meanwhile, and whoever holds the lease is killed, host and all: another
one goes on, nobody is left without an answer, and the story ends as on one host (`test_story.py`).

CI kills in two phases, RATCHET_FULL=1 in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from policies.records import TESTED, Arm
from proxy.clock import SystemClock
from proxy.ids import ForgedIdError, KeyRing, RecordIds
from proxy.store.store import Store
from tests.acceptance.test_story import SHARE, TRAINED, settings
from tests.harness.crowd import Crowd, crowd_at
from tests.harness.farm import Farm
from tests.harness.fleet import Fleet
from tests.harness.handbook import prepared
from tests.harness.hosts import HostProcess, find_faketime
from tests.harness.network import can_make_networks, network_of
from tests.harness.postgres import find_binaries, running_postgres
from tests.harness.require import FULL, need
from tests.harness.serve import await_true, request
from tests.harness.webserver import serving

pytestmark = pytest.mark.slow

DEADLY = {"idle", "training", "deploying", "testing", "promoting", "watching"} if FULL else {"training", "testing"}
CLOCKS = (30.0, 0.0, -30.0)
USERS = 400
QUESTIONS_PER_S = 150.0 if FULL else 30.0
NOTICE_S = 20.0
LIMIT_S = 600.0
LOOK_S = 0.005 if FULL else 0.05
"""Between two looks at the phase. The phases in which CI kills take seconds; not all of them do."""
TAKEOVER_S = 15.0 if FULL else LIMIT_S
"""The promise is 15 s. In CI other tests run beside this one, and how fast they let it be is no promise of ours."""
BEYOND_DOUBT_S = 5.0
IN_TEST = "epoch = (select min(epoch) from records where experiment_id is not null)"
"""Records of the test itself; a later epoch is the watch after it."""


@dataclass
class Reaper:
    """Kills the host that leads, once in each deadly phase, and starts it again when another has taken over."""

    fleet: Fleet
    deadly: set[str]
    killed: list[str] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    _coming_back: list[asyncio.Task[None]] = field(default_factory=list)

    async def lurk(self) -> None:
        """Watch the loop's own row, for some phases are short; ends when there is nothing left to kill in."""
        database = await asyncpg.connect(self.fleet.url)
        try:
            while self.deadly - set(self.killed):
                phase, fence, holder = await self._seen(database)
                if phase in self.deadly - set(self.killed) and holder is not None:
                    holder.crash()
                    await self._bury(database, holder, fence)
                await asyncio.sleep(LOOK_S)
        finally:
            await asyncio.gather(*self._coming_back)
            await database.close()

    async def _bury(self, database: Any, host: HostProcess, fence: int) -> None:
        began = time.monotonic()
        phase, now, _ = await self._seen(database)
        self.killed.append(phase)  # what it had committed when it died
        while now <= fence:
            assert time.monotonic() - began < LIMIT_S, "nobody took over"
            await asyncio.sleep(0.1)
            _, now, _ = await self._seen(database)
        self.takeovers_s.append(time.monotonic() - began)
        self._coming_back.append(asyncio.create_task(asyncio.to_thread(host.come_back)))

    async def _seen(self, database: Any) -> tuple[str, int, HostProcess | None]:
        """Phase, fence and whoever holds the lease, of one instant; nobody where it has run out or is given back."""
        row = await database.fetchrow(
            "select value->'phase'->>'name' as phase, fence, detail->>'pids' as space, "
            "expires_us / 1e6 > extract(epoch from clock_timestamp()) as held "
            "from leases left join loop_state on loop_state.name = 'loop' where leases.name = 'loop'"
        )
        up = [host for host in self.fleet.hosts if host.process is not None]
        holders = [host for host in up if row["held"] and host.process_ids == row["space"]]
        return str(row["phase"]), int(row["fence"]), next(iter(holders), None)


@contextlib.asynccontextmanager
async def told(directory: Path) -> AsyncIterator[tuple[Fleet, Farm]]:
    """Three hosts on one PostgreSQL, and the farm that trains and serves their models."""
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    need("network namespaces", can_make_networks())
    need("faketime", find_faketime() is not None)
    assert binaries is not None
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(network_of(len(CLOCKS)))
        model = await asyncio.to_thread(prepared, directory)
        server = stack.enter_context(running_postgres(binaries, network.back))
        farm = stack.enter_context(Farm(network.front, directory))
        champion = farm.serve("champion", model)
        while not await farm.ready("champion"):
            await asyncio.sleep(0.05)
        async with serving(farm.app, network.front) as services:
            rules = settings(directory, (SHARE,), min_effective_users=10) | {
                "trainer": {"kind": "http", "url": f"{services}/train", "poll_seconds": 0.2},
                "deployer": {"kind": "http", "url": f"{services}/deploy"},
            }
            fleet = Fleet(directory, server, len(CLOCKS), champion=champion, settings=rules, network=network,
                          clocks=CLOCKS)  # fmt: skip
            try:
                await asyncio.to_thread(fleet.start)
                yield fleet, farm
            finally:
                await asyncio.to_thread(fleet.stop)


async def ended(fleet: Fleet, reaping: asyncio.Task[None]) -> dict[str, Any]:
    """The status once the loop has decided, is idle again and has nothing left to stop."""

    def look() -> dict[str, Any] | None:
        for host in fleet.hosts:
            status = fleet.status(host)
            totals = status.get("totals")
            decided = totals and totals["promotions"] + totals["rejections"] + sum(totals["rollbacks"].values())
            if decided and status["phase"]["name"] == "idle" and not status["retiring"]:
                return status
        return None

    try:
        status: dict[str, Any] = await asyncio.to_thread(
            await_true, look, "the story's end", lambda: reaping.done() and reaping.result(), LIMIT_S,
            every_s=1.0,
        )  # fmt: skip
    except AssertionError as exc:
        exc.add_note(json.dumps([fleet.status(host) for host in fleet.hosts], indent=1))
        raise
    await reaping
    return status


async def test_the_story_ends_the_same_when_hosts_that_lead_it_die(tmp_path: Path) -> None:
    async with told(tmp_path) as (fleet, farm):
        key_id = await asyncio.to_thread(KeyRing(fleet.hosts[0].data_dir / "keys.json").rotate, NOTICE_S)
        reaper = Reaper(fleet, DEADLY)
        async with crowd_at([host.base_url for host in fleet.hosts], users=USERS, rate=QUESTIONS_PER_S) as crowd:
            reaping = asyncio.create_task(reaper.lurk())
            status = await ended(fleet, reaping)
            await asyncio.to_thread(await_true, lambda: signed_by(fleet, crowd, key_id), "ids signed by the new key")
        print(f"killed {reaper.killed}, taken over after {reaper.takeovers_s} s; {len(crowd.answered)} answers")
        assert set(reaper.killed) == DEADLY
        assert max(reaper.takeovers_s) < TAKEOVER_S, reaper.takeovers_s
        assert (crowd.unserved, crowd.refused) == ([], [])
        await asyncio.to_thread(fleet.check_records, crowd.answered, crowd.sent)
        await asyncio.to_thread(assert_it_ended_as_on_one_host, fleet, farm, status)
        await asyncio.to_thread(assert_every_vote_counts_once, fleet, crowd)
        await asyncio.to_thread(assert_the_later_vote_counts, fleet)
        await assert_statistics_are_those_of_the_records(fleet)


def signed_by(fleet: Fleet, crowd: Crowd, key_id: int) -> bool:
    """Whether the newest id was signed by this key, as a ring without the others tells."""
    ring = fleet.hosts[0].data_dir / "keys.json"
    alone = fleet.hosts[0].directory / "new-key.json"
    document = json.loads(ring.read_text())
    document["signing"] = [entry for entry in document["signing"] if entry["id"] == key_id]
    alone.write_text(json.dumps(document))
    with contextlib.suppress(ForgedIdError):
        return bool(RecordIds(KeyRing(alone)).verify(crowd.answered[-1]))
    return False


def assert_it_ended_as_on_one_host(fleet: Fleet, farm: Farm, status: dict[str, Any]) -> None:
    totals = status["totals"]
    assert (totals["runs"], totals["retrains"], totals["promotions"], totals["returns"]) == (1, 1, 1, 0)
    assert (len(farm.trainings), farm.deployments) == (1, [status["champion"]["name"]])
    history = fleet.ask(fleet.replicas[0], "/api/history?limit=200")["entries"]
    events = [entry["event"] for entry in reversed(history) if entry["event"] is not None]
    assert events == [*TRAINED, "won", "promoted", "watch_finished", "retired"]
    assert fleet.late_entries() == []
    steps = fleet.query("select at_us - lag(at_us) over (order by seq) from journal order by seq offset 1")
    assert min(map(int, steps)) > -5_000_000, "journalled in the order of time, though clocks differ by a minute"
    sides = fleet.query(
        f"select min(arm), max(arm) from records where {IN_TEST} and user_hash is not null group by user_hash"
    )
    assert set(sides) == {"0|0", "1|1"}, "a user is on one side, whichever host answers"


def assert_every_vote_counts_once(fleet: Fleet, crowd: Crowd) -> None:
    """A vote whose answer was lost with its host was given again, and has two rows of one voter."""

    def stored() -> bool:
        (row,) = fleet.query("select count(*), count(*) filter (where joined) from feedback")
        rows, joined = map(int, row.split("|"))
        return crowd.votes <= rows == joined <= crowd.votes + crowd.broken

    await_true(stored, "all votes to be stored and to count", fleet.check)


def assert_the_later_vote_counts(fleet: Fleet) -> None:
    """First a vote where the clock is ahead by half a minute, then another where it is as far behind.

    Some seconds lie between: hosts agree to a tenth of one, or to as long as the database takes to tell the time.
    """
    ahead, _, behind = fleet.hosts
    body = {"model": "m", "messages": [{"role": "user", "content": "where is my order"}]}
    token = request(ahead.base_url, "/v1/chat/completions", method="POST", body=body).headers["x-ratchet-record-id"]
    record = RecordIds(KeyRing(ahead.data_dir / "keys.json")).verify(token)
    mine = f"from feedback where record_id = '{record}' and joined"
    past = f"select 1 {mine} and created_us / 1e6 + {BEYOND_DOUBT_S} < extract(epoch from clock_timestamp())"
    for host, feedback in ((ahead, 1), (behind, -1)):
        vote = {"record_id": token, "feedback": feedback, "source": "somebody who thinks again"}
        assert request(host.base_url, "/-/feedback", method="POST", body=vote).status == 202
        await_true(lambda: fleet.query(past), "the vote to be the past")
    await_true(lambda: fleet.query(f"select 1 {mine} and feedback = -1"), "the other vote")
    assert fleet.query(f"select feedback {mine} order by created_us") == ["1", "-1"]
    assert fleet.query(f"select feedback from records where id = '{record}'") == ["-1"]


async def assert_statistics_are_those_of_the_records(fleet: Fleet) -> None:
    (epoch,) = fleet.query(f"select distinct epoch from records where {IN_TEST}")
    rows = fleet.query(f"select arm, count(*), count(distinct user_hash) from records where {IN_TEST} group by arm")
    counted = {Arm(int(arm)): (int(n), int(users)) for arm, n, users in (row.split("|") for row in rows)}
    store = await Store.open(fleet.url, clock=SystemClock(), pool_size=1)
    try:
        stats = await store.statistics.arms(1, int(epoch))
    finally:
        await store.close()
    assert {arm: (stats[arm].requests, stats[arm].moments.users) for arm in TESTED} == counted
