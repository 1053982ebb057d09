"""Redaction in running processes: nobody waits for it, nothing of it is left behind, and votes are cleaned too."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.harness.cases import send
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.upstream import Upstream, serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/secure.md"
DOCUMENTED: Final = json.loads(re.search(r"^patterns = (\[.*\])$", PAGE.read_text(encoding="utf-8"), re.M)[1])  # type: ignore[index]
QUADRATIC: Final = r"(?:x|\w)+\.\w+\.\w+@(?=h)"
"""For Python's engine only, and a minute on what is sent."""
MARK: Final = "anna@host.example"
NOT_RECORDED: Final = "[not recorded: redaction took too long]"
JSON: Final = {"Content-Type": "application/json"}
PATH: Final = "/v1/chat/completions"


def ask(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


def running(folder: Path, upstream: Upstream, redaction: Mapping[str, Any] | None) -> RatchetProcess:
    capture = {} if redaction is None else {"redaction": redaction}
    return RatchetProcess(folder, champion=upstream.url, settings={"capture": capture})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linear(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RatchetProcess]:
    """Patterns of the security page on the engine that is the default."""
    async for found in opened(running(tmp_path_factory.mktemp("r"), upstream, {"patterns": DOCUMENTED})):
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RatchetProcess]:
    """A pattern that somebody insists on."""
    settings = {"patterns": [QUADRATIC], "engine": "python", "deadline_seconds": 0.5}
    async for found in opened(running(tmp_path_factory.mktemp("r"), upstream, settings)):
        yield found


async def opened(ratchet: RatchetProcess) -> AsyncIterator[RatchetProcess]:
    await asyncio.to_thread(ratchet.start)
    try:
        await asyncio.to_thread(ratchet.await_admin)
        yield ratchet
    finally:
        await asyncio.to_thread(ratchet.stop)


async def record(ratchet: RatchetProcess, answer: Answer) -> dict[str, Any]:
    path = f"/api/records/{answer.headers['x-ratchet-record-id']}"

    def look() -> dict[str, Any] | None:
        found = request(ratchet.admin_url, path)
        return dict(found.json()) if found.status == 200 else None

    found: dict[str, Any] = await asyncio.to_thread(await_true, look, f"the record at {path}")
    return found


def children(pid: int) -> list[int]:
    """Processes that any of its threads has started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text(encoding="ascii").split()]


@pytest.mark.parametrize("text", ["a" * 64_000, "a." * 32_000, "a@" * 32_000, "1" * 64_000, f"{MARK} " * 4_000])
async def test_nobody_waits_for_a_hostile_text(text: str, linear: RatchetProcess) -> None:
    hostile = asyncio.ensure_future(send(linear.base_url, PATH, ask(text), JSON))
    for _ in range(3):
        started = time.monotonic()
        answer = await send(linear.base_url, PATH, ask("hello"), JSON)
        assert answer.status == 200
        assert time.monotonic() - started < 1.0
    kept = (await record(linear, await hostile))["exchange"]["request"]
    assert MARK not in kept
    assert NOT_RECORDED not in kept


async def test_a_body_that_takes_too_long_is_not_recorded_and_the_next_one_is(slow: RatchetProcess) -> None:
    worker = slow.worker_pids[0]
    hostile = asyncio.ensure_future(send(slow.base_url, PATH, ask("x" * 30_000), JSON))
    started = time.monotonic()
    ordinary = await send(slow.base_url, PATH, ask("write to x.x.x@h"), JSON)
    assert time.monotonic() - started < 1.0
    lost = await record(slow, await hostile)
    assert lost["exchange"]["request"] == NOT_RECORDED
    assert (lost["query"], "no_train" in lost["flags"], "sample" in lost["flags"]) == (None, True, False)
    assert (await record(slow, ordinary))["query"] == "write to [redacted]h"
    assert slow.worker_pids == [worker], "it is the process beside it that ended"
    metrics = (await asyncio.to_thread(request, slow.admin_url, "/metrics")).body.decode()
    assert re.search(r'^ratchet_gateway_redaction_lost_total{reason="deadline"} 1\.0$', metrics, re.M)
    assert await asyncio.to_thread(await_true, lambda: "more than linear time" in slow.log, "the warning")


async def test_a_killed_worker_leaves_no_process_behind(slow: RatchetProcess) -> None:
    worker = slow.worker_pids[0]
    await record(slow, await send(slow.base_url, PATH, ask("hello"), JSON))
    [cleaner] = children(worker)
    await send(slow.base_url, PATH, ask("x" * 30_000), JSON)  # it is busy now
    os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(await_true, lambda: not Path(f"/proc/{cleaner}").exists(), "the end of its process")
    await asyncio.to_thread(await_true, lambda: slow.worker_pids != [worker], "another worker")


async def test_votes_are_cleaned_before_they_are_written_down(linear: RatchetProcess) -> None:
    answer = await send(linear.base_url, PATH, ask("hello"), JSON)
    vote = {
        "record_id": answer.headers["x-ratchet-record-id"], "feedback": 1, "comment": f"write to {MARK}",
        "correction": f"Ask {MARK} about it.", "source": MARK, "tags": {MARK: f"by {MARK}", "card": "4111111111111111"},
    }  # fmt: skip
    assert (await send(linear.base_url, "/-/feedback", json.dumps(vote).encode(), JSON)).status == 202
    path = f"/api/records/{answer.headers['x-ratchet-record-id']}"

    def voted() -> str | None:
        found = request(linear.admin_url, path)
        return found.body.decode() if found.status == 200 and "[redacted]" in found.body.decode() else None

    said = await asyncio.to_thread(await_true, voted, "the vote")
    assert "write to [redacted]" in said
    assert "Ask [redacted] about it." in said
    assert MARK not in said
    files = [path for path in linear.data_dir.rglob("*") if path.is_file()]
    assert files
    assert not any(MARK.encode() in path.read_bytes() for path in files)
    assert MARK not in linear.log


async def test_without_redaction_there_is_no_process(upstream: Upstream, tmp_path: Path) -> None:
    async for ratchet in opened(running(tmp_path, upstream, None)):
        await record(ratchet, await send(ratchet.base_url, PATH, ask("a" * 64_000), JSON))
        assert children(ratchet.worker_pids[0]) == []
