"""What the challenger refuses, the champion answers; and its answer shows whether the challenger was at fault."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.records import Arm, Outcome
from proxy.clock import ManualClock
from proxy.config.serving import BreakerConfig
from proxy.gateway.breaker import Breaker
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Script, Seen, Upstream, reply, serve_upstream

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
BREAKER = BreakerConfig(consecutive_failures=3, open_seconds=10.0)
DEFAULT = (401, 403, 404, 408, 429)


def says(status: int, body: bytes = b"{}") -> Script:
    async def answer(seen: Seen, line: Line) -> None:
        await line.send(reply(CHAT if status == 200 else body, status=b"%d Because" % status))

    return answer


def breaker_of(door: Door) -> Breaker:
    (breaker,) = door.gateway.router._breakers.values()
    return breaker


@pytest.mark.parametrize("status", [*DEFAULT, 400, 422])
async def test_a_challenger_that_refuses_everything_costs_no_user_an_answer_and_is_out(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    async with serve_upstream() as other:
        other.default = says(status)  # type: ignore[method-assign]
        chosen = config(gateway={"fallback_statuses": (*DEFAULT, 400, 422)})
        async with open_gateway(tmp_path, upstream.url, challenger=other.url, settings=chosen) as door:
            for _ in range(10):
                head, body = await door.ask(POST)
                assert (head[:12], body) == (b"HTTP/1.1 200", CHAT)
            assert len(other.seen) == 5, "out before its tenth user"
            assert door.count("breaker_open") == 1
            facts = [frame.meta for frame in door.frames()]
            assert [meta["fb"] for meta in facts] == ["status"] * 5 + ["breaker"] * 5
            assert [meta.get("cs") for meta in facts] == [status] * 5 + [None] * 5
            assert {(meta["arm"], meta["srv"], meta["st"]) for meta in facts} == {(Arm.CHALLENGER, Arm.CHAMPION, 200)}
            assert door.count('fallbacks_total{cause="status"}') == 5
    assert [seen.payload for seen in upstream.seen] == [b"body"] * 10


@pytest.mark.parametrize(("challenger", "champion"), [(404, 404), (401, 401), (404, 401), (429, 422), (403, 400)])
async def test_what_both_refuse_is_the_clients_own_fault(
    upstream: Upstream, tmp_path: Path, challenger: int, champion: int
) -> None:
    upstream.default = says(champion, b"no")  # type: ignore[method-assign]
    async with serve_upstream() as other:
        other.default = says(challenger)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url) as door:
            for _ in range(20):
                head, body = await door.ask(POST)
                assert (head[9:12], body) == (b"%d" % champion, b"no")
            assert len(other.seen) == 20, "it is asked on"
            assert door.count("breaker_open") == 0
            meta = (await door.frame(20)).meta
            assert (meta["arm"], meta["srv"], meta["fb"]) == (Arm.CHALLENGER, Arm.CHAMPION, None)
            assert (meta["st"], meta["cs"], meta["out"]) == (champion, challenger, Outcome.OK)
            assert door.count('fallbacks_total{cause="both_refused"}') == 20
            assert door.count('fallbacks_total{cause="status"}') == 0


@pytest.mark.parametrize("status", [400, 402, 405, 409, 410, 413, 415, 418, 422, 451, 499])
async def test_other_refusals_pass_and_show_nothing(upstream: Upstream, tmp_path: Path, status: int) -> None:
    async with serve_upstream() as other:
        other.default = says(status, b"no")  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url) as door:
            head, body = await door.ask(POST)
            assert (head[9:12], body) == (b"%d" % status, b"no")
            meta = (await door.frame()).meta
            assert (meta["srv"], meta["fb"], "cs" in meta) == (Arm.CHALLENGER, None, False)
    assert upstream.seen == []


@pytest.mark.parametrize("status", [*DEFAULT, 400, 422])
async def test_the_champions_own_refusals_pass_unchanged(upstream: Upstream, tmp_path: Path, status: int) -> None:
    upstream.default = says(status, b"no")  # type: ignore[method-assign]
    async with open_gateway(tmp_path, upstream.url) as door:
        head, body = await door.ask(POST)
        assert (head[9:12], body) == (b"%d" % status, b"no")
    assert len(upstream.seen) == 1


async def test_a_champion_that_fails_is_no_witness(upstream: Upstream, tmp_path: Path) -> None:
    upstream.default = says(503, b"busy")  # type: ignore[method-assign]
    async with serve_upstream() as other:
        other.default = says(404)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url) as door:
            for _ in range(10):
                head, body = await door.ask(POST)
                assert (head[9:12], body) == (b"503", b"busy")
            assert (len(other.seen), door.count("breaker_open")) == (10, 0)
            assert (await door.frame()).meta["fb"] == "status"


async def test_a_champion_that_is_gone_is_no_witness_either(upstream: Upstream, tmp_path: Path) -> None:
    async with serve_upstream() as other:
        other.default = says(404)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, "http://127.0.0.1:1", challenger=other.url) as door:
            for _ in range(10):
                assert (await door.ask(POST))[0][9:12] == b"502"
            assert (len(other.seen), door.count("breaker_open")) == (10, 0)
            meta = (await door.frame()).meta
            assert (meta["st"], meta["fb"], meta["cs"]) == (502, "status", 404)


async def test_a_probe_whose_refusal_was_right_is_followed_by_another(upstream: Upstream, tmp_path: Path) -> None:
    """Half open, one request probes; an answer that shows nothing must not end the probing for ever."""
    clock, chosen = ManualClock(), config(gateway={"breaker": BREAKER})
    async with serve_upstream() as other:
        other.default = says(503)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url, settings=chosen, clock=clock) as door:
            for _ in range(4):
                await door.ask(POST)
            assert (len(other.seen), door.count("breaker_open")) == (3, 1)
            clock.advance(10)
            upstream.default = other.default = says(404)  # type: ignore[method-assign]
            await door.ask(POST)
            await door.ask(POST)
            assert (len(other.seen), door.count("breaker_open")) == (5, 1)
            other.default = says(200)  # type: ignore[method-assign]
            await door.ask(POST)
            assert (len(other.seen), door.count("breaker_open")) == (6, 0)


async def test_a_client_that_leaves_before_the_verdict_leaves_none(upstream: Upstream, tmp_path: Path) -> None:
    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()

    upstream.default = hang  # type: ignore[method-assign]
    clock, chosen = ManualClock(), config(gateway={"breaker": BREAKER})
    async with serve_upstream() as other:
        other.default = says(503)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url, settings=chosen, clock=clock) as door:
            breaker = breaker_of(door)
            for _ in range(3):
                breaker.failure(clock.monotonic())
            clock.advance(10)
            other.default = says(404)  # type: ignore[method-assign]
            client = await door.connect()
            await client.send(POST)
            await asyncio.wait_for(upstream.arrived.wait(), 120)
            client.close()
            meta = (await door.frame()).meta
            assert (meta["out"], meta["fb"], meta["cs"]) == (Outcome.CLIENT_DISCONNECT, None, 404)
            assert breaker.allow(clock.monotonic()), "the next probe may go"


async def test_an_upload_that_is_refused_early_goes_to_the_champion_whole(upstream: Upstream, tmp_path: Path) -> None:
    async def refuse(seen: Seen, line: Line) -> None:
        await line.send(reply(b"no", status=b"401 Unauthorized"))
        await line.until_closed()

    body = b"a" * 3_000_000
    async with serve_upstream() as other:
        other.on("/up", refuse, early=True)
        async with open_gateway(tmp_path, upstream.url, challenger=other.url) as door:
            client = await door.connect()
            head = b"POST /up HTTP/1.1\r\nHost: x\r\nX-User-Id: u\r\nContent-Length: %d\r\n\r\n"
            await client.send(head % len(body))
            await client.send(body[:1000])
            await asyncio.wait_for(other.arrived.wait(), 120)
            await client.send(body[1000:])
            assert (await client.response())[1] == CHAT
            assert (await door.frame()).meta["fb"] == "status"
    assert upstream.seen[0].payload == body


async def test_a_websocket_that_the_challenger_does_not_know_is_the_champions(
    upstream: Upstream, tmp_path: Path
) -> None:
    async def upgrade(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
        line.close()

    upstream.default = upgrade  # type: ignore[method-assign]
    async with serve_upstream() as other:
        other.default = says(404)  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url) as door:
            client = await door.connect()
            await client.send(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert (await client.rest()).endswith(b"hello")
            client.close()
            assert ((await door.frame()).meta["fb"], breaker_of(door)._failures) == ("status", 1)


statuses = st.sampled_from([200, 200, 302, 400, 401, 404, 408, 422, 429, 500, 503])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exchanges=st.lists(st.tuples(statuses, statuses), min_size=1, max_size=12))
async def test_blame_needs_a_champion_that_did_better(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, exchanges: list[tuple[int, int]]
) -> None:
    """Whatever the two say: fallbacks are counted as failures exactly where the challenger could not or would not
    answer and the champion did not refuse, and the breaker never opens without one."""
    unwanted = {*DEFAULT, 503}
    async with serve_upstream() as other:
        directory = tmp_path_factory.mktemp("door")
        async with open_gateway(directory, upstream.url, challenger=other.url) as door:
            for challenger, champion in exchanges:
                other.default, upstream.default = says(challenger), says(champion)  # type: ignore[method-assign]
                if door.count("breaker_open"):
                    break
                head, _ = await door.ask(POST)
                stepped_in = challenger in unwanted
                assert int(head[9:12]) == (champion if stepped_in else challenger)
                meta = (await door.frame(len(door.frames()))).meta
                blamed = stepped_in and (challenger == 503 or not 400 <= champion < 500)
                assert meta["fb"] == ("status" if blamed else None)
                assert meta.get("cs") == (challenger if stepped_in else None)
