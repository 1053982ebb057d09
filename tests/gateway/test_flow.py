"""Streams, tunnels and lives of connections: back-pressure, upgrades, TLS, our own URLs, draining."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.records import Outcome
from proxy.clock import ManualClock
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_slow_reader_holds_the_model_back(door: Door, upstream: Upstream) -> None:
    written = 0

    async def flood(seen: Seen, line: Line) -> None:
        nonlocal written
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            await line.send(b"a" * MIB)
            written += MIB

    upstream.on("/x", flood)
    client = await door.connect()
    await client.send(GET)
    await client.head()
    stalled = -1
    while stalled != written:  # until the sockets' buffers are full everywhere
        stalled = written
        await asyncio.sleep(0.2)
    assert written < 40 * MIB
    total = 0
    while total < 64 * MIB:
        total += len(await client.reader.read(MIB))
    assert (await door.frame()).meta["sb"] == 64 * MIB


async def test_a_client_that_stops_reading_is_given_up(upstream: Upstream, tmp_path: Path) -> None:
    async def flood(seen: Seen, line: Line) -> None:
        await line.send(reply(b"a" * 32 * MIB))

    upstream.on("/x", flood)
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"idle_timeout_seconds": 2.0})) as door:
        for last in (b"", b"Connection: close\r\n"):
            client = await door.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n" + last + b"\r\n")
            await door.settled("client_connections", 1)
            await door.settled("client_connections", 0)
        assert [frame.meta["out"] for frame in door.frames()] == [Outcome.CLIENT_DISCONNECT] * 2


async def test_the_end_of_an_answer_may_leave_slowly(upstream: Upstream, tmp_path: Path) -> None:
    async def flood(seen: Seen, line: Line) -> None:
        await line.send(reply(b"a" * 32 * MIB))

    upstream.on("/x", flood)
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        client = await door.connect()
        await client.send(GET)
        await client.head()
        left = 32 * MIB
        while door.count("in_flight"):  # until the gateway has nothing more to read
            left -= len(await client.reader.read(65536))
        await door.pass_time(clock, 100)  # longer than a connection may be idle between two requests
        assert len(await client.exactly(left)) == left


async def test_a_slow_model_holds_the_sender_back(door: Door, upstream: Upstream) -> None:
    go = asyncio.Event()
    size = 64 * MIB

    async def sink(seen: Seen, line: Line) -> None:
        await go.wait()
        left = size
        while left:
            left -= len(await line.reader.read(min(left, MIB)))
        await line.send(reply(b"done"))

    upstream.on("/x", sink, early=True)
    client = await door.connect()
    await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    before = resident()
    sending = asyncio.create_task(client.send(b"a" * size))
    await asyncio.wait({sending}, timeout=0.5)
    assert not sending.done()
    assert resident() - before < size + 24 * MIB  # the test's own copy, and little else
    go.set()
    assert (await client.response())[1] == b"done"
    await sending
    assert (await door.frame()).meta["rb"] == size


async def test_a_websocket_is_tunnelled(door: Door, upstream: Upstream) -> None:
    async def upgrade(seen: Seen, line: Line) -> None:
        assert seen.header("connection") == b"Upgrade"
        assert seen.header("upgrade") == b"websocket"
        await line.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"
        )
        while data := await line.reader.read(100):
            await line.send(data.upper())
        await line.send(b"bye")
        line.close()

    upstream.on("/ws", upgrade)
    client = await door.connect()
    await client.send(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nearly"
    )
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nConnection: Upgrade\r\n" in head
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert await client.exactly(10) == b"helloEARLY"
    assert door.count("tunnels") == 1
    await client.send(b"\x81\x00more")
    assert await client.exactly(6) == b"\x81\x00MORE"
    client.writer.write_eof()
    assert await client.rest() == b"bye"
    meta = (await door.frame()).meta
    assert (meta["st"], meta["out"], meta["rb"], meta["sb"]) == (101, Outcome.OK, 11, 19)
    await door.settled("tunnels", 0)
    await door.settled("client_connections", 0)
    await door.settled("upstream_connections", 0)


async def test_a_real_websocket_client_and_server(tmp_path: Path) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, open_timeout=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_gateway(tmp_path, f"http://127.0.0.1:{port}") as door:
            url = f"ws://127.0.0.1:{door.port}/v1/realtime?model=m"
            async with connect(url, open_timeout=None, ping_interval=None) as socket:
                for size in (0, 10, 70_000):
                    await socket.send(b"x" * size)
                    assert await socket.recv() == b"x" * size
            assert (await door.frame()).meta["st"] == 101


async def test_an_upgrade_the_model_declines_is_an_ordinary_answer(door: Door) -> None:
    client = await door.connect()
    for _ in range(2):
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response())[1] == CHAT


async def test_an_h2c_offer_is_served_over_http_1_1(door: Door, upstream: Upstream) -> None:
    head, body = await door.ask(
        b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == CHAT
    assert [line.partition(b":")[0].lower() for line in upstream.seen[0].lines] == [b"host"]


@contextlib.asynccontextmanager
async def side_app(path: Path) -> AsyncIterator[list[Seen]]:
    side = Upstream()

    async def answer(seen: Seen, line: Line) -> None:
        await line.send(reply(b"from the side"))

    side.default = answer  # type: ignore[method-assign]
    server = await asyncio.start_unix_server(side.serve, str(path))
    try:
        yield side.seen
    finally:
        server.close()
        for line in side.lines:
            line.writer.transport.abort()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("trusted", "lines", "address"),
    [
        ("127.0.0.0/8", b"X-Forwarded-For: 6.6.6.6, 9.9.9.9, 127.0.0.7\r\n", b"9.9.9.9"),
        ("127.0.0.0/8", b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 9.9.9.9\r\n", b"9.9.9.9"),
        ("127.0.0.0/8", b'Forwarded: for=6.6.6.6, for="[2001:db8::1]:4711"\r\n', b"2001:db8::1"),
        ("127.0.0.0/8", b"X-Forwarded-For: 6.6.6.6, nonsense\r\n", b"127.0.0.1"),
        ("127.0.0.0/8", b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=9.9.9.9\r\n", b"127.0.0.1"),
        ("127.0.0.0/8", b"X-Forwarded-For: 127.0.0.9\r\n", b"127.0.0.1"),
        ("127.0.0.0/8", b"", b"127.0.0.1"),
        ("10.0.0.0/8", b"X-Forwarded-For: 9.9.9.9\r\n", b"127.0.0.1"),
    ],
)
async def test_who_votes_is_told_behind_a_trusted_balancer_and_nobody_else_is_believed(
    upstream: Upstream, tmp_path: Path, trusted: str, lines: bytes, address: bytes
) -> None:
    path = tmp_path / "side.sock"
    settings = config(sticky={"trusted_networks": (trusted,)})
    async with (
        side_app(path) as seen,
        open_gateway(tmp_path, upstream.url, side_socket=path, settings=settings) as door,
    ):
        await door.ask(b"GET /-/health HTTP/1.1\r\nHost: pub\r\n" + lines + b"\r\n")
    assert [line for line in seen[0].lines if b"orwarded-For" in line] == [b"X-Forwarded-For: " + address]


async def test_our_own_urls_go_to_the_side_application(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "side.sock"
    async with side_app(path) as seen, open_gateway(tmp_path, upstream.url, side_socket=path) as door:
        client = await door.connect()
        for target in (b"/-/feedback", b"http://x/-/health?a"):
            await client.send(
                b"POST " + target + b" HTTP/1.1\r\nHost: pub\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 2\r\n\r\n{}"
            )
            head, body = await client.response()
            assert body == b"from the side"
            assert b"x-ratchet" not in head
        assert (seen[0].target, seen[0].payload, seen[0].header("host")) == (b"/-/feedback", b"{}", b"pub")
        assert [line for line in seen[0].lines if b"orwarded" in line] == [b"X-Forwarded-For: 1.2.3.4"]
        await client.send(b"GET /-x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response())[1] == CHAT
        assert len(seen) == 2
        assert door.count("requests_total") == 1
        assert len(door.frames()) == 1


@pytest.mark.parametrize("socket_name", [None, "nobody.sock"])
async def test_our_own_urls_never_reach_the_model(upstream: Upstream, tmp_path: Path, socket_name: str | None) -> None:
    side = tmp_path / socket_name if socket_name else None
    async with open_gateway(tmp_path, upstream.url, side_socket=side) as door:
        head, body = await door.ask(b"GET /-/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"side_unavailable" in body
    assert upstream.seen == []


async def test_tls_on_both_legs(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from proxy.config.own_tls import client_tls
    from proxy.config.serving import ServerConfig

    cert, key = certificate
    settings = replace(config(), server=ServerConfig(tls_cert_file=str(cert), tls_key_file=str(key)))
    serving = client_tls(settings)
    assert serving is not None
    trusting = ssl.create_default_context(cafile=str(cert))
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with serve_upstream(tls=serving) as upstream:
        url = f"https://localhost:{upstream.port}"
        async with open_gateway(tmp_path, url, tls=(serving, trusting)) as door:
            for _ in range(2):
                assert (await door.ask(GET))[1] == CHAT
    assert upstream.seen[0].header("host") == b"localhost:%d" % upstream.port
    assert len(upstream.lines) == 1


async def test_a_certificate_for_another_name_is_no_connection(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with serve_upstream(tls=context) as upstream, open_gateway(tmp_path, upstream.url) as door:
        assert (await door.ask(GET))[0].startswith(b"HTTP/1.1 502 ")
    assert upstream.seen == []


async def test_draining_finishes_what_is_open_and_no_more(door: Door, upstream: Upstream) -> None:
    go = asyncio.Event()

    async def slow(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await go.wait()
        await line.send(b"1\r\nb\r\n0\r\n\r\n")

    upstream.on("/x", slow)
    idle, busy = await door.connect(), await door.connect()
    await idle.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
    await idle.response()
    await busy.send(GET)
    await busy.until(b"\r\n1\r\na\r\n")  # the id in the head may end in "a", too
    assert door.gateway.open_requests == 1
    draining = asyncio.create_task(door.gateway.drain(120))
    assert await idle.rest() == b""
    assert not draining.done()
    go.set()
    assert await busy.rest() == b"1\r\nb\r\n0\r\n\r\n"
    assert await draining is True


async def test_what_does_not_finish_in_time_is_cut_and_said_so(door: Door, upstream: Upstream) -> None:
    async def hang(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await line.until_closed()

    upstream.on("/x", hang)
    client = await door.connect()
    await client.send(GET)
    await client.until(b"\r\n1\r\na\r\n")
    assert await door.gateway.drain(0.05) is False
    assert (await door.frame()).meta["out"] == Outcome.TRUNCATED


async def test_a_tunnel_that_is_cut_is_no_tunnel_that_has_ended(door: Door, upstream: Upstream) -> None:
    async def upgrade(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await line.until_closed()

    upstream.on("/ws", upgrade)
    client = await door.connect()
    await client.send(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await client.head()
    assert await door.gateway.drain(0.05) is False
    assert (await door.frame()).meta["out"] == Outcome.TRUNCATED
    await door.settled("tunnels", 0)


async def test_more_connections_than_allowed_wait_for_room(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"max_connections": 1})) as door:
        first, second = await door.connect(), await door.connect()
        await first.send(GET)
        await first.response()
        await second.send(GET)
        waiting = asyncio.create_task(second.response())
        await asyncio.wait({waiting}, timeout=0.1)
        assert not waiting.done()
        first.close()
        assert (await asyncio.wait_for(waiting, 120))[1] == CHAT
        await door.settled("client_connections", 1)


async def test_who_leaves_the_queue_makes_no_room(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"max_connections": 1})) as door:
        first = await door.connect()
        await first.send(GET)
        await first.response()
        gone, second = await door.connect(), await door.connect()
        await second.send(GET)
        await door.settled("client_connections", 3)
        gone.close()
        await door.settled("client_connections", 2)
        await first.send(GET)
        await first.response()
        assert len(upstream.seen) == 2, "the second client was let in, although the first is still there"
        first.close()
        assert (await second.response())[1] == CHAT


async def test_both_legs_send_without_delay_and_find_out_who_is_gone(door: Door, upstream: Upstream) -> None:
    client = await door.connect()
    await client.send(GET)
    await client.response()
    (inner,) = door.gateway._clients
    (outer,) = next(iter(door.gateway.router._pools.values())).open
    for transport in (inner.transport, outer.transport):
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
