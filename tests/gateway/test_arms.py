"""Which model serves whom, under which name, and what is written down about it."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from policies.assignment import assign
from policies.records import Arm, StickySource
from proxy.config.serving import RedactionConfig
from proxy.gateway.request_buffer import Budget
from proxy.ids import KeyRing
from proxy.routes import Target
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream


def post(body: bytes, headers: bytes = b"", path: bytes = b"/v1/chat/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path,
        headers,
        len(body),
        body,
    )


async def test_the_hash_of_the_key_decides_and_nothing_else(upstream: Upstream, tmp_path: Path) -> None:
    async with serve_upstream() as other, open_gateway(tmp_path, upstream.url, challenger=other.url, share=0.4) as door:
        for n in range(40):
            key = b"user-%d" % n
            before = len(other.seen)
            sources = (post(b"{}", b"X-Ratchet-User: " + key + b"\r\n"), post(b'{"user":"%b"}' % key))
            await door.ask(sources[n % 2])
            went_to_challenger = len(other.seen) > before
            assert went_to_challenger == (assign(bytes.fromhex("00ff" * 8), key, 0.4) is Arm.CHALLENGER)
        assert 0 < len(other.seen) < 40
        frames = door.frames()
        for frame in frames:
            served_by_new = frame.meta["mn"] == "new"
            assert frame.meta["arm"] == frame.meta["srv"] == int(served_by_new)
            assert (frame.meta["exp"], frame.meta["ep"], frame.meta["cfg"]) == (7, 3, 5)
            assert frame.meta["mid"] == (2 if served_by_new else 1)


@pytest.mark.parametrize(
    ("headers", "body", "key", "source"),
    [
        (b"X-Ratchet-User: a\r\nX-User-Id: b\r\n", b'{"user":"c"}', b"a", StickySource.RATCHET_HEADER),
        (b"X-User-Id: b\r\nCookie: sid=d\r\n", b'{"user":"c"}', b"b", StickySource.HEADER),
        (b"Helicone-User-Id: h\r\n", b"{}", b"h", StickySource.HEADER),
        (b"Cookie: x=1; sid=d; y=2\r\n", b'{"user":"c"}', b"d", StickySource.COOKIE),
        (b"", b'{"safety_identifier":"s","user":"c"}', b"s", StickySource.BODY),
        (b"", b'{"metadata":{"user_id":"m"}}', b"m", StickySource.BODY),
        (b"", b'{"messages":[{"role":"system","content":"z"},{"role":"user","content":"hi"}]}', b"hi",
         StickySource.FIRST_MESSAGE),
        (b"Authorization: Bearer k\r\n", b"[1]", None, StickySource.RANDOM),
    ],
)  # fmt: skip
async def test_the_first_source_present_names_the_user(
    upstream: Upstream, tmp_path: Path, headers: bytes, body: bytes, key: bytes | None, source: StickySource
) -> None:
    settings = config(sticky={"cookie": "sid"})
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5, settings=settings) as door:
        await door.ask(post(body, headers))
        meta = (await door.frame()).meta
        assert meta["src"] == source.value
        hashed = KeyRing.load_or_create(tmp_path / "keys.json").user_hash(key) if key is not None else None
        assert meta["key"] == hashed


async def test_without_a_challenger_the_body_is_not_waited_for(door: Door, upstream: Upstream) -> None:
    got_head = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        got_head.set()
        await line.reader.readexactly(12)
        await line.send(reply())

    upstream.on("/v1", script, early=True)
    client = await door.connect()
    await client.send(b"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{")
    await asyncio.wait_for(got_head.wait(), 120)
    await client.send(b'"user":"u"}')
    await client.response()
    assert (await door.frame()).request == b'{"user":"u"}'  # where ingest finds whose it is


async def test_with_a_challenger_the_body_is_read_first_even_behind_expect(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        client = await door.connect()
        await client.send(
            b"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
            b"Content-Length: 12\r\n\r\n"
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert upstream.lines == []
        await client.send(b'{"user":"u"}')
        assert (await client.response())[1] == CHAT
    assert upstream.seen[0].header("expect") is None


async def test_an_http_1_0_client_is_told_nothing_before_the_answer(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url) as door:
        client = await door.connect()
        await client.send(b"POST /v1 HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n")
        await client.send(b'{"user":"u"}')
        assert (await client.rest()).startswith(b"HTTP/1.1 200 OK")
        assert upstream.seen[0].header("expect") is None


async def test_a_user_behind_long_messages_stays_on_one_side(upstream: Upstream, tmp_path: Path) -> None:
    short = b'{"messages":[{"role":"user","content":"hello"}],"user":"user-17"}'
    long = b'\n{"messages":[{"role":"user","content":"%b"}],"user":"user-17"}' % (b"picture" * 100_000)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        for body in (short, long):
            client = await door.connect()
            request = post(body)
            for start in range(0, len(request), 100_000):
                await client.send(request[start : start + 100_000])
            await client.response()
        assert upstream.seen[1].payload == long
        facts = [(await door.frame(n)).meta for n in (1, 2)]
        assert [meta["src"] for meta in facts] == ["body", "body"]
        assert facts[0]["key"] == facts[1]["key"]
        assert facts[0]["arm"] == facts[1]["arm"] == int(assign(bytes.fromhex("00ff" * 8), b"user-17", 0.5))
        assert door.gateway.budget.left == Budget().left


async def test_a_compressed_body_still_names_its_user(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        body = gzip.compress(b'{"user":"zipped"}')
        await door.ask(post(body, b"Content-Encoding: gzip\r\n"))
        frame = await door.frame()
        assert frame.meta["src"] == "body"
        assert frame.request == body
    assert upstream.seen[0].payload == body


async def test_only_the_model_name_is_rewritten(upstream: Upstream, tmp_path: Path) -> None:
    body = b'{ "messages":[{"model":"inner"}], "model" : "gpt-4o",\n "temperature":1.0, "x":"\\u00e9"}'
    target = Target(model_id=2, name="new", url=upstream.url, model="tuned-7b")
    async with open_gateway(tmp_path, upstream.url, challenger=target) as door:
        await door.ask(post(body))
        await door.ask(
            b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        )
        assert (await door.frame()).request == body
    expected = body.replace(b'"gpt-4o"', b'"tuned-7b"')
    assert [seen.payload for seen in upstream.seen] == [expected, expected]
    assert upstream.seen[0].header("content-length") == b"%d" % len(expected)


async def test_a_fallback_gets_the_original_name_back(upstream: Upstream, tmp_path: Path) -> None:
    target = Target(model_id=2, name="new", url="http://127.0.0.1:1", model="tuned-7b")
    async with open_gateway(tmp_path, upstream.url, challenger=target) as door:
        await door.ask(post(b'{"model":"gpt-4o"}'))
    assert upstream.seen[0].payload == b'{"model":"gpt-4o"}'


async def test_a_long_body_is_rewritten_from_its_beginning(upstream: Upstream, tmp_path: Path) -> None:
    body = b'{"model":"gpt-4o","x":"' + b"y" * 300_000 + b'"}'
    target = Target(model_id=2, name="new", url=upstream.url, model="a-much-longer-name")
    settings = config(capture={"max_request_bytes": 1000})
    async with open_gateway(tmp_path, upstream.url, challenger=target, settings=settings) as door:
        client = await door.connect()
        request = post(body, b"X-User-Id: u\r\n")
        await client.send(request[:2000])
        await client.send(request[2000:])
        await client.response()
        frame = await door.frame()
    assert upstream.seen[0].payload == body.replace(b"gpt-4o", b"a-much-longer-name")
    assert (len(frame.request), frame.meta["rb"]) == (1000, len(body))


async def test_a_long_body_waits_for_the_model_behind_its_messages(upstream: Upstream, tmp_path: Path) -> None:
    body = b'{"messages":[{"role":"user","content":"' + b'\\"y' * 100_000 + b'"}],"model":"gpt-4o","n":1}'
    target = Target(model_id=2, name="new", url=upstream.url, model="tuned-7b")
    settings = config(capture={"max_request_bytes": 1000})
    async with open_gateway(tmp_path, upstream.url, challenger=target, settings=settings) as door:
        client = await door.connect()
        request = post(body, b"X-User-Id: u\r\n")
        for start in range(0, len(request), 50_000):
            await client.send(request[start : start + 50_000])
        await client.response()
    assert upstream.seen[0].payload == body.replace(b"gpt-4o", b"tuned-7b")
    assert upstream.seen[0].header("content-length") == b"%d" % (len(body) + 2)


async def test_a_body_without_a_model_is_not_held_for_ever(upstream: Upstream, tmp_path: Path) -> None:
    target = Target(model_id=2, name="new", url=upstream.url, model="tuned-7b")
    endless = b"POST /c HTTP/1.1\r\nHost: x\r\nX-User-Id: u\r\nContent-Length: 100000000\r\n\r\n"

    async def early(seen: Seen, line: Line) -> None:
        await line.send(reply())
        await line.until_closed()

    upstream.on("/c", early, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=target) as door:
        for beginning in (b"a=b&", b'{"x":1}'):  # a form, and an object that has ended
            client = await door.connect()
            await client.send(endless + beginning + b" " * 300_000)
            await client.response()
        client = await door.connect()
        await client.send(endless)
        sending = asyncio.create_task(client.send(b'{"x":"' + b"y" * (17 << 20)))
        await client.response()
        client.writer.transport.abort()  # the rest is nobody's
        await asyncio.gather(sending, return_exceptions=True)


async def test_an_arm_is_forced_only_with_the_admin_token(upstream: Upstream, tmp_path: Path) -> None:
    async with (
        serve_upstream() as other,
        open_gateway(tmp_path, upstream.url, challenger=other.url, share=0.0, admin_token="letmein") as door,
    ):
        force = b"X-Ratchet-Arm: challenger\r\n"
        await door.ask(post(b"{}", force))
        await door.ask(post(b"{}", force + b"X-Ratchet-Admin-Token: wrong\r\n"))
        assert len(other.seen) == 0
        await door.ask(post(b"{}", force + b"X-Ratchet-Admin-Token: letmein\r\n"))
        assert len(other.seen) == 1
        frames = [await door.frame(n) for n in (1, 2, 3)]
    assert [frame.meta["exp"] for frame in frames] == [7, 7, None]
    assert [frame.meta["arm"] for frame in frames] == [0, 0, 1]
    assert not any(b"ratchet" in line.lower() for line in other.seen[0].lines)


async def test_admin_tokens_are_not_tried_one_after_another_here(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, admin_token="letmein") as door:
        heads = [await door.dialogue(
            b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Ratchet-Admin-Token: guess-%d\r\n\r\n" % number
        ) for number in range(12)]  # fmt: skip
        assert [head.split(b" ")[1] for head in heads] == [b"200"] * 10 + [b"429"] * 2
        assert b"\r\nRetry-After: 1\r\n" in heads[-1]
        assert len(upstream.seen) == 10
        right = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Ratchet-Admin-Token: letmein\r\n\r\n"
        assert (await door.dialogue(right)).startswith(b"HTTP/1.1 200 ")
        assert door.count('protocol_errors_total{status="429"}') == 2
        assert door.count("in_flight") == 0


async def test_a_record_holds_what_happened_and_no_secret(door: Door, upstream: Upstream) -> None:
    async def slow(seen: Seen, line: Line) -> None:
        await asyncio.sleep(0.05)
        await line.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-Id: r1\r\nContent-Length: 4\r\n\r\nab"
        )
        await asyncio.sleep(0.05)
        await line.send(b"cd")

    upstream.on("/p", slow)
    path = b"/p?q=1&key=AIza-secret&api_key=secret&max_token=1&Access_Token=secret"
    secrets = b"Authorization: Bearer sk-secret\r\nCookie: session=secret\r\nX-Api-Key: secret\r\n"
    await door.ask(post(b'{"store":false}', secrets + b"User-Agent: t/1\r\nX-Ratchet-No-Train: 1\r\n", path))
    assert upstream.seen[0].target == path
    frame = await door.frame()
    meta = frame.meta
    assert b"secret" not in json.dumps(meta).encode() + frame.request + frame.response
    assert meta["p"] == "/p?q=1&key=[redacted]&api_key=[redacted]&max_token=[redacted]&Access_Token=[redacted]"
    assert (meta["m"], meta["st"], meta["nt"]) == ("POST", 200, True)
    assert meta["rh"] == {"content-type": "application/json", "user-agent": "t/1"}
    assert meta["sh"] == {"content-type": "text/plain", "x-request-id": "r1"}
    assert (meta["rb"], meta["sb"], frame.response) == (15, 4, b"abcd")
    assert 49_000 <= meta["ttfb"] <= meta["dur"]  # uvloop's timers are whole milliseconds, and may fire one early
    assert meta["up"] >= 98_000
    assert meta["own"] <= meta["dur"] - meta["up"] + 2
    assert "rsha" not in meta


async def test_a_slow_client_is_not_our_overhead(door: Door) -> None:
    client = await door.connect()
    request = post(b'{"user":"u"}')
    await client.send(request[:-1])
    await door.settled("in_flight", 1)
    await asyncio.sleep(1.0)  # the client's slowness is what is tested
    await client.send(request[-1:])
    await client.response()
    meta = (await door.frame()).meta
    assert meta["dur"] >= 900_000
    assert meta["own"] + meta["up"] <= meta["dur"] - 900_000


async def test_long_bodies_are_cut_in_the_record_only(upstream: Upstream, tmp_path: Path) -> None:
    from hashlib import sha256

    settings = config(capture={"max_request_bytes": 8, "max_response_bytes": 100})
    async with open_gateway(tmp_path, upstream.url, settings=settings) as door:
        _, body = await door.ask(post(b"0123456789"))
        assert body == CHAT
        frame = await door.frame()
    assert (frame.request, frame.response) == (b"01234567", CHAT[:100])
    assert (frame.meta["rb"], frame.meta["sb"]) == (10, len(CHAT))
    assert frame.meta["rsha"] == sha256(b"0123456789").hexdigest()
    assert frame.meta["ssha"] == sha256(CHAT).hexdigest()


async def test_bodies_can_be_left_out(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, upstream.url, settings=config(capture={"enabled": False})) as door:
        await door.ask(post(b'{"user":"u"}'))
        frame = await door.frame()
    assert (frame.request, frame.response) == (b"", b"")
    assert (frame.meta["rb"], frame.meta["sb"], frame.meta["src"]) == (12, len(CHAT), "body")


async def test_redaction_cleans_the_copy_and_only_the_copy(upstream: Upstream, tmp_path: Path) -> None:
    redactor = RedactionConfig(patterns=(r"4111\d+",))
    body = gzip.compress(b'{"prompt":"card 41111111"}')
    async with open_gateway(tmp_path, upstream.url, redact=redactor) as door:
        await door.ask(post(body, b"Content-Encoding: gzip\r\n", b"/pay/4111222"))
        frame = await door.frame()
    assert upstream.seen[0].payload == body
    assert b"4111" not in frame.request
    assert b"[redacted]" in frame.request
    assert (frame.meta["p"], frame.meta["red"]) == ("/pay/[redacted]", True)
    assert "content-encoding" not in frame.meta["rh"]


async def test_skipped_paths_are_forwarded_but_not_recorded(door: Door) -> None:
    head, body = await door.ask(b"GET /health?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert body == CHAT
    assert b"x-ratchet" not in head
    await door.ask(b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [frame.meta["p"] for frame in door.frames()] == ["/healthy"]
    assert door.count('not_recorded_total{reason="skip_path"}') == 1
    assert door.count("requests_total") == 2


async def test_a_new_table_is_followed_by_the_next_request(door: Door, upstream: Upstream) -> None:
    client = await door.connect()
    await client.send(post(b"{}"))
    await client.response()
    async with serve_upstream() as promoted:
        door.route(champion=Target(model_id=9, name="promoted", url=promoted.url))
        await client.send(post(b"{}"))
        await client.response()
        assert len(promoted.seen) == 1
        assert (await door.frame(2)).meta["mid"] == 9
        await door.settled("upstream_connections", 1)  # what was idle to the old one is closed
