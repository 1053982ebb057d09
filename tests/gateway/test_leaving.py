"""A client that leaves at any instant leaves nothing behind: no connection, no count, nobody who waits for its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path
from random import Random

import pytest

from tests.harness.gateway import Door, config, open_gateway
from tests.harness.require import FULL
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
LEAVERS = 10_000 if FULL else 2_000
TOGETHER = 20
SHORT = config(gateway={"upstream_idle_seconds": 0.05})


class Visitor:
    """A client outside the event loop: what it does is done while the gateway stands still."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))

    def ask(self, request: bytes) -> None:
        self._socket.sendall(request)

    def leave(self, *, reset: bool) -> None:
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


async def steps(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def nothing_is_left(door: Door) -> None:
    client = await door.connect()  # who came before it has been let in before it
    await client.send(POST)
    await client.head()
    client.close()
    for gauge in ("client_connections", "in_flight", "upstream_connections"):
        await door.settled(gauge, 0)
    for pool in door.gateway.router.pools:
        async with asyncio.timeout(120):
            while pool._dialling:
                await asyncio.sleep(0.005)
        assert (len(pool.open), len(pool.idle)) == (0, 0)
    async with asyncio.timeout(2):
        await door.gateway.close()


async def answer_late(seen: Seen, line: Line) -> None:
    await asyncio.sleep(0)
    await line.send(reply(b"{}"))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("instant", range(16))
async def test_at_each_turn_of_the_loop(upstream: Upstream, tmp_path: Path, instant: int, reset: bool) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=SHORT) as door:
        visitors = [Visitor(door.port) for _ in range(TOGETHER)]
        for visitor in visitors:
            visitor.ask(POST)
        await steps(instant)
        for visitor in visitors:
            visitor.leave(reset=reset)
        await nothing_is_left(door)


@pytest.mark.parametrize("challenger", ["none", "fine", "refusing", "gone"])
async def test_at_any_instant_of_a_request(tmp_path: Path, upstream: Upstream, challenger: str) -> None:
    """Each of them asks for all or a part, and leaves after so many turns of the loop, one way or the other."""
    random = Random(challenger)
    upstream.default = answer_late  # type: ignore[method-assign]

    async def refuse(seen: Seen, line: Line) -> None:
        await line.send(reply(b"{}", status=b"404 Not Found"))

    async with serve_upstream() as other:
        other.default = refuse if challenger == "refusing" else answer_late  # type: ignore[method-assign]
        url = {"none": None, "gone": "http://127.0.0.1:1"}.get(challenger, other.url)
        async with open_gateway(tmp_path, upstream.url, challenger=url, share=0.5, settings=SHORT) as door:
            for _ in range(LEAVERS // 4 // TOGETHER):
                visitors = [Visitor(door.port) for _ in range(TOGETHER)]
                random.shuffle(visitors)
                for visitor in visitors:
                    visitor.ask(POST[: random.choice((len(POST), len(POST), random.randrange(1, len(POST))))])
                    await steps(random.randrange(3))
                while visitors:
                    await steps(random.randrange(12))
                    for _ in range(random.randint(1, TOGETHER)):
                        if visitors:
                            visitors.pop().leave(reset=random.random() < 0.5)
            await nothing_is_left(door)


async def test_while_a_connection_is_made_over_tls(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)
    async with serve_upstream(tls=serving) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        async with open_gateway(tmp_path, url, settings=SHORT) as door:
            for instant in range(0, 60, 3):
                visitors = [Visitor(door.port) for _ in range(5)]
                for visitor in visitors:
                    visitor.ask(POST)
                await steps(instant)
                for visitor in visitors:
                    visitor.leave(reset=instant % 2 == 0)
            await nothing_is_left(door)


async def test_a_server_that_hangs_up_at_once_is_no_connection(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_gateway(tmp_path, f"http://127.0.0.1:{port}", settings=SHORT) as door:
        for _ in range(50):
            head, _ = await door.ask(POST)
            assert head.startswith(b"HTTP/1.1 502")
        for client in door.clients:
            client.close()
        await nothing_is_left(door)


async def test_close_has_an_end_although_a_connection_has_none(upstream: Upstream, tmp_path: Path) -> None:
    """A transport that never says that it is closed (there have been such) holds nobody up."""
    async with contextlib.AsyncExitStack() as stack:
        door = await stack.enter_async_context(open_gateway(tmp_path, upstream.url))
        await door.ask(POST)
        (pool,) = door.gateway.router.pools
        (connection,) = pool.open
        connection.connection_lost = lambda exc: None  # type: ignore[method-assign]
        client = await door.connect()
        await client.send(POST[:10])
        await door.settled("client_connections", 1)
        (inner,) = door.gateway._clients
        inner.connection_lost = lambda exc: None  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            await door.gateway.close()


async def test_a_name_that_cannot_be_looked_up_is_a_502(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, f"http://{'a' * 70}.example") as door:
        assert (await door.ask(POST))[0].startswith(b"HTTP/1.1 502")
        assert door.count("upstream_connect_errors_total") == 1
