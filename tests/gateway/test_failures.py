"""What breaks upstream or downstream ends the way it would have without us, and is written down as what it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from policies.records import Arm, Outcome
from proxy.clock import ManualClock
from proxy.gateway.request_buffer import Budget
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
DEAD = "http://127.0.0.1:1"


async def test_a_dead_champion_is_a_502_with_a_record(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, DEAD) as door:
        head, body = await door.ask(POST)
        assert head.startswith(b"HTTP/1.1 502 Bad Gateway")
        assert b"upstream_unreachable" in body
        meta = (await door.frame()).meta
        assert b"x-ratchet-record-id" in head
        assert (meta["st"], meta["out"], meta["fb"]) == (502, Outcome.UPSTREAM_ERROR, None)
        assert door.count("upstream_connect_errors_total") == 1


async def test_a_dead_champion_is_one_line_in_the_log_and_not_one_a_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, DEAD, clock=clock) as door:
        for _ in range(3):
            await door.ask(POST)
        (line,) = caplog.messages
        assert line.startswith("old at 127.0.0.1:1: upstream_unreachable")
        clock.advance(10)
        await door.ask(POST)
        assert caplog.messages[1].endswith("the client got 502; 2 more since the last line like this")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02 nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nBad Name: a\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 20",
    ],
)
async def test_garbage_from_the_model_is_a_502(door: Door, upstream: Upstream, garbage: bytes) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(garbage)
        line.close()

    upstream.on("/x", script)
    head, _ = await door.ask(GET)
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway")
    assert (await door.frame()).meta["out"] == Outcome.UPSTREAM_ERROR


async def test_a_head_that_can_not_become_a_good_one_is_not_waited_for(door: Door, upstream: Upstream) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
        await line.until_closed()

    upstream.on("/x", script)
    head, _ = await door.ask(GET)
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway")


async def test_silence_before_the_first_byte_is_a_504(upstream: Upstream, tmp_path: Path) -> None:
    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()

    upstream.on("/x", hang)
    async with open_gateway(
        tmp_path, upstream.url, settings=config(gateway={"first_byte_timeout_seconds": 0.1})
    ) as door:
        head, _ = await door.ask(POST)
        assert head.startswith(b"HTTP/1.1 504 Gateway Timeout")
        assert (await door.frame()).meta["out"] == Outcome.TIMEOUT
        await asyncio.wait_for(upstream.lines[0].closed.wait(), 120)


async def test_silence_in_the_middle_cuts_the_answer(upstream: Upstream, tmp_path: Path) -> None:
    async def stall(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await line.until_closed()

    upstream.on("/x", stall)
    async with open_gateway(tmp_path, upstream.url, settings=config(gateway={"idle_timeout_seconds": 0.1})) as door:
        answer = await door.dialogue(GET)
        assert answer.endswith(b"3\r\nabc\r\n")
        meta = (await door.frame()).meta
        assert (meta["out"], meta["st"]) == (Outcome.TIMEOUT, 200)


CALM = config(gateway={"idle_timeout_seconds": 10.0, "body_idle_seconds": 1000.0, "client_idle_seconds": 5.0})


@pytest.mark.parametrize("hint", [b"100 Continue", b"103 Early Hints"])
async def test_the_silence_behind_a_1xx_is_none_in_the_middle_of_an_answer(
    upstream: Upstream, tmp_path: Path, hint: bytes
) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 " + hint + b"\r\n\r\n")
        body = await line.reader.readexactly(4)
        await line.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await go.wait()
        await line.send(reply(body))

    upstream.on("/x", script, early=True)
    go, clock = asyncio.Event(), ManualClock()
    async with open_gateway(tmp_path, upstream.url, settings=CALM, clock=clock) as door:
        client = await door.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert hint in await client.head()
        await door.pass_time(clock, 20)  # a long upload
        await client.send(b"ping")
        assert b"103" in await client.head()
        await door.pass_time(clock, 20)  # long thinking
        go.set()
        assert (await client.response())[1] == b"ping"


async def test_a_1xx_does_not_stop_the_wait_for_the_answer(upstream: Upstream, tmp_path: Path) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await line.until_closed()

    upstream.on("/x", script)
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, settings=CALM, clock=clock) as door:
        client = await door.connect()
        await client.send(GET)
        assert b"103" in await client.head()
        clock.advance(601)
        assert (await client.head()).startswith(b"HTTP/1.1 504")


async def test_an_early_answer_that_stops_is_cut_although_the_body_was_slow_to_go(
    upstream: Upstream, tmp_path: Path
) -> None:
    size = 32 << 20

    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await go.wait()
        await line.reader.readexactly(size)
        read.set()
        await line.until_closed()

    upstream.on("/x", script, early=True)
    go, read, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    async with open_gateway(tmp_path, upstream.url, settings=CALM, clock=clock) as door:
        client = await door.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        sending = asyncio.create_task(client.send(b"a" * size))
        go.set()
        await sending
        await asyncio.wait_for(read.wait(), 120)
        clock.advance(11)
        assert await client.rest() == b"abc"
        assert (await door.frame()).meta["out"] == Outcome.TIMEOUT


@pytest.mark.parametrize(
    ("start", "sent"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\nabc\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"abc"),
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_death_mid_body_is_no_end_of_the_answer(
    door: Door, upstream: Upstream, start: bytes, sent: bytes, how: str
) -> None:
    go = asyncio.Event()

    async def die(seen: Seen, line: Line) -> None:
        await line.send(start)
        await go.wait()
        line.reset() if how == "reset" else line.close()

    upstream.on("/x", die)
    client = await door.connect()
    await client.send(GET)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert await client.exactly(len(sent)) == sent
    go.set()
    try:
        assert await client.rest() == b""
    except ConnectionResetError:
        assert how == "reset"
    frame = await door.frame()
    assert frame.meta["out"] == Outcome.UPSTREAM_ERROR
    assert frame.response == b"abc"


async def test_chunks_that_do_not_add_up_cut_the_answer(door: Door, upstream: Upstream) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n")
        await line.until_closed()

    upstream.on("/x", script)
    answer = await door.dialogue(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == b""
    assert (await door.frame()).meta["out"] == Outcome.UPSTREAM_ERROR
    await asyncio.wait_for(upstream.lines[0].closed.wait(), 120)


async def test_a_client_that_leaves_closes_the_model_at_once(door: Door, upstream: Upstream) -> None:
    async def stream(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await line.until_closed()

    upstream.on("/x", stream)
    client = await door.connect()
    await client.send(GET)
    await client.until(b"\r\nabc\r\n")
    client.close()
    await asyncio.wait_for(upstream.lines[0].closed.wait(), 120)
    frame = await door.frame()
    assert (frame.meta["out"], frame.response) == (Outcome.CLIENT_DISCONNECT, b"abc")
    await door.settled("in_flight", 0)


async def test_a_client_that_leaves_before_the_answer_is_recorded_once(door: Door, upstream: Upstream) -> None:
    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()

    upstream.on("/x", hang)
    client = await door.connect()
    await client.send(POST)
    await asyncio.wait_for(upstream.arrived.wait(), 120)
    client.close()
    await asyncio.wait_for(upstream.lines[0].closed.wait(), 120)
    meta = (await door.frame()).meta
    assert (meta["out"], meta["st"], meta["ttfb"]) == (Outcome.CLIENT_DISCONNECT, 0, None)
    assert len(door.frames()) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_stale_connection_is_retried_on_a_fresh_one(
    door: Door, upstream: Upstream, how: str, request_: bytes
) -> None:
    async def once(seen: Seen, line: Line) -> None:
        if len([s for s in upstream.seen if s.connection == seen.connection]) == 1:
            await line.send(reply())
        elif how == "reset":
            line.reset()
        else:
            line.close()

    upstream.on("/x", once)
    for _ in range(2):
        head, body = await door.ask(request_)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == CHAT
    assert [seen.connection for seen in upstream.seen] == [1, 1, 2]
    assert door.count("stale_retries_total") == 1


@pytest.mark.parametrize(("request_", "status", "asked"), [(GET, b"200", 3), (POST, b"502", 2)])
async def test_a_kept_connection_that_dies_at_work_is_retried_only_where_that_is_safe(
    upstream: Upstream, tmp_path: Path, request_: bytes, status: bytes, asked: int
) -> None:
    async def work(seen: Seen, line: Line) -> None:
        if len(upstream.seen) == 2:
            clock.advance(6)  # longer than any close can be on its way
            line.close()
        else:
            await line.send(reply())

    upstream.on("/x", work)
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        await door.ask(request_)
        head, _ = await door.ask(request_)
    assert head.startswith(b"HTTP/1.1 " + status)
    assert len(upstream.seen) == asked


async def test_a_fresh_connection_that_dies_is_not_retried(door: Door, upstream: Upstream) -> None:
    async def die(seen: Seen, line: Line) -> None:
        line.close()

    upstream.on("/x", die)
    head, _ = await door.ask(POST)
    assert head.startswith(b"HTTP/1.1 502")
    assert len(upstream.seen) == 1


async def test_a_connection_closed_while_idle_is_not_used(door: Door, upstream: Upstream) -> None:
    await door.ask(GET)
    upstream.lines[0].close()
    await door.settled("upstream_connections", 0)
    head, _ = await door.ask(GET)
    assert head.startswith(b"HTTP/1.1 200")
    assert door.count("stale_retries_total") == 0


async def test_bytes_behind_an_answer_never_reach_the_next_client(door: Door, upstream: Upstream) -> None:
    async def split(seen: Seen, line: Line) -> None:
        await line.send(reply(b"one") + reply(b"evil"))

    upstream.on("/x", split)
    assert (await door.ask(GET))[1] == b"one"
    assert (await door.ask(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"))[1] == CHAT


FAILURES = {
    "connect": DEAD,
    "reset": None,
    "garbage": None,
    "timeout": None,
    "status": None,
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failing_challenger_costs_no_user_an_answer(upstream: Upstream, tmp_path: Path, failure: str) -> None:
    clock = ManualClock()

    async def fail(seen: Seen, line: Line) -> None:
        if failure == "reset":
            line.reset()
        elif failure == "garbage":
            await line.send(b"\x00\r\n\r\n")
        elif failure == "status":
            await line.send(reply(b"busy", status=b"503 Service Unavailable"))
        else:
            clock.advance(1.0)
            await line.until_closed()

    async with serve_upstream() as bad:
        bad.default = fail  # type: ignore[method-assign]
        settings = config(gateway={"first_byte_timeout_seconds": 1.0, "expose_arm": True})
        url = FAILURES[failure] or bad.url
        async with open_gateway(tmp_path, upstream.url, challenger=url, settings=settings, clock=clock) as door:
            head, body = await door.ask(POST)
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert body == CHAT
            assert b"\r\nx-ratchet-arm: champion\r\n" in head
            meta = (await door.frame()).meta
            cause = failure if failure in ("timeout", "status") else "connect"
            assert (meta["arm"], meta["srv"], meta["fb"]) == (Arm.CHALLENGER, Arm.CHAMPION, cause)
            assert (meta["mn"], meta["st"], meta["out"]) == ("old", 200, Outcome.OK)
            assert door.count(f'fallbacks_total{{cause="{cause}"}}') == 1
    assert upstream.seen[0].payload == b"body"


async def test_the_breaker_opens_probes_and_closes(upstream: Upstream, tmp_path: Path) -> None:
    healthy = False

    async def sick(seen: Seen, line: Line) -> None:
        await line.send(reply() if healthy else reply(b"no", status=b"502 Bad Gateway"))

    async with serve_upstream() as challenger:
        challenger.default = sick  # type: ignore[method-assign]
        from proxy.config.serving import BreakerConfig

        breaker = BreakerConfig(consecutive_failures=3, open_seconds=1.0)
        settings, clock = config(gateway={"breaker": breaker}), ManualClock()
        async with open_gateway(
            tmp_path, upstream.url, challenger=challenger.url, settings=settings, clock=clock
        ) as door:
            for _ in range(5):
                assert (await door.ask(POST))[1] == CHAT
            assert len(challenger.seen) == 3
            assert door.count("breaker_open") == 1
            assert [frame.meta["fb"] for frame in door.frames()] == ["status"] * 3 + ["breaker"] * 2
            healthy = True
            clock.advance(1.0)
            for _ in range(2):
                assert (await door.ask(POST))[1] == CHAT
            assert len(challenger.seen) == 5, "the probe, and whoever comes after it"
            assert door.count("breaker_open") == 0
            assert door.frames()[-1].meta["srv"] == Arm.CHALLENGER


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("failure", ["connect", "reset", "status"])
async def test_a_body_longer_than_the_records_falls_back_whole(
    upstream: Upstream, tmp_path: Path, failure: str, chunked: bool
) -> None:
    async def fail(seen: Seen, line: Line) -> None:
        if failure == "reset":
            line.reset()
        else:
            await line.send(reply(b"busy", status=b"503 Service Unavailable"))

    pieces = [bytes([97 + n]) * 300_000 for n in range(6)]
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1800000"
    async with serve_upstream() as bad:
        bad.default = fail  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=DEAD if failure == "connect" else bad.url) as door:
            client = await door.connect()
            await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nX-User-Id: u\r\n" + framing + b"\r\n\r\n")
            for piece in pieces:
                await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await client.send(b"0\r\n\r\n" if chunked else b"")
            assert (await client.response())[1] == CHAT
            assert (await door.frame()).meta["rb"] == 1_800_000
            assert door.gateway.budget.left == Budget().left
    assert upstream.seen[0].payload == b"".join(pieces)


async def test_what_is_uploaded_behind_the_answer_is_not_kept(upstream: Upstream, tmp_path: Path) -> None:
    got = asyncio.Event()

    async def early(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await line.reader.readexactly(1_000_000)
        got.set()
        await line.until_closed()

    upstream.on("/x", early, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url) as door:
        client = await door.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nX-User-Id: u\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"3\r\nabc\r\n")
        await client.head()
        await client.send(b"f4240\r\n" + b"a" * 1_000_000)
        await asyncio.wait_for(got.wait(), 120)
        assert door.gateway.budget.left == Budget().left


async def test_a_body_too_long_to_keep_cannot_fall_back(upstream: Upstream, tmp_path: Path) -> None:
    async def busy(seen: Seen, line: Line) -> None:
        await line.send(reply(b"busy", status=b"503 Service Unavailable"))

    async with serve_upstream() as bad:
        bad.default = busy  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=bad.url) as door:
            for number, size, memory in ((1, 17 << 20, Budget().left), (2, 1 << 20, 700_000)):
                door.gateway.budget.left = memory
                head, body = await door.ask(
                    b"POST /x HTTP/1.1\r\nHost: x\r\nX-User-Id: u\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
                )
                assert (head[:12], body) == (b"HTTP/1.1 503", b"busy")
                assert door.count('fallbacks_impossible_total{cause="status"}') == number
                assert door.gateway.budget.left == memory
    assert upstream.seen == []


async def test_a_bad_route_table_leaves_the_last_good_one_serving(door: Door) -> None:
    from proxy.routes import Target

    door.route(champion=Target(model_id=3, name="bad", url="ftp://nowhere"))
    assert (await door.ask(GET))[1] == CHAT


async def test_a_full_spool_refuses_where_told_to(upstream: Upstream, tmp_path: Path) -> None:
    settings, spool = config(spool={"when_full": "refuse"}), AtItsCap()
    async with open_gateway(tmp_path, upstream.url, settings=settings, spool=spool) as door:
        head, body = await door.ask(GET)  # the spool is empty, so not full; the frame is dropped
        assert head.startswith(b"HTTP/1.1 200")
        spool.full = True
        head, body = await door.ask(GET)
        assert head.startswith(b"HTTP/1.1 503")
        assert b"spool_full" in body
        assert door.count('not_recorded_total{reason="refused"}') == 1
    assert len(upstream.seen) == 1


class AtItsCap:
    """A spool that drops every frame."""

    full = False

    def append(self, frame: bytes) -> bool:
        return False
