"""What goes through, goes through unchanged: methods, targets, headers, bodies, status lines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from policies.records import Outcome
from proxy.gateway.outbound import via_token
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply


async def test_a_request_arrives_as_it_was_sent(door: Door, upstream: Upstream) -> None:
    head, body = await door.ask(
        b"POST /v1/Chat%20x?q=%2F&a=b+c HTTP/1.1\r\nHost: api.example.com\r\nX-Odd:  two  spaces \r\nx-dup: 1\r\n"
        b"Authorization: Bearer sk-client\r\nX-Dup: 2\r\nX-Latin: caf\xe9\r\nContent-Length: 5\r\n\r\nhello"
    )
    seen = upstream.seen[0]
    assert seen.head.startswith(b"POST /v1/Chat%20x?q=%2F&a=b+c HTTP/1.1\r\n")
    assert seen.lines == [
        b"Host: 127.0.0.1:%d" % upstream.port,
        b"X-Odd:  two  spaces ",
        b"x-dup: 1",
        b"Authorization: Bearer sk-client",
        b"X-Dup: 2",
        b"X-Latin: caf\xe9",
        b"Content-Length: 5",
    ]
    assert seen.payload == b"hello"
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == CHAT


async def test_an_answer_arrives_as_it_was_sent(door: Door, upstream: Upstream) -> None:
    async def odd(seen: Seen, line: Line) -> None:
        await line.send(
            b"HTTP/1.1 299 Caf\xe9 au lait\r\nSERVER: odd/1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"X-Raw: \xff\xfe\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: gone\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"
        )

    upstream.on("/odd", odd)
    head, body = await door.ask(b"GET /odd HTTP/1.1\r\nHost: x\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:-3] == [
        b"HTTP/1.1 299 Caf\xe9 au lait",
        b"SERVER: odd/1",
        b"set-cookie: a=1",
        b"Set-Cookie: b=2",
        b"X-Raw: \xff\xfe",
        b"Content-Length: 2",
    ]
    assert lines[-3].startswith(b"x-ratchet-record-id: ")
    assert body == b"ok"
    frame = await door.frame()
    assert door.ids.verify(lines[-3].split(b": ")[1].decode()) == frame.meta["id"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "OPTIONS", "QUERY", "FOO-BAR", "m-search"])
async def test_any_method_passes(door: Door, upstream: Upstream, method: str) -> None:
    await door.ask(f"{method} /x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert upstream.seen[0].method == method


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://example.com/a/b?c", b"/a/b?c"),
        (b"HTTPS://example.com", b"/"),
        (b"//double//slash", b"//double//slash"),
        (b"/%2e%2e/x/../y;v=1#f", b"/%2e%2e/x/../y;v=1#f"),
        (b"/\xc3\xa9?\xff", b"/\xc3\xa9?\xff"),
    ],
)
async def test_targets_are_kept_byte_for_byte(door: Door, upstream: Upstream, target: bytes, expected: bytes) -> None:
    await door.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert upstream.seen[0].target == expected


async def test_hop_by_hop_and_own_headers_end_here(door: Door, upstream: Upstream) -> None:
    await door.ask(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Secret, Content-Length\r\nX-Secret: 1\r\n"
        b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: trailers, deflate\r\n"
        b"X-Ratchet-User: u\r\nX-Ratchet-Arm: challenger\r\nX-Ratchet-Admin-Token: t\r\nX-Ratchet-No-Train: 1\r\n"
        b"Content-Length: 2\r\nAccept: */*\r\n\r\nhi"
    )
    names = [line.partition(b":")[0].lower() for line in upstream.seen[0].lines]
    assert names == [b"host", b"content-length", b"accept"]
    assert upstream.seen[0].payload == b"hi"


async def test_a_path_prefix_and_the_credential_come_from_the_target(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(champion={"api_key": "sk-own"})
    async with open_gateway(tmp_path, upstream.url + "/base/", settings=settings) as door:
        await door.ask(b"GET /v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer client\r\nx-api-key: client\r\n\r\n")
    seen = upstream.seen[0]
    assert seen.target == b"/base/v1"
    assert seen.header("authorization") == b"Bearer sk-own"
    assert seen.header("x-api-key") is None


async def test_via_and_forwarded_headers_by_setting(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(gateway={"via": True, "forwarded_headers": True, "expose_arm": True})
    async with open_gateway(tmp_path, upstream.url, settings=settings) as door:
        head, _ = await door.ask(b"GET / HTTP/1.1\r\nHost: pub.example\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n")
    lines = upstream.seen[0].lines
    assert lines[1:] == [
        b"X-Forwarded-For: 10.0.0.9",
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: pub.example",
        b"Via: 1.1 " + via_token(door.gateway.user_hash),
    ]
    assert b"\r\nVia: 1.1 ratchet\r\n" in head
    assert b"\r\nx-ratchet-arm: champion\r\n" in head


async def test_chunked_bodies_both_ways_with_trailers(door: Door, upstream: Upstream) -> None:
    answer = b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Sum: 9\r\n\r\n"

    async def chunked(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + answer)

    upstream.on("/c", chunked)
    client = await door.connect()
    await client.send(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.send(b"A\r\n0123456789\r\n0\r\nX-Check: yes\r\n\r\n")
    head = await client.head()
    assert b"\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" in head
    assert await client.exactly(len(answer)) == answer
    assert upstream.seen[0].payload == b"abc0123456789"
    assert upstream.seen[0].trailer == b"X-Check: yes\r\n"
    frame = await door.frame()
    assert (frame.request, frame.response) == (b"abc0123456789", b"Wikipedia")
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.response())[1] == CHAT


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_answers_without_a_body(door: Door, upstream: Upstream, answer: bytes) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(answer)

    upstream.on("/n", script)
    client = await door.connect()
    for _ in range(2):
        await client.send(b"GET /n HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await client.head()
        assert head.startswith(answer[:-2])
    assert len(upstream.lines) == 1


async def test_head_keeps_the_length_and_has_no_body(door: Door, upstream: Upstream) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")

    upstream.on("/h", script)
    client = await door.connect()
    await client.send(b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"\r\nContent-Length: 1234\r\n" in await client.head()
    await client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.response())[1] == CHAT


async def test_pipelined_requests_are_answered_in_order(door: Door, upstream: Upstream) -> None:
    async def echo(seen: Seen, line: Line) -> None:
        await line.send(reply(seen.target + b"|" + seen.payload))

    upstream.default = echo  # type: ignore[method-assign]
    client = await door.connect()
    requests = b"".join(b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d" % (n, n) for n in range(20))
    await client.send(requests)
    for n in range(20):
        assert (await client.response())[1] == b"/%d|%02d" % (n, n)
    assert len(upstream.lines) == 1


async def test_an_http_1_0_client_gets_no_chunks(door: Door, upstream: Upstream) -> None:
    async def chunked(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n")

    upstream.on("/c", chunked)
    answer = await door.dialogue(b"GET /c HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"\r\nConnection: close" in head
    assert body == b"Wikipedia"
    assert upstream.seen[0].head.startswith(b"GET /c HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_an_http_1_0_client_may_keep_its_connection(door: Door, upstream: Upstream) -> None:
    client = await door.connect()
    for _ in range(2):
        await client.send(b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, body = await client.response()
        assert b"\r\nConnection: keep-alive\r\n" in head
        assert body == CHAT


async def test_an_answer_that_the_close_ends(door: Door, upstream: Upstream) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nall the ")
        await line.send(b"rest")
        line.close()

    upstream.on("/close", script)
    answer = await door.dialogue(b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\nConnection: close\r\n\r\nall the rest")
    assert (await door.frame()).meta["out"] == Outcome.OK


async def test_early_hints_and_continue_pass(door: Door, upstream: Upstream) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 103 Early Hints\r\nLink: </s>; rel=preload\r\n\r\n")
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await line.reader.readexactly(4)
        await line.send(reply(body))

    upstream.on("/e", script, early=True)
    client = await door.connect()
    await client.send(b"POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </s>; rel=preload\r\n\r\n"
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert upstream.seen[0].header("expect") == b"100-continue"
    await client.send(b"ping")
    assert (await client.response())[1] == b"ping"


async def test_an_early_answer_does_not_wait_for_the_body(door: Door, upstream: Upstream) -> None:
    async def refuse(seen: Seen, line: Line) -> None:
        await line.send(reply(b"too big", status=b"413 Content Too Large"))
        await line.until_closed()

    upstream.on("/big", refuse, early=True)
    client = await door.connect()
    await client.send(b"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1000)
    head, body = await client.response()
    assert head.startswith(b"HTTP/1.1 413 Content Too Large")
    assert body == b"too big"
    async with asyncio.timeout(120):
        await upstream.lines[0].closed.wait()
    await client.send(b"a" * 999000)
    await client.send(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.response())[1] == CHAT


async def test_every_chunk_leaves_at_once(door: Door, upstream: Upstream) -> None:
    go = asyncio.Event()

    async def stream(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n in range(3):
            await go.wait()
            go.clear()
            await line.send(b"9\r\ndata: %d\n\n\r\n" % n)
        await line.send(b"0\r\n\r\n")

    upstream.on("/sse", stream)
    client = await door.connect()
    await client.send(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    for n in range(3):
        go.set()
        async with asyncio.timeout(120):
            assert await client.until(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % n
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert (await door.frame()).response == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


async def test_a_pipelined_request_whose_end_comes_in_the_same_turn_is_read_once(door: Door) -> None:
    """It is about to be taken from the buffer when the rest of it comes, and is answered at once."""
    failed: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    connection, wire = door.gateway.protocol_factory(), Wire()
    connection.connection_made(wire)
    connection.data_received(b"GET /-/a HTTP/1.1\r\nHost: x\r\n\r\nGET /-/b HTTP/1.1\r\nHo")
    connection.data_received(b"st: x\r\n\r\n")
    assert wire.written.count(b"HTTP/1.1 503 ") == 2
    await asyncio.sleep(0)
    assert failed == []
    connection.data_received(b"GET /-/c HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.written.count(b"HTTP/1.1 503 ") == 3
    connection.connection_lost(None)
