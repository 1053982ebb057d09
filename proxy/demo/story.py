"""The demo from beginning to end.

    train a first model on the handbook and serve it          (the model you already have)
    ratchet serve in front of it                              (an ordinary process)
    customers ask and vote until two better models have been promoted and have held
    plant a bug in the training code: the next challenger is bad, and must be caught
    draw what the customers know to be true, and say what to type next

Nothing here decides anything: the story reads /status and /api/history like any other client.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from proxy.clock import Clock, SystemClock
from proxy.demo.model import fit
from proxy.demo.plot import Mark
from proxy.demo.processes import Child, wait_until_healthy
from proxy.demo.settings import write_settings
from proxy.demo.users import Tally, customers, keep_asking
from proxy.demo.world import handbook, topic_of
from proxy.loop import processes
from proxy.loop.deployers.command import free_port, running_servers
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Scene", "Stage", "play", "prepare", "raise_curtain"]

_LOOK_S = 0.25
_DECISIVE = {
    "training_started": "retrain",
    "promoted": "promoted",
    "rolled_back": "sent back",
    "rejected": "sent back",
    "returned": "sent back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the demo runs."""

    directory: Path
    url: str
    admin_url: str
    seed: int
    promotions: int
    """Promotions to see before the bug is planted."""
    rate: float
    """Questions a second."""

    @property
    def bug(self) -> Path:
        """While this file exists, the training function has a bug."""
        return self.directory / "plant-a-bug"


@dataclass(slots=True)
class Scene:
    """What the audience sees: refreshed a few times a second."""

    tally: Tally = field(default_factory=Tally)
    status: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    """(seconds, event, plain English) of every decision so far, oldest first."""
    marks: list[Mark] = field(default_factory=list)
    promotions: int = 0
    """Promotions that have held their watch window."""
    bug_planted: bool = False
    bad_run: bool = False
    """A training has begun since the bug was planted."""
    caught: bool = False
    """The bad challenger was sent back."""
    seen_seq: int = 0


def prepare(directory: Path) -> Path:
    """Empty the demo's directory; write the first model and the rehearsal buffer. Returns the model's path."""
    if directory.exists() and any(directory.iterdir()) and not (directory / "demo.toml").exists():
        raise FileExistsError(f"{directory} is not empty and was not made by the demo; choose another with --dir")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pairs = list(handbook())
    with (directory / "rehearsal.jsonl").open("w", encoding="utf-8") as file:
        for question, answer in pairs:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    model = directory / "handbook.npz"
    fit([(question, str(topic_of(answer))) for question, answer in pairs]).save(model)
    return model


@asynccontextmanager
async def raise_curtain(directory: Path, *, seed: int, fast: bool, rate: float) -> AsyncIterator[Stage]:
    """Start the first model and `ratchet serve`; stop both at the end."""
    model = await asyncio.to_thread(prepare, directory)
    ports: set[int] = set()
    while len(ports) < 3:
        ports.add(free_port("127.0.0.1"))
    model_port, port, admin_port = ports
    champion_url = f"http://127.0.0.1:{model_port}"
    stage = Stage(
        directory=directory,
        url=f"http://127.0.0.1:{port}",
        admin_url=f"http://127.0.0.1:{admin_port}",
        seed=seed,
        promotions=1 if fast else 2,
        rate=rate,
    )
    write_settings(
        directory / "demo.toml",
        port=port,
        admin_port=admin_port,
        champion_url=champion_url,
        data_dir=directory / "data",
        rehearsal=directory / "rehearsal.jsonl",
        min_new_samples=round(4 * rate),
    )
    python = (sys.executable, "-m")
    environment = os.environ | {"RATCHET_DEMO_BUG": str(stage.bug), "OMP_NUM_THREADS": "1"}
    server = (*python, "proxy.demo.server", "--model", str(model), "--port", str(model_port), "--name", "handbook")
    serve = (*python, "proxy", "serve", "--config", str(directory / "demo.toml"))
    with Child(server, log=directory / "handbook.log", env=environment) as first_model:
        await wait_until_healthy(f"{champion_url}/health", first_model)
        try:
            with Child(serve, log=directory / "serve.log", env=environment) as proxy:
                await wait_until_healthy(f"{stage.url}/-/health", proxy)
                await wait_until_healthy(f"{stage.admin_url}/status", proxy)
                yield stage
        finally:  # model servers outlive `ratchet serve`, as they should everywhere but here
            for left in running_servers(directory / "data" / "models").values():
                await processes.stop(left, grace_s=5.0)


async def play(
    stage: Stage, scene: Scene, *, limit_s: float, forever: bool = False, clock: Clock | None = None
) -> bool:
    """Let customers ask until the story is told (or for ever); True when it ended as it should within `limit_s`."""
    clock = clock or SystemClock()
    people = customers(600, Random(stage.seed))
    started = clock.monotonic()
    asking = spawn(
        keep_asking(stage.url, people, scene.tally, rate=stage.rate, seed=stage.seed, clock=clock),
        name="demo-customers",
    )
    try:
        async with aiohttp.ClientSession(stage.admin_url, timeout=aiohttp.ClientTimeout(total=10)) as admin:
            while clock.monotonic() - started < limit_s and not asking.done():
                await _look(admin, scene, clock.monotonic() - started)
                if scene.promotions >= stage.promotions and not scene.bug_planted:
                    stage.bug.touch()
                    scene.bug_planted = True
                if scene.caught and not forever:
                    return True
                await asyncio.sleep(_LOOK_S)
        return False
    finally:
        await cancel_and_wait([asking])


async def _look(admin: aiohttp.ClientSession, scene: Scene, at_s: float) -> None:
    try:
        async with admin.get("/status") as response:
            scene.status = await response.json() if response.ok else scene.status
        async with admin.get("/api/history", params={"limit": "20"}) as response:
            entries = (await response.json())["entries"] if response.ok else []
    except (aiohttp.ClientError, TimeoutError):
        return  # the controller may be restarting: look again
    for entry in reversed(entries):
        if entry["seq"] > scene.seen_seq and entry["state"] == "done":
            scene.seen_seq = entry["seq"]
            _note(scene, entry, at_s)


def _note(scene: Scene, entry: dict[str, Any], at_s: float) -> None:
    event = entry["event"]
    if event is None:
        return
    scene.lines.append((at_s, event, entry["reasons"][0] if entry["reasons"] else ""))
    if event in _DECISIVE:
        scene.marks.append(Mark(at_s, _DECISIVE[event], event.replace("_", " ")))
    scene.promotions += event == "watch_finished"
    scene.bad_run = scene.bad_run or (scene.bug_planted and event == "training_started")
    if scene.bad_run and event in {"rolled_back", "rejected", "returned"}:
        scene.caught = True
