"""Models' servers that misbehave and clients that attack, all on one running server, which then goes on as before.

What each deserves is known in detail by the gateway's own tests; here the whole of `ratchet serve` meets them, and
every exchange is in the store with what became of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.gateway import Client
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n"
LIMITS = {"first_byte_timeout_seconds": 4, "idle_timeout_seconds": 4, "head_timeout_seconds": 4, "max_head_bytes": 4096}
"""Far longer than anything else here takes on a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ratchet(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RatchetProcess]:
    server = RatchetProcess(tmp_path_factory.mktemp("r"), champion=upstream.url, settings={"gateway": LIMITS})
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.await_admin)
    yield server
    await asyncio.to_thread(server.stop)


@pytest_asyncio.fixture(loop_scope="module")
async def before(ratchet: RatchetProcess) -> int:
    """How many records there were before the test; each waits for all of its own."""
    return len(await asyncio.to_thread(listed, ratchet))


def listed(ratchet: RatchetProcess) -> list[dict[str, Any]]:
    """All records, oldest first."""
    rows: list[dict[str, Any]] = request(ratchet.admin_url, "/api/records?limit=100").json()["records"]
    return rows[::-1]


async def connect(ratchet: RatchetProcess) -> Client:
    port = int(ratchet.base_url.rpartition(":")[2])
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def ask(ratchet: RatchetProcess, data: bytes) -> bytes:
    """Everything that comes back for `data` until the connection ends, however it ends."""
    client = await connect(ratchet)
    await client.send(data)
    answer = b""
    try:
        while piece := await client.reader.read(65536):
            answer += piece
    except ConnectionResetError:
        pass
    client.close()
    return answer


def get(path: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode()


async def records(ratchet: RatchetProcess, before: int, count: int) -> list[dict[str, Any]]:
    """The records behind the first `before`, oldest first, once there are `count`."""

    def look() -> list[dict[str, Any]] | None:
        rows = listed(ratchet)[before:]
        assert len(rows) <= count, rows
        return rows if len(rows) == count else None

    found: list[dict[str, Any]] = await asyncio.to_thread(await_true, look, f"{count} records")
    return found


async def serves(ratchet: RatchetProcess) -> None:
    """It still forwards, byte for byte."""
    assert (await ask(ratchet, get("/fine"))).endswith(CHAT)


async def test_whatever_the_models_server_does_is_answered_and_recorded(
    ratchet: RatchetProcess, upstream: Upstream, before: int
) -> None:
    async def hangs(seen: Seen, line: Line) -> None:
        await line.until_closed()

    async def stalls(seen: Seen, line: Line) -> None:
        await line.send(CHUNKED)
        await line.until_closed()

    async def garbage(seen: Seen, line: Line) -> None:
        await line.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async def resets(seen: Seen, line: Line) -> None:
        line.reset()

    async def dies(seen: Seen, line: Line) -> None:
        await line.send(CHUNKED)
        line.close()

    async def early(seen: Seen, line: Line) -> None:
        await line.send(reply(b"too long", status=b"413 Content Too Large", headers=b"Connection: close\r\n"))

    for script in (hangs, stalls, garbage, resets, dies):
        upstream.on(f"/{script.__name__}", script)
    upstream.on("/early", early, early=True)

    assert (await ask(ratchet, get("/hangs"))).startswith(b"HTTP/1.1 504 ")
    assert not (await ask(ratchet, get("/stalls"))).endswith(b"0\r\n\r\n")
    assert (await ask(ratchet, get("/garbage"))).startswith(b"HTTP/1.1 502 ")
    assert (await ask(ratchet, get("/resets"))).startswith(b"HTTP/1.1 502 ")
    assert not (await ask(ratchet, get("/dies"))).endswith(b"0\r\n\r\n")
    head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    assert (await ask(ratchet, head + b"x" * 1000)).startswith(b"HTTP/1.1 413 ")
    await serves(ratchet)
    rows = await records(ratchet, before, 7)
    assert [(row["status"], row["outcome"]) for row in rows] == [
        (504, "timeout"),
        (200, "timeout"),
        (502, "upstream_error"),
        (502, "upstream_error"),
        (200, "upstream_error"),
        (413, "refused"),
        (200, "ok"),
    ]


async def test_a_client_that_vanishes_stops_the_model_within_a_second(
    ratchet: RatchetProcess, upstream: Upstream, before: int
) -> None:
    lines: list[Line] = []

    async def stream(seen: Seen, line: Line) -> None:
        lines.append(line)
        await line.send(CHUNKED)
        await line.until_closed()

    upstream.on("/stream", stream)
    took: list[float] = []
    while not took or (min(took) >= 1 and len(took) < 10):  # the machine may stall, the gateway never
        client = await connect(ratchet)
        await client.send(get("/stream"))
        await client.until(b"data: \r\n")
        left = time.monotonic()
        client.close()
        await asyncio.wait_for(lines[-1].closed.wait(), 120)
        took.append(time.monotonic() - left)
    assert min(took) < 1
    await serves(ratchet)
    tries = len(took)
    assert [row["outcome"] for row in await records(ratchet, before, tries + 1)] == ["client_disconnect"] * tries + [
        "ok"
    ]


async def test_attacks_on_the_framing_reach_nobody(ratchet: RatchetProcess, upstream: Upstream, before: int) -> None:
    reached = len(upstream.seen)
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = {
        b"POST / HTTP/1.1\r\nHost: x\r\n" + both: b"400",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!": b"400",
        b"GET / HTTP/1.1\nHost: x\n\n": b"400",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000 + b"\r\n\r\n": b"431",
        b"GET / HTTP/1.1\r\nHos": b"408",
    }
    for attack, status in refused.items():
        answer = await ask(ratchet, attack)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1
    assert len(upstream.seen) == reached
    for number in range(3):
        upstream.on(f"/{number}", _numbered(number))
    pipelined = await ask(
        ratchet, b"".join(get(f"/{number}").replace(b"close", b"keep-alive") for number in range(2)) + get("/2")
    )
    assert [pipelined.count(b"answer %d" % number) for number in range(3)] == [1, 1, 1]
    assert pipelined.index(b"answer 0") < pipelined.index(b"answer 1") < pipelined.index(b"answer 2")
    assert {row["outcome"] for row in await records(ratchet, before, 3)} == {"ok"}


def _numbered(number: int) -> Any:
    async def script(seen: Seen, line: Line) -> None:
        await asyncio.sleep(0.05 * (3 - number))
        await line.send(reply(b"answer %d" % number))

    return script
