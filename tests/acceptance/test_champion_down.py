"""A champion that goes and comes back, and two installs that are each other's champion: seen from outside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import serve_upstream

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"


class Launch(Protocol):
    """Makes one server, stopped after the test at the latest."""

    def __call__(self, name: str, champion: int, port: int = 0) -> RatchetProcess: ...


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    made: list[RatchetProcess] = []

    def make(name: str, champion: int, port: int = 0) -> RatchetProcess:
        settings = {"server": {"port": port}}
        made.append(RatchetProcess(tmp_path / name, champion=f"http://127.0.0.1:{champion}", settings=settings))
        return made[-1]

    yield make
    for ratchet in made:
        ratchet.stop(expect=None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ask(ratchet: RatchetProcess) -> int:
    return request(ratchet.base_url, CHAT, method="POST", body={"model": "m", "messages": []}).status


def status(ratchet: RatchetProcess) -> dict[str, Any]:
    document: dict[str, Any] = request(ratchet.admin_url, "/status").json()
    return document


async def test_a_champion_that_is_down_is_said_everywhere_until_it_answers(launch: Launch) -> None:
    port = free_port()
    ratchet = launch("a", port)
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    await asyncio.to_thread(
        await_true, lambda: "checked before the first request: connection refused" in ratchet.log, "a warning"
    )
    assert [await asyncio.to_thread(ask, ratchet) for _ in range(25)] == [502] * 25
    await asyncio.to_thread(
        await_true, lambda: status(ratchet)["champion"].get("failed_share") == 1.0, "the status to say so"
    )
    document = status(ratchet)
    assert document["champion"]["healthy"] is False
    assert "25 of 25 requests failed" in document["troubles"]["champion"]["sentence"]
    health = request(ratchet.admin_url, "/health")
    assert (health.status, health.json()["status"]) == (200, "degraded")
    assert "connection refused" in health.json()["champion"]["last_error"]["text"]
    metrics = request(ratchet.admin_url, "/metrics").body.decode()
    assert "\nratchet_champion_up 0.0\n" in metrics
    assert '\nratchet_trouble{about="champion"} 1.0\n' in metrics
    page = request(ratchet.admin_url, "/").body.decode()
    assert page.index("is not healthy") < page.index('id="lead"')
    async with serve_upstream(port=port):
        assert await asyncio.to_thread(ask, ratchet) == 200
        await asyncio.to_thread(
            await_true, lambda: "25 requests failed" in ratchet.log.split("last minute")[-1], "its end"
        )
        assert status(ratchet)["champion"]["healthy"] is True
        assert request(ratchet.admin_url, "/health").json() == {"status": "ok"}


async def test_two_installs_that_forward_to_each_other_find_out(launch: Launch) -> None:
    """By default nothing marks a request: the controller's question, coming back, is what tells."""
    ports = free_port(), free_port()
    first, second = launch("a", ports[1], ports[0]), launch("b", ports[0], ports[1])
    for ratchet in (first, second):
        await asyncio.to_thread(ratchet.start)
        await asyncio.to_thread(ratchet.await_admin)
    await asyncio.to_thread(await_true, lambda: "leads back to this proxy" in second.log, "the question to come back")
    assert await asyncio.to_thread(ask, first) == 508
    await asyncio.to_thread(
        await_true, lambda: "leads back to this proxy" in (status(second).get("trouble") or ""), "the status to say so"
    )
