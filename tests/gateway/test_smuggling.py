"""Nothing ambiguous is forwarded: a corpus of what request smuggling is made of, and the limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from policies.records import Outcome
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Upstream

BODY = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
H = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CORPUS = {
    "CL.TE": H + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "TE.CL": H + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + BODY,
    "two lengths": H + b"Content-Length: 6\r\nContent-Length: 5\r\n\r\n" + BODY,
    "two equal lengths": H + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n" + BODY,
    "list of lengths": H + b"Content-Length: 5, 5\r\n\r\n" + BODY,
    "signed length": H + b"Content-Length: +5\r\n\r\n" + BODY,
    "negative length": H + b"Content-Length: -1\r\n\r\n" + BODY,
    "hex length": H + b"Content-Length: 0x5\r\n\r\n" + BODY,
    "underscore length": H + b"Content-Length: 1_0\r\n\r\n" + BODY,
    "unicode length": H + b"Content-Length: \xd9\xa5\r\n\r\n" + BODY,
    "empty length": H + b"Content-Length:\r\n\r\n" + BODY,
    "huge length": H + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "TE gzip": H + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "TE identity": H + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "TE list": H + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY,
    "TE chunked twice": H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "TE chunked, identity": H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + BODY,
    "TE xchunked": H + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "TE quoted": H + b'Transfer-Encoding: "chunked"\r\n\r\n' + BODY,
    "TE vertical tab": H + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + BODY,
    "TE over 1.0": b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "space before colon": H + b"Transfer-Encoding : chunked\r\n\r\n" + BODY,
    "tab before colon": H + b"Content-Length\t: 5\r\n\r\n" + BODY,
    "space before name": b"POST /x HTTP/1.1\r\n Host: x\r\n\r\n",
    "folded line": H + b"X: a\r\n Content-Length: 5\r\n\r\n" + BODY,
    "folded with tab": H + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n" + BODY,
    "bare LF between headers": H + b"X: a\nContent-Length: 5\r\n\r\n" + BODY,
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare CR in a value": H + b"X: a\rContent-Length: 5\r\n\r\n" + BODY,
    "NUL in a value": H + b"X: a\x00b\r\n\r\n",
    "NUL in a name": H + b"X\x00Y: a\r\n\r\n",
    "no colon": H + b"nonsense\r\n\r\n",
    "empty name": H + b": a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "control in the target": b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    "relative target": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
    "other scheme": b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "bad method": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "binary": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
TE = H + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "no size": TE + b"\r\nabc\r\n",
    "signed size": TE + b"+3\r\nabc\r\n0\r\n\r\n",
    "hex prefix": TE + b"0x3\r\nabc\r\n0\r\n\r\n",
    "underscore": TE + b"1_0\r\nabc\r\n0\r\n\r\n",
    "space before the size": TE + b" 3\r\nabc\r\n0\r\n\r\n",
    "space behind the size": TE + b"3 \r\nabc\r\n0\r\n\r\n",
    "size overflow": TE + b"fffffffffffffffff\r\nabc\r\n",
    "longer than its size": TE + b"3\r\nabcd\r\n0\r\n\r\n",
    "LF behind the size": TE + b"3\nabc\r\n0\r\n\r\n",
    "LF behind the chunk": TE + b"3\r\nabc\n0\r\n\r\n",
    "LF in an extension": TE + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "CR in an extension": TE + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "trailer that frames": TE + b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer that authorises": TE + b"0\r\nAuthorization: x\r\n\r\n",
    "trailer without a colon": TE + b"0\r\nnonsense\r\n\r\n",
    "trailer with LF": TE + b"0\r\nA: b\nC: d\r\n\r\n",
    "endless extension": TE + b"3;" + b"a" * 5000,
    "endless trailer": TE + b"0\r\nA: " + b"a" * 20000,
}


@pytest.mark.parametrize("name", CORPUS)
async def test_an_ambiguous_head_is_refused_and_the_connection_closed(
    door: Door, upstream: Upstream, name: str
) -> None:
    answer = await door.dialogue(CORPUS[name])
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1 400") == 1
    assert upstream.seen == []
    assert door.count('protocol_errors_total{status="400"}') == 1
    assert door.frames() == []


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_bad_chunks_end_the_request(door: Door, upstream: Upstream, name: str) -> None:
    answer = await door.dialogue(BAD_CHUNKS[name])
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert upstream.seen == []


async def test_what_follows_a_body_is_never_part_of_it(door: Door, upstream: Upstream) -> None:
    client = await door.connect()
    await client.send(TE + b"3\r\nabc\r\n0\r\n\r\n" + H + b"Content-Length: 3\r\n\r\ndef" + CORPUS["CL.TE"])
    for expected in (b"abc", b"def"):
        assert (await client.response())[1] == CHAT
        assert upstream.seen[-1].payload == expected
    assert (await client.rest()).startswith(b"HTTP/1.1 400")
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9"])
async def test_other_versions_are_505(door: Door, version: bytes) -> None:
    assert (await door.dialogue(b"GET / " + version + b"\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 505 ")


async def test_the_http_2_preface_is_505(door: Door) -> None:
    assert (await door.dialogue(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).startswith(b"HTTP/1.1 505 ")


async def test_empty_lines_before_a_request_are_allowed(door: Door) -> None:
    client = await door.connect()
    await client.send(b"\r\n")
    await client.send(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(2):
        assert (await client.response())[1] == CHAT


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3000, b"431"),
        (b"GET /" + b"a" * 3000, b"414"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20 + b"\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"a" * 101, b"413"),
    ],
)
async def test_each_limit_has_its_status(upstream: Upstream, tmp_path: Path, request_: bytes, status: bytes) -> None:
    settings = config(gateway={"max_head_bytes": 2048, "max_headers": 20, "max_body_bytes": 100})
    async with open_gateway(tmp_path, upstream.url, settings=settings) as door:
        assert (await door.dialogue(request_)).startswith(b"HTTP/1.1 " + status)
        assert door.count(f'protocol_errors_total{{status="{status.decode()}"}}') == 1
        await door.settled("in_flight", 0)


async def test_a_trickled_head_runs_into_408(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"head_timeout_seconds": 0.2})) as door:
        client = await door.connect()
        answer = asyncio.create_task(client.rest())
        for byte in b"GET / HTTP/1.1\r\nHost: somewhere.example.com\r\nX: y":
            if answer.done():
                break
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert (await answer).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_stops_coming_runs_into_408(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"body_idle_seconds": 0.5})) as door:
        answer = await door.dialogue(H + b"Content-Length: 10\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 408 ")
        await asyncio.wait_for(upstream.lines[0].closed.wait(), 120)
        meta = (await door.frame()).meta
        assert (meta["st"], meta["out"]) == (408, Outcome.CLIENT_DISCONNECT)


async def test_an_idle_connection_is_closed_without_a_word(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"client_idle_seconds": 0.1})) as door:
        assert await door.dialogue(b"") == b""
