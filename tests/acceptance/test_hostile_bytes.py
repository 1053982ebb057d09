"""All that a stranger can send at once to whoever reads it: others are served, and the controller stays small.

The bodies are small on the wire and large, or slow, for whoever reads them. What each becomes is known in detail by the
tests of the readers; here the whole of `ratchet serve` meets them together, and answers that are like them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.hostile_bytes import Hostile, hostile_answers, hostile_requests
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

ASK = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of Italy?"}]}
PATH = "/v1/chat/completions"


@asynccontextmanager
async def serve_hostile() -> AsyncIterator[Upstream]:
    """A model's server with every hostile answer at a path of its own, and an ordinary one."""
    async with serve_upstream() as server:
        for number, hostile in enumerate(hostile_answers()):
            server.on(f"/{number}{PATH}", _answers(hostile))
        server.on(PATH, _answers(Hostile("fine", CHAT)))
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_hostile() as server:
        yield server


@pytest.fixture
async def ratchet(upstream: Upstream, tmp_path: Path) -> AsyncIterator[RatchetProcess]:
    server = RatchetProcess(tmp_path, champion=upstream.url)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.await_admin)
    yield server
    await asyncio.to_thread(server.stop)


def _answers(hostile: Hostile) -> Any:
    head = "".join(f"{name}: {value}\r\n" for name, value in hostile.headers.items()).encode()

    async def script(seen: Seen, line: Line) -> None:
        await line.send(reply(hostile.body, headers=head))

    return script


def ask(ratchet: RatchetProcess, name: str) -> float:
    """One ordinary request; returns how long it took."""
    began = time.monotonic()
    answer = request(ratchet.base_url, PATH, method="POST", body=ASK, headers={"x-request-id": name})
    assert (answer.status, answer.body) == (200, CHAT)
    return time.monotonic() - began


def lag(ratchet: RatchetProcess, name: str) -> float:
    """How long it takes until the record of an ordinary request is there."""
    ask(ratchet, name)
    began = time.monotonic()
    await_true(lambda: request(ratchet.admin_url, f"/api/records/{name}").status == 200, f"the record of {name}")
    return time.monotonic() - began


def attack(ratchet: RatchetProcess) -> None:
    for hostile in hostile_requests():
        answer = request(ratchet.base_url, PATH, method="POST", body=hostile.body, headers=hostile.headers)
        assert (answer.status, answer.body) == (200, CHAT), hostile.name
    for number, hostile in enumerate(hostile_answers()):
        answer = request(ratchet.base_url, f"/{number}{PATH}", method="POST", body=ASK)
        assert answer.body == hostile.body, hostile.name


def memory_mib(pid: int, line: str) -> float:
    [found] = [text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith(line)]
    return int(found.split()[1]) / 1024


def slowest(took: list[float]) -> float:
    """Their 99th percentile."""
    return sorted(took)[len(took) * 99 // 100]


async def test_others_are_served_and_the_controller_stays_small(ratchet: RatchetProcess) -> None:
    calm = slowest([await asyncio.to_thread(ask, ratchet, f"calm-request-{n}") for n in range(50)])
    calm_lag = await asyncio.to_thread(lag, ratchet, "the-calm-one")
    attacks = [asyncio.create_task(asyncio.to_thread(attack, ratchet)) for _ in range(2)]
    took = []
    while not all(task.done() for task in attacks):
        took.append(await asyncio.to_thread(ask, ratchet, f"meanwhile-{len(took)}"))
    await asyncio.gather(*attacks)
    behind = await asyncio.to_thread(lag, ratchet, "the-one-behind-them")
    peak = memory_mib(ratchet.controller_pid, "VmHWM")
    all_of_it = sum(memory_mib(pid, "VmHWM") for pid in (ratchet.controller_pid, *ratchet.worker_pids))
    print(f"p99 {slowest(took):.3f} s (calm {calm:.3f}), lag {behind:.2f} s (calm {calm_lag:.2f}), "
          f"controller {peak:.0f} MiB, all {all_of_it:.0f} MiB")  # fmt: skip
    assert peak < 400
    assert all_of_it < 800, "of the 1 GiB that the Kubernetes example allows"
    assert sorted(took)[len(took) // 2] < max(0.25, 10 * calm), "a machine that is busy is slow when it is calm, too"
    assert slowest(took) < max(1.0, 20 * calm), "a quarter of a second on a machine of one's own"
    assert behind < max(5.0, 20 * calm_lag)
    sent = 52 + len(took) + 2 * (len(hostile_requests()) + len(hostile_answers()))
    await asyncio.to_thread(await_true, lambda: ratchet.metric("ratchet_ingest_records_total") == sent, "all records")
    assert ratchet.metric("ratchet_ingest_raw_total") == 0
