"""The whole story on real processes, with time compressed by configuration alone.

Customers ask and vote → trigger → a classifier is trained in a process of its own → served on a free port → a part of
the users → decision → promotion, watch, retirement, with the controller lost to `kill -9` in every phase. Its twin has
a bug in the training code, loses the server of its challenger to `kill -9`, and ends with a roll-back. Model, server,
training function and customers are those of `ratchet demo`. Every run tells the twin; what the first story promises is
kept there by tests that are needed anyway: three hosts of which the one that leads dies twice, and whose story ends the
same (`test_replicas_story.py`), the demo, whose controller dies in a training and later all its processes at once, and
a loop that dies after each of its effects (`tests/loop/test_crashes.py`). RATCHET_FULL=1 tells all of them here, too.

What a busy machine does to latency is no part of the story: latency neither counts nor blocks, and harm is proven at
one in 10,000 instead of one in 20.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from policies.assignment import assign
from policies.records import Arm
from proxy.clock import SystemClock
from proxy.demo.processes import DemoProcess, wait_until_healthy
from proxy.demo.training import Bug
from proxy.demo.users import Customer, UserTally, keep_asking
from proxy.ids import KeyRing
from tests.harness.handbook import prepared
from tests.harness.programs import free_port
from tests.harness.require import full
from tests.harness.serve import RatchetProcess, await_true, request

pytestmark = pytest.mark.slow

USERS = 400
NAMES = [f"customer-{number}" for number in range(USERS)]
QUESTIONS_PER_S = 25.0
"""Each is ten milliseconds of work, and what is asked while a controller starts again tells nothing."""
SHARE = 0.5
"""Of the users, for the challenger: with a tenth of them the same evidence takes three times as many questions."""
FIRST = 0.25
"""Of the users, before the share rises to `SHARE`."""
LAZINESS = 0.1
"""Of the answers, without a thumb: most of what there is to be judged by are thumbs."""
LOOK_S = 0.5
"""Between two looks at the status, each of which is work for the controller."""
LIMIT_S = 400.0
PHASES = {"idle", "training", "deploying", "checking", "testing", "promoting", "watching"}
TRAINED = ["dataset_ready", "training_started", "trained", "deployment_started", "check_started", "deployed"]


def settings(directory: Path, stages: tuple[float, ...], *, min_effective_users: float) -> dict[str, Any]:
    """The ordinary rules; hours become seconds."""
    return {
        "check_interval_seconds": 0.5,
        "server": {"drain_seconds": 1},
        "gateway": {"expose_arm": True},
        "trigger_config": {
            "min_new_samples": 250,
            "min_usable_samples": 60,
            "enable_scheduled": False,
            "enable_quality_drop": False,
            "cooldown_hours": 1000,
        },
        "feedback": {"anonymous": ["thumb", "correction"]},
        "generator_config": {
            "min_user_feedback": 1,
            "max_correction_share": 1.0,
            "max_corrections_per_user": 1000,
            "include_existing_data": True,
            "existing_data_path": str(directory / "rehearsal.jsonl"),
            "existing_data_share": 0.2,
            "holdout_share": 0.1,
        },
        "ab_test_config": {
            "initial_challenger_traffic": stages[0],
            "stages": list(stages),
            "min_duration_hours": 0.0005,
            "min_samples_per_version": 50,
            "min_effective_users": min_effective_users,
            "quality_weight": 0.4,
            "feedback_weight": 0.6,
            "latency_weight": 0.0,
            "alpha_harm": 0.0001,
            "watch_hours": 0.0005,
            "guardrails": {"max_slow_increase": 1.0},
        },
        "trainer": {"kind": "callable", "callable": "proxy.demo.training:train_model", "poll_seconds": 0.2},
        "deployer": {
            "kind": "command",
            "command": [sys.executable, "-m", "proxy.demo.server", "--model", "{model_path}", "--port", "{port}"],
            "options": {"stop_grace_seconds": "1"},
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A running Ratchet in front of the handbook's model, and customers who ask and vote."""

    ratchet: RatchetProcess
    tally: UserTally
    asking: asyncio.Task[None]

    async def ended(self) -> dict[str, Any]:
        """The status once the loop has decided, is idle again and has nothing left to stop."""
        end, status = time.monotonic() + LIMIT_S, {}
        while time.monotonic() < end:
            with contextlib.suppress(OSError, HTTPException, ValueError):  # the controller may be dead just now
                status = (await asyncio.to_thread(request, self.ratchet.admin_url, "/status")).json()
            totals = status.get("totals")
            decided = totals and totals["promotions"] + totals["rejections"] + sum(totals["rollbacks"].values())
            if decided and status["phase"]["name"] == "idle" and not status["retiring"]:
                return status
            assert not self.asking.done(), "the customers have gone"
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"no end; the last status: {json.dumps(status, indent=1)}\n{self.ratchet.log}")

    async def reaches(self, phase: str) -> None:
        """Return once the loop is in this phase."""

        def there() -> bool:
            document = request(self.ratchet.admin_url, "/status").json()
            return bool(document["phase"]["name"] == phase)

        await asyncio.to_thread(await_true, there, f"the phase {phase}", limit_s=LIMIT_S, every_s=LOOK_S)

    def history(self) -> list[dict[str, Any]]:
        """What the loop did, oldest first."""
        entries = request(self.ratchet.admin_url, "/api/history?limit=200").json()["entries"]
        return [entry for entry in reversed(entries) if entry["event"] is not None]

    def select(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.ratchet.data_dir / "ratchet.db", timeout=120)) as database:
            return database.execute(query).fetchall()

    def asked(self, arm: str) -> int:
        """Answers of one arm."""
        return sum(window.asked.get(arm, 0) for window in self.tally.windows)

    def fallbacks(self) -> bool:
        """Whether users of the challenger have been given to the champion."""
        with contextlib.suppress(OSError, HTTPException):
            return self.ratchet.metric("ratchet_fallbacks_total") > 0
        return False

    def accuracy(self, arm: str) -> float:
        """Share of right answers of one arm while both had users, as only the customers know it."""
        both = [window for window in self.tally.windows if {"champion", "challenger"} <= window.asked.keys()]
        return sum(window.right.get(arm, 0) for window in both) / sum(window.asked[arm] for window in both)


@contextlib.asynccontextmanager
async def told(directory: Path, *, bug: bool = False) -> AsyncIterator[Story]:
    """Start everything; with `bug`, the training code confuses its labels.

    A model that does harm cannot gain anything either, and which of the two is proven first is chance: in the story
    with the bug there are never users enough to say the latter.
    """
    model = await asyncio.to_thread(prepared, directory)
    if bug:
        (directory / "bug").write_text(Bug.EVERY_LINE.value)
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "RATCHET_DEMO_BUG": str(directory / "bug")}
    port = free_port()
    command = (sys.executable, "-m", "proxy.demo.server", "--model", str(model), "--port", str(port))
    tally, url = UserTally(), f"http://127.0.0.1:{port}"
    with DemoProcess(command, log=directory / "champion.log", env=environ) as child:
        await wait_until_healthy(f"{url}/health", child)
        stages = (SHARE,) if bug else (FIRST, SHARE)
        rules = settings(directory, stages, min_effective_users=USERS if bug else 10)
        ratchet = RatchetProcess(directory / "r", champion=url, settings=rules, environ=environ)
        people = [Customer(name, laziness=LAZINESS, activity=1.0) for name in NAMES]
        clock = SystemClock()
        try:
            await asyncio.to_thread(ratchet.start)
            await asyncio.to_thread(ratchet.await_admin)
            crowd = keep_asking(
                ratchet.base_url, people, tally, rate=QUESTIONS_PER_S, seed=1, clock=clock, started=clock.monotonic()
            )
            asking = asyncio.create_task(crowd)
            try:
                yield Story(ratchet=ratchet, tally=tally, asking=asking)
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        finally:
            await asyncio.to_thread(ratchet.stop, expect=None)
            for server in _processes(str(directory)):
                server.kill()  # a model's server outlives `ratchet serve`, which adopts it when it comes back


class Gate:
    """The loop leaves no phase before the test has opened it: some are over in an instant, which is easily missed.

    A transition that the database refuses is one that did not happen; the loop tries again, as after a crash.
    """

    def __init__(self, ratchet: RatchetProcess, *phases: str) -> None:
        """`phases`: open from the beginning."""
        path = ratchet.data_dir / "ratchet.db"
        self._database = sqlite3.connect(path, timeout=120, isolation_level=None, check_same_thread=False)
        self._database.executescript(_GATE)
        for phase in phases:
            self.open(phase)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

    def open(self, phase: str) -> None:
        """The loop may leave this phase."""
        self._database.execute("insert into open_phases values (?)", (phase,))

    def phase(self) -> str | None:
        """The phase that the loop has committed; None before its first look."""
        query = "select json_extract(value, '$.phase.name') from loop_state where name = 'loop'"
        row = self._database.execute(query).fetchone()
        return None if row is None else str(row[0])


_GATE = """
create table open_phases (phase text);
create trigger gate before update on loop_state
when json_extract(old.value, '$.phase.name') is not json_extract(new.value, '$.phase.name')
and json_extract(old.value, '$.phase.name') not in (select phase from open_phases)
begin select raise(abort, 'the test has not opened this phase yet'); end;
"""


class Assassin:
    """Kills the controller once in every phase."""

    def __init__(self, ratchet: RatchetProcess) -> None:
        self.killed: set[str] = set()
        self._ratchet = ratchet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._lurk)

    def __enter__(self) -> Assassin:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _lurk(self) -> None:
        with Gate(self._ratchet) as gate:
            while not self._stop.wait(0.05):  # no phase ends before the gate is open
                phase = gate.phase()
                if phase is None or phase in self.killed:
                    continue
                pid = self._ratchet.kill("controller")
                self.killed.add(phase)
                gate.open(phase)
                self._ratchet.await_new("controller", pid)
                self._ratchet.await_admin()


def assert_a_better_model_serves(story: Story, status: dict[str, Any]) -> None:
    totals = status["totals"]
    assert (totals["runs"], totals["retrains"], totals["promotions"], totals["returns"]) == (1, 1, 1, 0)
    assert [entry["event"] for entry in story.history()] == [
        *TRAINED, "stage_reached", "won", "promoted", "watch_finished", "retired"
    ]  # fmt: skip
    assert all(entry["reasons"] and entry["state"] == "done" for entry in story.history())
    assert status["champion"]["name"].startswith("model-")
    assert story.accuracy("challenger") > story.accuracy("champion") + 0.1
    assert story.tally.failures == 0
    why = request(story.ratchet.admin_url, "/api/explain").json()
    assert why["reasons"]
    assert why["config"]["fingerprint"]
    assert_sticky(story)


def assert_sticky(story: Story) -> None:
    """A part of the users, each on the side that the salt says for as long as the test lasted."""
    [(salt,)] = story.select("select salt from experiments")
    ring = KeyRing(story.ratchet.data_dir / "keys.json")
    sides = {ring.user_hash(name): assign(bytes.fromhex(salt), name, FIRST) for name in map(str.encode, NAMES)}
    seen = story.select(
        "select user_hash, arm from records where experiment_id is not null "
        "and epoch = (select min(epoch) from records where experiment_id is not null)"
    )
    assert {arm for _, arm in seen} == {Arm.CHAMPION, Arm.CHALLENGER}
    assert [(user, arm) for user, arm in seen if sides[user] != arm] == []


@full("test_replicas_story.py, tests/acceptance/test_demo.py and tests/docs/test_tutorial.py")
async def test_a_better_model_is_trained_tested_and_promoted(tmp_path: Path) -> None:
    async with told(tmp_path) as story:
        status = await story.ended()
        await asyncio.to_thread(assert_a_better_model_serves, story, status)


@pytest.mark.parametrize("dies", [True, pytest.param(False, marks=full("it dying, and tests/acceptance/test_demo.py"))])
async def test_a_worse_model_costs_no_answer_is_rolled_back_and_its_server_stopped(tmp_path: Path, dies: bool) -> None:
    """Users of one that dies get the champion's answers until it has been started again; both count against it."""
    async with told(tmp_path, bug=True) as story:
        with Gate(story.ratchet, *PHASES - {"testing"}) as gate:
            await asyncio.to_thread(await_true, lambda: gate.phase() == "testing", "the test", limit_s=LIMIT_S)
            [(url,)] = story.select("select url from models where name != 'champion'")
            await asyncio.to_thread(await_true, lambda: story.asked("challenger") > 20, "its users", limit_s=LIMIT_S)
            assert story.accuracy("challenger") < story.accuracy("champion")
            if dies:  # before so few users have proven any harm; from then on they get the champion's answers
                await asyncio.to_thread(kill_server, url)
                await asyncio.to_thread(await_true, story.fallbacks, "a fallback", limit_s=LIMIT_S, every_s=LOOK_S)
            gate.open("testing")
        status = await story.ended()
        assert status["phase"]["reason"]
        assert status["champion"]["name"] == "champion"
        assert (status["totals"]["promotions"], status["totals"]["rollbacks"]) == (0, {"harm": 1})
        history = await asyncio.to_thread(story.history)
        assert [entry["event"] for entry in history] == [*TRAINED, "rolled_back", "retired"]
        assert story.tally.failures == 0
        [(helped,)] = story.select("select count(*) from records where arm = 1 and served_by = 0 and status = 200")
        assert (helped > 0) is dies
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)).close()


def kill_server(url: str) -> None:
    [server] = _processes(f"--port {urlsplit(url).port}")
    server.kill()


def _processes(word: str) -> list[psutil.Process]:
    """The model servers with `word` in the command that started them."""
    running = ((process, process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [process for process, argv in running if "proxy.demo.server" in argv and word in " ".join(argv)]


@full("leaders (test_replicas_story.py), controllers (test_demo.py) and loops (loop/test_crashes.py) that are killed")
async def test_the_controller_killed_in_every_phase_changes_nothing(tmp_path: Path) -> None:
    async with told(tmp_path) as story:
        with Assassin(story.ratchet) as assassin:
            status = await story.ended()
        assert assassin.killed == PHASES
        await asyncio.to_thread(assert_a_better_model_serves, story, status)
