"""A name server that hangs holds up nobody but the host that it was asked about."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.gateway.faults import Fault, failed_slot
from proxy.gateway.lookup import Lookup
from tests.harness.gateway import config, open_gateway
from tests.harness.upstream import Upstream, serve_upstream

GET = b"GET /x HTTP/1.1\r\nHost: x\r\nX-User-Id: %d\r\nConnection: close\r\n\r\n"


class NameServer:
    """Answers for hosts by what the test says; those that hang do so until it lets go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.hangs = {"slow.test"}
        self.addresses: dict[str, list[str]] = {"fast.test": ["127.0.0.1"], "slow.test": ["127.0.0.1"]}
        self.asked: list[str] = []
        self.at_once = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, host: str, port: int, *rest: Any, **more: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            self.asked.append(host)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            if host in self.hangs:
                self.let_go.wait()
            if not self.addresses.get(host):
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.addresses[host]]
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.let_go.set()


async def test_a_challengers_look_up_that_hangs_delays_no_user_of_the_champion(
    names: NameServer, tmp_path: Path
) -> None:
    async with serve_upstream() as upstream:
        port = upstream.url.rpartition(":")[2]
        settings = config(gateway={"connect_timeout_seconds": 60.0, "upstream_keepalive": 0})
        async with open_gateway(
            tmp_path, f"http://fast.test:{port}", challenger=f"http://slow.test:{port}", share=0.5, settings=settings
        ) as door:
            asked = [asyncio.create_task(door.dialogue(GET % user)) for user in range(80)]
            answered = 0
            async with asyncio.timeout(60):
                while answered < 20:  # of the champion's, while all of the challenger's wait
                    answered = sum(task.done() for task in asked)
                    await asyncio.sleep(0.005)
            assert names.asked.count("slow.test") == 1, "one look-up, however many wait for it"
            assert names.at_once <= 2
            names.let_go.set()
            answers = await asyncio.wait_for(asyncio.gather(*asked), 60)
            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert names.asked.count("fast.test") == 1


async def test_a_name_server_that_says_nothing_is_named(
    names: NameServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(gateway={"connect_timeout_seconds": 0.1})
    async with open_gateway(tmp_path, "http://slow.test:9", settings=settings) as door:
        assert (await door.dialogue(GET % 1)).startswith(b"HTTP/1.1 502")
        assert door.counters.values[door.counters.slot(failed_slot("champion", Fault.UNRESOLVED))] == 1
    assert "slow.test could not be resolved within 0.1 s" in caplog.text


async def test_what_was_found_is_good_for_a_while_and_longer_while_the_name_server_is_gone(names: NameServer) -> None:
    clock = ManualClock()
    lookup = Lookup("fast.test", 80, clock.monotonic)
    assert await lookup.addresses() == ("127.0.0.1",)
    names.addresses["fast.test"] = ["127.0.0.2", "127.0.0.2", "127.0.0.3"]
    clock.advance(9)
    assert await lookup.addresses() == ("127.0.0.1",)
    clock.advance(2)
    assert await lookup.addresses() == ("127.0.0.2", "127.0.0.3")
    names.addresses["fast.test"] = []
    clock.advance(3600)
    assert await lookup.addresses() == ("127.0.0.2", "127.0.0.3")
    names.hangs.add("fast.test")
    assert await asyncio.wait_for(lookup.addresses(), 30) == ("127.0.0.2", "127.0.0.3")


async def test_a_host_that_has_no_address_is_an_error_for_all_who_wait(names: NameServer) -> None:
    lookup = Lookup("gone.test", 80, ManualClock().monotonic)
    found = await asyncio.gather(*(lookup.addresses() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in found} == {socket.gaierror}
    assert names.asked == ["gone.test"]


async def test_who_stops_waiting_ends_nobody_elses_look_up(names: NameServer) -> None:
    lookup = Lookup("slow.test", 80, ManualClock().monotonic)
    first, second = asyncio.create_task(lookup.addresses()), asyncio.create_task(lookup.addresses())
    await asyncio.sleep(0)
    first.cancel()
    names.let_go.set()
    assert await asyncio.wait_for(second, 30) == ("127.0.0.1",)


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(names: NameServer, literal: str) -> None:
    lookup = Lookup(literal, 80, ManualClock().monotonic)
    assert list(await lookup.addresses()) == [literal]
    assert not lookup.doubt()
    assert names.asked == []


async def test_a_server_that_has_moved_is_found_at_its_new_address(
    names: NameServer, upstream: Upstream, tmp_path: Path
) -> None:
    port, clock = upstream.url.rpartition(":")[2], ManualClock()
    names.addresses["fast.test"] = ["127.0.0.77"]  # nothing listens there
    settings = config(gateway={"upstream_keepalive": 0})
    async with open_gateway(tmp_path, f"http://fast.test:{port}", settings=settings, clock=clock) as door:
        assert (await door.ask(GET % 1))[0].startswith(b"HTTP/1.1 502")
        names.addresses["fast.test"] = ["127.0.0.78", "127.0.0.1"]
        clock.advance(2)
        assert (await door.ask(GET % 2))[0].startswith(b"HTTP/1.1 200")
        assert names.asked == ["fast.test", "fast.test"]
