"""A model asked otherwise than its clients ask: all of the body first, then the new one; the other arm's stays."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.gateway.exchange.states import State
from proxy.gateway.request_buffer import Budget
from proxy.routes import Target
from proxy.wire.rewritable import LONGEST_BODY
from tests.gateway.playbook import CHALLENGER, CHAMPION, Talk
from tests.gateway.test_arms import post
from tests.harness.gateway import config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

BRIEF = {"system": {"replace": "Be brief."}, "parameters": {"temperature": 0.1}}
BODY = b'{ "messages":[{"role":"user","content":"Hi"}], "model" : "gpt-4o",\n "user":"u", "temperature":1.0}'
ASKED = (
    b'{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"model":"gpt-4o",'
    b'"user":"u","temperature":0.1}'
)
PACKED = gzip.compress(BODY)
"""Compressed once: the header says when."""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def other(url: str, **changes: Any) -> Target:
    return Target(model_id=2, name="new", url=url, rewrite=BRIEF, **changes)


async def test_the_challenger_is_asked_otherwise_and_the_champion_byte_for_byte(
    upstream: Upstream, tmp_path: Path
) -> None:
    async with serve_upstream() as new, open_gateway(tmp_path, upstream.url, challenger=other(new.url)) as door:
        await door.ask(post(BODY))
        door.route(share=0.0)
        await door.ask(post(BODY))
        assert new.seen[0].payload == ASKED
        assert new.seen[0].header("content-length") == b"%d" % len(ASKED)
        assert upstream.seen[0].payload == BODY
        frames = [await door.frame(n) for n in (1, 2)]
    assert [frame.request for frame in frames] == [BODY, BODY]  # the record has what the client sent
    assert [(frame.meta["srv"], frame.meta["exp"]) for frame in frames] == [(1, 7), (0, 7)]
    assert ["rw" in frame.meta for frame in frames] == [True, False]


@pytest.mark.parametrize("user", [b"X-User-Id: u\r\n", b""])
async def test_a_body_in_pieces_is_waited_for(upstream: Upstream, tmp_path: Path, user: bytes) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=other(upstream.url, model="tuned")) as door:
        client = await door.connect()
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (BODY[:20], BODY[20:70], BODY[70:]))
        request = HEAD + user + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        for start in range(0, len(request), 37):
            await client.send(request[start : start + 37])
            await asyncio.sleep(0)
        await client.response()
    assert upstream.seen[0].payload == ASKED.replace(b"gpt-4o", b"tuned")
    assert upstream.seen[0].header("transfer-encoding") == b"chunked"


async def test_a_client_that_asks_first_is_told_to_go_on(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=other(upstream.url)) as door:
        client = await door.connect()
        await client.send(HEAD + b"X-User-Id: u\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert upstream.lines == []
        await client.send(BODY)
        assert (await client.response())[1] == CHAT
    assert upstream.seen[0].payload == ASKED
    assert upstream.seen[0].header("expect") is None


async def test_a_fallback_gets_the_clients_own_words(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=other("http://127.0.0.1:1")) as door:
        await door.ask(post(BODY))
        assert (await door.frame()).meta["fb"] == "connect"
    assert upstream.seen[0].payload == BODY


async def test_a_promoted_rewrite_is_the_champions_also_in_a_fallback(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger="http://127.0.0.1:1") as door:
        door.route(champion=Target(model_id=1, name="old", url=upstream.url, rewrite=BRIEF))
        client = await door.connect()
        request = post(BODY, b"X-User-Id: u\r\n")
        await client.send(request[:-5])
        await door.settled("in_flight", 1)
        await client.send(request[-5:])
        await client.response()
        door.route(challenger=None)
        await door.ask(post(BODY))
        await door.ask(post(PACKED, b"Content-Encoding: gzip\r\n"))
        assert ["rw" in (await door.frame(n)).meta for n in (1, 2, 3)] == [True, True, False]
        assert upstream.seen.pop().payload == PACKED
    assert [seen.payload for seen in upstream.seen] == [ASKED, ASKED]


JSON = b"Content-Type: application/json\r\n"
BYTES = b"%b HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\n{}"
LONG = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"y" * LONGEST_BODY)
CROWD = b'{"messages":[%b]}' % b",".join([b'{"role":"user"}'] * 16_001)
LATE_CROWD = b'{"instructions":"%b",%b' % (b"y" * 300_000, CROWD[1:])
"""It is a crowd only behind what its record keeps."""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Encoding: gzip\r\n", PACKED),
        (b"", LONG),
        (b"", CROWD),
        (b"", LATE_CROWD),
        (b"Content-Type: application/octet-stream\r\n", BODY),
    ],
    ids=["compressed", "long", "crowd", "late crowd", "other type"],
)
async def test_what_cannot_be_rewritten_is_the_champions_and_no_evidence_in_either_arm(
    upstream: Upstream, tmp_path: Path, headers: bytes, body: bytes
) -> None:
    """Whether it can be is seen by the request alone: so what is left of the arms compares."""
    async with serve_upstream() as new, open_gateway(tmp_path, upstream.url, challenger=other(new.url)) as door:
        for share in (1.0, 0.0):
            door.route(share=share)
            request = post(body, headers + b"X-User-Id: u\r\n")
            await door.ask(request.replace(JSON, b"") if b"Content-Type" in headers else request)
        metas = [(await door.frame(n)).meta for n in (1, 2)]
        assert new.seen == []
        assert door.count("not_rewritten_total") == 1
        assert door.gateway.budget.left == Budget().left
    assert [seen.payload for seen in upstream.seen] == [body, body]
    assert [(meta["arm"], meta["srv"], meta["exp"], meta["fb"]) for meta in metas] == [(0, 0, None, None)] * 2


async def test_a_long_body_of_unknown_length_is_given_up_and_goes_on(upstream: Upstream, tmp_path: Path) -> None:
    async with serve_upstream() as new, open_gateway(tmp_path, upstream.url, challenger=other(new.url)) as door:
        client = await door.connect()
        pieces = [LONG[start : start + 100_000] for start in range(0, len(LONG), 100_000)]
        await client.send(HEAD + b"X-User-Id: u\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
        await client.response()
        assert new.seen == []
        assert (await door.frame()).meta["exp"] is None
        assert door.gateway.budget.left == Budget().left
    assert upstream.seen[0].payload == LONG


async def test_a_body_longer_than_its_record_is_rewritten_all_the_same(upstream: Upstream, tmp_path: Path) -> None:
    body = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"y" * 300_000)
    settings = config(capture={"max_request_bytes": 1000})
    async with open_gateway(tmp_path, upstream.url, challenger=other(upstream.url), settings=settings) as door:
        await door.ask(post(body))
        assert (await door.frame()).meta["exp"] == 7
        assert door.gateway.budget.left == Budget().left
    assert json.loads(upstream.seen[0].payload)["messages"][0] == {"role": "system", "content": "Be brief."}
    assert upstream.seen[0].payload.endswith(body[13:-1] + b',"temperature":0.1}')


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (post(b"a=1&b=2", b"", b"/form"), b"a=1&b=2"),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 4\r\n\r\n{\x00[]", b"{\x00[]"),
        (post(b'{"input":"Hi"}', b"", b"/v1/embeddings"), b'{"input":"Hi"}'),
        (BYTES % b"POST /v1/files", b"{}"),
        (BYTES % b"DELETE /v1/chat/completions/1", b"{}"),
        (post(b'{"broken":', b""), b'{"broken":'),
    ],
)
async def test_where_there_is_nothing_to_rewrite_it_goes_its_way(
    upstream: Upstream, tmp_path: Path, request_: bytes, sent: bytes
) -> None:
    async with serve_upstream() as new, open_gateway(tmp_path, upstream.url, challenger=other(new.url)) as door:
        await door.ask(request_)
        assert new.seen[0].payload == sent
        assert (await door.frame()).meta["exp"] == 7
        assert door.count("not_rewritten_total") == 0


async def test_audio_is_not_waited_for(upstream: Upstream, tmp_path: Path) -> None:
    async def early(seen: Seen, line: Line) -> None:
        await line.reader.readexactly(4)
        await line.send(reply())

    upstream.on("/a", early, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=other(upstream.url)) as door:
        client = await door.connect()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 9000\r\n\r\n{ab}")
        assert (await client.response())[1] == CHAT


async def test_a_table_with_a_rewrite_that_is_wrong_changes_nothing(upstream: Upstream, tmp_path: Path) -> None:
    async with serve_upstream() as new, open_gateway(tmp_path, upstream.url) as door:
        door.route(challenger=Target(model_id=2, name="new", url=new.url, rewrite={"sytem": {}}), share=1.0, salt="00")
        await door.ask(post(BODY))
        assert new.seen == []
    assert upstream.seen[0].payload == BODY


def test_a_stale_connection_sends_the_rewritten_body_once_more() -> None:
    talk = Talk(HEAD + b"Content-Length: %d" % len(BODY), challenger=True, rewrite=BRIEF)
    talk.keep(CHALLENGER)
    talk.begin(BODY)
    first = talk.out()
    talk.lost()
    talk.connect()
    sends = [event for event in (*first, *talk.out()) if event[0] == "send"]
    assert [event[1] for event in sends] == [CHALLENGER] * 2
    assert [event[2].partition(b"\r\n\r\n")[2] for event in sends] == [ASKED] * 2


def test_a_body_in_pieces_passes_through_the_states_that_there_are() -> None:
    talk = Talk(HEAD + b"X-User-Id: u\r\nContent-Length: %d" % len(BODY), challenger=True, rewrite=BRIEF)
    talk.begin(BODY[:10], done=False)
    assert (talk.state, talk.out()) == (State.AWAITING_BODY, [])
    talk.body(BODY[10:20])
    assert (talk.state, talk.out()) == (State.AWAITING_BODY, [])
    talk.body(BODY[20:], done=True)
    assert talk.out() == [("dial", CHALLENGER)]
    talk.connect()
    assert talk.upstream.sent.partition(b"\r\n\r\n")[2] == ASKED
    talk.lost(ConnectionResetError())
    assert talk.out()[-1] == ("dial", CHAMPION)
    talk.connect()
    assert talk.upstream.sent.partition(b"\r\n\r\n")[2] == BODY
    talk.check()
