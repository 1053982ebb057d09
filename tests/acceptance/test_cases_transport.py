"""A request is run once, a redirected client stays with us, a path stays below its prefix, nothing is left behind.

On a whole `ratchet serve`; the gateway's own tests know each kind in detail.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.harness.cases import connected, send
from tests.harness.serve import RatchetProcess, await_true
from tests.harness.upstream import CHAT, Line, Script, Seen, Upstream, reply, serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S: Final = 60.0


@contextlib.asynccontextmanager
async def running(folder: Path, champion: str, **settings: object) -> AsyncIterator[RatchetProcess]:
    ratchet = RatchetProcess(folder, champion=champion, settings=settings)
    await asyncio.to_thread(ratchet.start)
    try:
        yield ratchet
    finally:
        await asyncio.to_thread(ratchet.stop)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ratchet(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RatchetProcess]:
    async with running(tmp_path_factory.mktemp("r"), upstream.url) as found:
        yield found


async def post(ratchet: RatchetProcess, path: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a small POST."""
    answer = await send(ratchet.base_url, path, b'{"model":"m"}', {"Content-Type": "application/json"})
    return answer.status, answer.headers


def asked(upstream: Upstream, path: str) -> list[Seen]:
    return [seen for seen in upstream.seen if seen.target.decode() == path]


# -- Once


@pytest.mark.parametrize("work_s", [0.2, 0.5])
async def test_work_that_a_server_died_of_is_not_given_to_it_again(
    work_s: float, ratchet: RatchetProcess, upstream: Upstream
) -> None:
    async def dies(seen: Seen, line: Line) -> None:
        await asyncio.sleep(work_s)
        line.close()

    path = f"/dies-after-{work_s}"
    upstream.on(path, dies)
    before = await post(ratchet, "/well")
    kept = len(upstream.lines)
    assert (before[0], (await post(ratchet, path))[0]) == (200, 502)
    [seen] = asked(upstream, path)
    assert seen.connection <= kept  # it went over a connection that had been used before


async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(
    ratchet: RatchetProcess, upstream: Upstream
) -> None:
    async def hangs_up(seen: Seen, line: Line) -> None:
        await line.send(reply())
        line.close()

    upstream.on("/hangs-up", hangs_up)
    for number in range(5):
        assert (await post(ratchet, "/hangs-up"))[0] == 200
        assert (await post(ratchet, f"/after-{number}"))[0] == 200
        assert len(asked(upstream, f"/after-{number}")) == 1


# -- With us


def names(line: str, status: str) -> Script:
    """A server that names a place by the Host that it was asked under."""

    async def script(seen: Seen, wire: Line) -> None:
        host = (seen.header("host") or b"").decode()
        await wire.send(reply(status=status.encode(), headers=f"{line.format(host=host)}\r\n".encode()))

    return script


@pytest.mark.parametrize(
    ("status", "line", "place"),
    [
        ("307 Temporary Redirect", "Location: http://{host}/v1/models/", "/v1/models/"),
        ("201 Created", "Location: http://{host}/v1/jobs/7?full=1", "/v1/jobs/7?full=1"),
        ("200 OK", "Content-Location: http://{host}/v1/jobs/7", "/v1/jobs/7"),
        ("200 OK", "Refresh: 3; url=http://{host}/v1/jobs/7", "/v1/jobs/7"),
    ],
    ids=["redirect-slash", "redirect-201", "content-location", "refresh"],
)
async def test_a_client_that_is_sent_elsewhere_stays_with_us(
    status: str, line: str, place: str, ratchet: RatchetProcess, upstream: Upstream
) -> None:
    upstream.on("/moved", names(line, status))
    answered, headers = await post(ratchet, "/moved")
    assert answered == int(status.split()[0])
    value = headers[line.partition(":")[0].lower()].partition("url=")
    url = urlsplit(value[2] or value[0])
    assert url.netloc in ("", "x")  # the host by which the client knows us
    assert url._replace(scheme="", netloc="").geturl() == place


async def test_another_host_is_named_as_it_was(ratchet: RatchetProcess, upstream: Upstream) -> None:
    url = "https://elsewhere.example/v1/models?page=2#top"
    upstream.on("/elsewhere", names(f"Location: {url}", "302 Found"))
    assert (await post(ratchet, "/elsewhere"))[1]["location"] == url


# -- Below the prefix


CLIMBING: Final = (
    "/../tenant-b/v1/models",
    "/%2e%2e/tenant-b/v1/models",
    "/v1/.%2E/../tenant-b",
    "/v1/..%2f..%2ftenant-b",
    "/v1/../../tenant-b?page=2",
)


async def test_nobody_climbs_out_of_the_prefix(upstream: Upstream, tmp_path: Path) -> None:
    async with running(tmp_path, f"{upstream.url}/tenant-a") as ratchet:
        before = len(upstream.seen)
        for path in CLIMBING:
            assert (path, (await post(ratchet, path))[0]) == (path, 400)
        assert len(upstream.seen) == before
        assert (await post(ratchet, "/v1/models"))[0] == 200
        assert upstream.seen[-1].target == b"/tenant-a/v1/models"


# -- Nothing behind


async def stop_by_itself(ratchet: RatchetProcess) -> None:
    """SIGTERM, and an end with status 0: whatever outlasts the drain time is killed, which gives another."""
    await asyncio.to_thread(ratchet.stop, expect=0)
    assert "SIGKILL" not in ratchet.log


async def test_neither_ordinary_clients_nor_those_that_leave_a_worker_that_stands_still_leave_anything(
    upstream: Upstream, tmp_path: Path
) -> None:
    settings = {"gateway": {"upstream_idle_seconds": 2}, "server": {"drain_seconds": 1}}
    async with running(tmp_path, upstream.url, **settings) as ratchet:
        await asyncio.to_thread(ratchet.await_admin)
        assert (await post(ratchet, "/before"))[0] == 200
        async with connected(ratchet.base_url) as client:
            for _ in range(20):
                await client.send(b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await client.response())[1] == CHAT
        worker = ratchet.pid("worker-0")
        os.kill(worker, signal.SIGSTOP)
        try:
            for number in range(20):
                async with connected(ratchet.base_url) as client:
                    await client.send(b"GET /gone-%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            await asyncio.sleep(1)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert (await post(ratchet, "/after"))[0] == 200

        def none_open() -> bool:
            return ratchet.metric("ratchet_gateway_upstream_connections") == 0

        await asyncio.to_thread(await_true, none_open, "an end of every connection", limit_s=PATIENCE_S)
        await stop_by_itself(ratchet)
