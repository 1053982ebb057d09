"""The demo from beginning to end.

    train a first model on the handbook and serve it          (the model you already have)
    ratchet serve in front of it                              (an ordinary process)
    customers ask and vote until two better models have been promoted and stood the watch
    plant a bug in the training code: the next challenger is bad, and the gate stops it before any user sees it
    plant a subtler one, which the golden file cannot show: now the users must find out; then it is mended
    meanwhile kill -9 a worker, the controller in the midst of a training, and in the next one everything at once
    compare what the customers have received with what is in the log
    draw what the customers know to be true, and say what to type next

Nothing here decides anything: the story reads /status, /api/history and /api/records like any other client.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from policies.lifecycle import Phase
from proxy.clock import Clock, SystemClock
from proxy.demo.kills import Kill, Victim, kill, running
from proxy.demo.model import fit
from proxy.demo.plot import Mark
from proxy.demo.processes import DemoProcess, wait_until_healthy
from proxy.demo.settings import write_settings
from proxy.demo.training import Bug
from proxy.demo.users import UserTally, customers, keep_asking
from proxy.demo.world import handbook, topic_of
from proxy.loop.adapters import processes
from proxy.loop.adapters.deployers.command import free_port, running_servers
from proxy.private import replace_private
from proxy.status import PhaseStatus, Status, read_status
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Scene", "Theatre", "play", "prepare", "raise_curtain", "settle"]

_BUG = "plant-a-bug"
_GOLDEN = "golden.jsonl"
_LOOK_S = 0.25
_LOOKS_PER_COUNT = 4
_SETTLE_S = 60.0
_SENT_BACK = {"rolled_back", "rejected", "returned"}
_UNSEEN = "check_rejected"
_DECISIVE = {
    "training_started": "retrain",
    "promoted": "promoted",
} | dict.fromkeys((*_SENT_BACK, _UNSEEN), "sent back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Theatre:
    """Where the demo runs."""

    directory: Path
    url: str
    admin_url: str
    server: DemoProcess
    """`ratchet serve`."""
    seed: int
    promotions: int
    """Promotions to see before the bug is planted."""
    rate: float
    """Questions a second."""

    @property
    def bug(self) -> Path:
        """While this file exists, the training function has a bug."""
        return self.directory / _BUG

    @property
    def data_dir(self) -> Path:
        """What `ratchet serve` owns."""
        return self.directory / "data"


@dataclass(slots=True)
class Scene:
    """What the audience sees: refreshed a few times a second."""

    tally: UserTally = field(default_factory=UserTally)
    status: Status = field(default_factory=lambda: Status(phase=PhaseStatus(name="starting")))
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    """(seconds, event, plain English) of every decision so far, oldest first."""
    marks: list[Mark] = field(default_factory=list)
    promotions: int = 0
    """Promotions that have stood their watch window."""
    bug: Bug | None = None
    """The one that is in the training code now."""
    bad_run: bool = False
    """A training has begun since the bug was planted."""
    caught: dict[Bug, str] = field(default_factory=dict)
    """Who has sent the bad challenger back: the gate, or users."""
    kills: list[Kill] = field(default_factory=list)
    processes: dict[str, int] = field(default_factory=dict)
    """Process ids of `ratchet serve` by name."""
    seen_seq: int = 0
    started: float | None = None
    """When the customers came, on the monotonic clock."""

    @property
    def told(self) -> bool:
        """Whether the story has come to its end."""
        return len(self.caught) == len(Bug) and len(self.kills) == len(Victim)


def prepare(directory: Path) -> Path:
    """Empty the demo's directory; write the first model and the rehearsal buffer. Returns the model's path."""
    if directory.exists() and any(directory.iterdir()) and not (directory / "demo.toml").exists():
        raise FileExistsError(f"{directory} is not empty and was not made by the demo; choose another with --dir")
    if _in_use(directory / "data" / "run" / "supervisor.pid"):
        raise FileExistsError(f"a demo is still running in {directory}; stop it, or choose another with --dir")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pairs = list(handbook())
    _write_lines(directory / "rehearsal.jsonl", (_taught(question, answer) for question, answer in pairs))
    _write_lines(directory / _GOLDEN, (_expected(question, answer) for question, answer in pairs))
    model = directory / "handbook.npz"
    fit([(question, str(topic_of(answer))) for question, answer in pairs]).save(model)
    return model


def _taught(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _expected(question: str, answer: str) -> dict[str, Any]:
    """A line of the golden file: whatever else a model learns, what stands in the handbook it must know."""
    request = {"model": "assistant", "messages": [{"role": "user", "content": question}]}
    return {"request": request, "expect": {"equals": answer}}


def _write_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)


def _in_use(claim: Path) -> bool:
    """Whether a `ratchet serve` has its lock on this file."""
    if not claim.exists():
        return False
    with claim.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@asynccontextmanager
async def raise_curtain(directory: Path, *, seed: int, fast: bool, rate: float) -> AsyncIterator[Theatre]:
    """Start the first model and `ratchet serve`; stop both at the end."""
    model = await asyncio.to_thread(prepare, directory)
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(free_port("127.0.0.1"))
    model_port, port, admin_port = ports
    champion_url = f"http://127.0.0.1:{model_port}"
    url, admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    write_settings(
        directory / "demo.toml",
        port=port,
        admin_port=admin_port,
        champion_url=champion_url,
        data_dir=directory / "data",
        rehearsal=directory / "rehearsal.jsonl",
        golden=directory / _GOLDEN,
        min_new_samples=round(4 * rate),
    )
    python = (sys.executable, "-m")
    environment = os.environ | {"RATCHET_DEMO_BUG": str(directory / _BUG), "OMP_NUM_THREADS": "1"}
    server = (*python, "proxy.demo.server", "--model", str(model), "--port", str(model_port), "--name", "handbook")
    serve = (*python, "proxy", "serve", "--config", str(directory / "demo.toml"))
    with DemoProcess(server, log=directory / "handbook.log", env=environment) as first_model:
        await wait_until_healthy(f"{champion_url}/health", first_model)
        try:
            with DemoProcess(serve, log=directory / "serve.log", env=environment) as proxy:
                await wait_until_healthy(f"{url}/-/health", proxy)
                await wait_until_healthy(f"{admin_url}/status", proxy)
                yield Theatre(
                    directory=directory,
                    url=url,
                    admin_url=admin_url,
                    server=proxy,
                    seed=seed,
                    promotions=1 if fast else 2,
                    rate=rate,
                )
        finally:  # model servers and trainings outlive `ratchet serve`, as they should everywhere but here
            for left in running_servers(directory / "data/models").values():
                await processes.stop(left, grace_s=5.0)
            for folder in (directory / "data/training").glob("*"):
                await processes.sweep(str(folder), grace_s=5.0)


async def play(
    theatre: Theatre, scene: Scene, *, limit_s: float, forever: bool = False, clock: Clock | None = None
) -> bool:
    """Let customers ask until the story is told (or for ever); True when it ended as it should within `limit_s`."""
    clock = clock or SystemClock()
    people = customers(600, Random(theatre.seed))
    began = clock.monotonic()
    scene.started = began if scene.started is None else scene.started
    asking = spawn(
        keep_asking(
            theatre.url, people, scene.tally, rate=theatre.rate, seed=theatre.seed, clock=clock, started=scene.started
        ),
        name="demo-customers",
    )
    looks = 0
    try:
        async with _admin(theatre) as admin:
            while clock.monotonic() - began < limit_s and not asking.done():
                theatre.server.revive()
                await _look(admin, scene, clock.monotonic() - scene.started, count=looks % _LOOKS_PER_COUNT == 0)
                looks += 1
                scene.processes = running(theatre.data_dir)
                if scene.promotions >= theatre.promotions:
                    _plant(theatre, scene)
                if (victim := _next_victim(theatre, scene)) is not None:
                    await _kill(victim, theatre, scene, clock)
                if scene.told and not forever:
                    return True
                await asyncio.sleep(_LOOK_S)
        return False
    finally:
        await cancel_and_wait([asking])


def _plant(theatre: Theatre, scene: Scene) -> None:
    """The first bug; once it is caught the next one, and after the last none."""
    if scene.bug is not None and scene.bug not in scene.caught:
        return
    scene.bug = next((bug for bug in Bug if bug not in scene.caught), None)
    scene.bad_run = False
    if scene.bug is None:
        theatre.bug.unlink(missing_ok=True)
    else:
        replace_private(theatre.bug, scene.bug.value)  # a training that begins now reads it whole


async def settle(theatre: Theatre, scene: Scene) -> None:
    """The customers have gone: wait until everything they received is in the log, a minute at the most."""
    async with _admin(theatre) as admin:
        await scene.tally.ledger.settle(admin, limit_s=_SETTLE_S)


def _admin(theatre: Theatre) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(theatre.admin_url, timeout=aiohttp.ClientTimeout(total=10))


def _next_victim(theatre: Theatre, scene: Scene) -> Victim | None:
    """Never while an experiment runs: what a kill costs its few users would be told to neither arm."""
    over = len(scene.caught) == len(Bug)  # one look may have shown a bad training's beginning and its end
    match len(scene.kills):
        case 0 if scene.tally.asked >= 2 * theatre.rate:
            return Victim.WORKER
        case 1 if scene.status.phase.name == Phase.TRAINING or scene.bug is not None or over:
            return Victim.CONTROLLER
        case 2 if scene.bad_run or over:
            return Victim.EVERYTHING
    return None


async def _kill(victim: Victim, theatre: Theatre, scene: Scene, clock: Clock) -> None:
    assert scene.started is not None
    at_s = clock.monotonic() - scene.started
    scene.marks.append(Mark(at_s, "killed", f"kill -9 {victim.value}"))
    scene.kills.append(Kill(at_s, victim))
    back_s = await kill(
        victim, theatre.server, theatre.data_dir, url=theatre.url, admin_url=theatre.admin_url, clock=clock
    )
    scene.kills[-1] = Kill(at_s, victim, back_s)


async def _look(admin: aiohttp.ClientSession, scene: Scene, at_s: float, *, count: bool) -> None:
    try:
        async with admin.get("/api/history", params={"limit": "20"}) as response:
            entries = (await response.json())["entries"] if response.ok else []
        async with admin.get("/status") as response:
            scene.status = read_status(await response.json()) if response.ok else scene.status
        if count:
            await scene.tally.ledger.look(admin)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return  # the controller may be restarting, and what it said be broken off: look again
    for entry in reversed(entries):
        if entry["seq"] > scene.seen_seq and entry["state"] == "done":
            scene.seen_seq = entry["seq"]
            _note(scene, entry, at_s)


def _note(scene: Scene, entry: dict[str, Any], at_s: float) -> None:
    event = entry["event"]
    if event is None:
        return
    scene.lines.append((at_s, event, entry["reasons"][0] if entry["reasons"] else ""))
    scene.promotions += event == "watch_finished"
    bug = scene.bug
    bad = bug is not None and bug not in scene.caught and event == "training_started"
    scene.bad_run = scene.bad_run or bad
    if bug is not None and scene.bad_run and event in (*_SENT_BACK, _UNSEEN):
        scene.caught.setdefault(bug, "the gate" if event == _UNSEEN else "its users")
    if event in _DECISIVE:
        what = "stopped by the gate" if event == _UNSEEN else event.replace("_", " ")
        scene.marks.append(Mark(at_s, _DECISIVE[event], f"{what}, with a bug" if bad else what))
