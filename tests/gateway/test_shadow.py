"""Copies for a challenger whose answers go to nobody: what it gets, what is written down, and that no user notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from policies.records import Outcome
from proxy.clock import ManualClock
from proxy.config.serving import RedactionConfig
from proxy.credentials import UnknownCredentialError
from proxy.gateway.outbound import copy_token, via_token
from proxy.ids import KeyRing
from proxy.routes import RouteTable, Target, read_routes, write_routes
from proxy.spool.frames import KIND_EXCHANGE, KIND_SHADOW, Frame
from proxy.wire.rewritable import LONGEST_BODY
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

PATH = b"/v1/chat/completions"
ASK = b'{"model":"m","user":"ann","messages":[{"role":"user","content":"hi"}]}'
OTHER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"other"},"finish_reason":"stop"}]}'
CHECK = 9


def post(body: bytes = ASK, headers: bytes = b"", *, path: bytes = PATH, method: bytes = b"POST") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        method, path, headers, len(body), body,
    )  # fmt: skip


def shadow(url: str, **changes: Any) -> dict[str, Any]:
    """What the route table says of a shadow at `url`."""
    target = Target(model_id=2, name="new", url=url, **changes)
    return {"shadow": target, "shadow_share": 1.0, "check_id": CHECK}


class Copies:
    """A gateway, its champion, and a challenger that gets copies."""

    def __init__(self, door: Door, champion: Upstream, other: Upstream, clock: ManualClock) -> None:
        self.door, self.champion, self.other, self.clock = door, champion, other, clock

    def count(self, name: str) -> float:
        return self.door.count(name)

    def dropped(self, reason: str) -> float:
        return self.count(f'shadow_dropped_total{{reason="{reason}"}}')

    def failed(self, cause: str) -> float:
        return self.count(f'shadow_failed_total{{cause="{cause}"}}')

    def frames(self, kind: int = KIND_SHADOW) -> list[Frame]:
        return [frame for frame in self.door.frames() if frame.kind == kind]

    async def ended(self) -> None:
        """Wait until no copy is under way, and have the pause behind it over."""
        await self.door.settled("shadow_in_flight", 0)
        self.clock.advance(1.0)

    async def ask(self, request: bytes = b"") -> tuple[bytes, bytes]:
        """One request, and the end of its copy."""
        answer = await self.door.ask(request or post())
        await self.ended()
        return answer

    async def frame(self, request: bytes = b"") -> Frame:
        """What is written down of the copy of one request."""
        before = len(self.frames())
        await self.ask(request)
        return self.frames()[before]


@contextlib.asynccontextmanager
async def opened(directory: Path, *, url: str = "", share: float = 1.0, **options: Any) -> AsyncIterator[Copies]:
    """A gateway that copies `share` of all requests; `url`: to there, instead of to a challenger that answers."""
    clock = ManualClock()
    directory.mkdir(exist_ok=True)
    async with (
        serve_upstream() as champion,
        serve_upstream() as other,
        open_gateway(directory, champion.url, clock=clock, **options) as door,
    ):

        async def script(seen: Seen, line: Line) -> None:
            await line.send(reply(OTHER))

        other.on(PATH.decode(), script)
        door.route(**shadow(url or other.url) | {"shadow_share": share})
        await door.ask(post(headers=b"X-Ratchet-No-Train: 1\r\n"))  # the shapes of APIs are loaded
        async with asyncio.timeout(60):
            while not (door.gateway.shadow and door.gateway.shadow.ready):
                await asyncio.sleep(0)
        champion.seen.clear()
        yield Copies(door, champion, other, clock)


@pytest.fixture
async def copies(tmp_path: Path) -> AsyncIterator[Copies]:
    async with opened(tmp_path) as both:
        yield both


async def test_the_challenger_is_asked_the_same_and_its_answer_is_written_down(copies: Copies, tmp_path: Path) -> None:
    head, body = await copies.ask(post(headers=b"Authorization: Bearer sk-client\r\nX-Thing: 1\r\n"))
    assert body == CHAT
    (seen,), (asked,) = copies.other.seen, copies.champion.seen
    assert (seen.method, seen.target, seen.payload) == ("POST", PATH, ASK)
    via = seen.header("via")
    assert via is not None
    assert via.startswith(b"1.1 ratchet-copy-")
    assert seen.header("authorization") == b"Bearer sk-client", "as an arm of a test, which has no key of its own"
    mine = [line for line in seen.lines if not line.startswith((b"Via", b"Host"))]
    assert mine == [line for line in asked.lines if not line.startswith(b"Host")]

    record, frame = copies.frames(KIND_EXCHANGE)[-1], copies.frames()[-1]
    assert frame.meta["id"] == record.meta["id"]
    assert frame.meta["key"] == record.meta["key"]
    assert (frame.meta["ck"], frame.meta["mid"], frame.meta["mn"]) == (CHECK, 2, "new")
    assert (frame.meta["st"], frame.meta["out"], "why" in frame.meta) == (200, Outcome.OK, False)
    assert frame.meta["sh"]["content-type"] == "application/json"
    assert (frame.request, frame.response) == (b"", OTHER)
    assert frame.meta["dur"] >= frame.meta["ttfb"] >= 0
    assert copies.count("shadow_sent_total") == 1
    assert record.meta["srv"] == 0
    told = [line for line in head.lower().split(b"\r\n") if not line.startswith(b"x-ratchet-record-id:")]
    assert not any(b"new" in line for line in told)
    assert copies.count('answers_total{arm="challenger"}') == 0, "it is no traffic"
    assert copies.count("upstream_connections") == 1, "the champion's"
    assert copies.count("requests_total") == 2


async def test_a_target_with_a_name_and_a_key_is_asked_under_them(tmp_path: Path) -> None:
    async with opened(tmp_path, credentials=lambda name, url: ("authorization", f"Bearer sk-{name}")) as copies:
        copies.door.route(**shadow(copies.other.url + "/base", model="tuned", credential="ours"))
        await copies.ask(post(headers=b"X-Api-Key: sk-client\r\nAuthorization: Bearer sk-client\r\n"))
        (seen,) = copies.other.seen
        assert seen.target == b"/base" + PATH
        assert orjson.loads(seen.payload) == orjson.loads(ASK) | {"model": "tuned"}
        assert seen.header("authorization") == b"Bearer sk-ours"
        assert seen.header("x-api-key") is None
        assert orjson.loads(copies.champion.seen[-1].payload)["model"] == "m"


async def test_a_target_with_a_rewrite_is_asked_otherwise(copies: Copies) -> None:
    target = {"rewrite": {"system": {"replace": "Be brief."}}, "model": "tuned"}
    copies.door.route(**shadow(copies.other.url, **target))
    await copies.ask()
    asked = {**orjson.loads(ASK), "model": "tuned"}
    asked["messages"] = [{"role": "system", "content": "Be brief."}, *asked["messages"]]
    assert orjson.loads(copies.other.seen[0].payload) == asked
    assert copies.champion.seen[0].payload == ASK


async def test_a_rewritten_copy_is_no_longer_than_what_is_rewritten(tmp_path: Path) -> None:
    long = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"y" * LONGEST_BODY)
    async with opened(tmp_path, settings=config(capture={"max_request_bytes": 2 * LONGEST_BODY})) as copies:
        copies.door.route(**shadow(copies.other.url, rewrite={"parameters": {"n": 1}}))
        await copies.ask(post(long))
        assert copies.other.seen == []
        assert copies.dropped("too_long") == 1


async def test_a_request_in_chunks_with_expect_goes_out_whole(copies: Copies) -> None:
    client = await copies.door.connect()
    await client.send(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"Idempotency-Key: k\r\nExpect: 100-continue\r\nTrailer: x-sum\r\n\r\n" % PATH
    )
    for piece in (ASK[:10], ASK[10:]):
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await client.send(b"0\r\nx-sum: 1\r\n\r\n")
    while b" 100 " in await client.head():
        pass
    await copies.door.settled("shadow_sent_total", 1)
    await copies.ended()
    (seen,) = copies.other.seen
    assert seen.body == ASK
    names = {line.partition(b":")[0].lower() for line in seen.lines}
    assert b"content-length" in names
    assert names.isdisjoint({b"transfer-encoding", b"expect", b"trailer", b"idempotency-key"})


async def test_a_streamed_answer_is_written_down_as_it_came(copies: Copies) -> None:
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % n for n in range(40)]
    go_on = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, event in enumerate(events):
            await line.send(b"%x\r\n%b\r\n" % (len(event), event))
            if number == 0:
                await go_on.wait()
        await line.send(b"0\r\n\r\n")

    copies.other.on(PATH.decode(), script)
    assert (await copies.door.ask(post()))[1] == CHAT
    await copies.door.settled("shadow_sent_total", 1)
    go_on.set()
    await copies.ended()
    (frame,) = copies.frames()
    assert frame.response == b"".join(events)
    assert frame.meta["sb"] == len(frame.response)
    assert frame.meta["mk"][0][0] == 0
    assert len(frame.meta["mk"]) <= 32


async def test_the_hash_of_the_record_decides_about_the_share(tmp_path: Path) -> None:
    async with opened(tmp_path, share=0.4) as copies:
        for _ in range(60):
            await copies.ask()
        kept = len(copies.frames())
        assert 8 < kept < 42
        assert kept == copies.count("shadow_sent_total") == len(copies.other.seen)
        assert sum(copies.dropped(reason) for reason in ("busy", "pace", "kind")) == 0, "others were never meant"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (post(headers=b"X-Ratchet-No-Train: yes\r\n"), "no_train"),
        (post(ASK[:-1] + b',"store":false}'), "no_train"),
        (post(method=b"PUT"), "kind"),
        (post(path=b"/v1/orders"), "kind"),
        (post(path=b"/v1/embeddings", body=b'{"model":"m","input":"x"}'), "kind"),
        (post(b'{"model":"m"'), "kind"),
        (post(b"[1]"), "kind"),
        (post(b"\x1f\x8b", b"Content-Encoding: gzip\r\n"), "kind"),
        (post(path=b"/v1/chat-messages", body=b'{"inputs":{},"query":"hi","user":"ann"}'), "stateful"),
        (post(path=b"/v1/responses", body=b'{"model":"m","input":"x","previous_response_id":"r"}'), "stateful"),
        (post(path=b"/v1/responses", body=b'{"model":"m","input":"x","tools":[{"type":"mcp"}]}'), "acts"),
        (b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 2\r\n\r\n--"
         % PATH, "kind"),
        (b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % PATH, "kind"),
        (b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" % PATH, "kind"),
        (post(ASK[:-2] + b"y" * 300 + b'"}]}'), "too_long"),
        (post(b'{"messages":[' + b",".join([b"{}"] * 90_000) + b"]}"), "too_long"),
    ],
)  # fmt: skip
async def test_only_a_whole_question_that_is_understood_is_copied(tmp_path: Path, request_: bytes, reason: str) -> None:
    async with opened(tmp_path, settings=config(capture={"max_request_bytes": 250})) as copies:
        before = copies.dropped(reason)
        head, _ = await copies.ask(request_)
        assert head.startswith(b"HTTP/1.1 200")
        assert copies.dropped(reason) == before + 1
        assert copies.count("shadow_sent_total") == 0
        assert copies.other.lines == []


async def test_a_crowd_of_brackets_is_not_parsed(copies: Copies) -> None:
    await copies.ask(post(b'{"messages":[' + b",".join([b"{}"] * 40_000) + b"]}"))
    assert copies.dropped("kind") == 1


async def test_nothing_is_copied_without_a_check_a_share_or_bodies(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as copies:
        for changes in ({"check_id": None}, {"check_id": CHECK, "shadow_share": 0.0}, {"shadow": None}):
            copies.door.route(**changes)
            await copies.ask()
        assert copies.count("shadow_sent_total") == 0
    async with opened(tmp_path / "b", settings=config(capture={"enabled": False})) as copies:
        before = copies.dropped("kind")
        await copies.ask()
        assert copies.dropped("kind") == before + 1


async def test_what_the_client_got_wrong_or_broke_off_is_not_copied_and_what_the_champion_failed_is(
    copies: Copies,
) -> None:
    async def refuse(seen: Seen, line: Line) -> None:
        await line.send(reply(b"{}", status=b"400 Bad Request"))

    async def fail(seen: Seen, line: Line) -> None:
        line.close()

    copies.champion.on(PATH.decode(), refuse)
    await copies.ask()
    assert copies.dropped("no_answer") == 1
    copies.champion.on(PATH.decode(), fail)
    assert (await copies.ask())[0].startswith(b"HTTP/1.1 502")
    assert copies.count("shadow_sent_total") == 1, "else an equal challenger would only be seen to fail"

    stays = asyncio.Event()

    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()
        stays.set()

    copies.champion.on(PATH.decode(), hang)
    client = await copies.door.connect()
    copies.champion.arrived.clear()
    await client.send(post())
    await copies.champion.arrived.wait()
    client.close()
    await stays.wait()
    await copies.door.settled('shadow_dropped_total{reason="no_answer"}', 2)


# -- a challenger at its worst


async def _hang(seen: Seen, line: Line) -> None:
    await line.until_closed()


async def _close(seen: Seen, line: Line) -> None:
    line.close()


async def _reset(seen: Seen, line: Line) -> None:
    line.reset()


async def _error(seen: Seen, line: Line) -> None:
    await line.send(reply(b"{}", status=b"500 Oops"))


async def _refuse(seen: Seen, line: Line) -> None:
    await line.send(reply(b"{}", status=b"404 Not Found"))


async def _nonsense(seen: Seen, line: Line) -> None:
    await line.send(b"\0\0\0\r\n\r\n")


async def _switch(seen: Seen, line: Line) -> None:
    await line.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


async def _break_off(seen: Seen, line: Line) -> None:
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    line.close()


async def _flood(seen: Seen, line: Line) -> None:
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        await line.send(b"x" * 65536)


@pytest.mark.parametrize(
    ("script", "cause", "status", "outcome"),
    [
        (_close, "closed", 0, Outcome.UPSTREAM_ERROR),
        (_reset, "closed", 0, Outcome.UPSTREAM_ERROR),
        (_error, "500", 500, Outcome.OK),
        (_refuse, "4xx", 404, Outcome.OK),
        (_nonsense, "no_http", 0, Outcome.UPSTREAM_ERROR),
        (_switch, "no_http", 0, Outcome.UPSTREAM_ERROR),
        (_break_off, "broken_off", 200, Outcome.UPSTREAM_ERROR),
        (_flood, "too_long", 200, Outcome.UPSTREAM_ERROR),
    ],
)
async def test_a_challenger_that_fails_is_written_down_and_no_user_knows(
    copies: Copies, script: Any, cause: str, status: int, outcome: Outcome
) -> None:
    copies.other.on(PATH.decode(), script)
    head, body = await copies.ask()
    assert (head[:12], body) == (b"HTTP/1.1 200", CHAT)
    assert copies.failed(cause) == 1
    (frame,) = copies.frames()
    assert (frame.meta["why"], frame.meta["st"], frame.meta["out"]) == (cause, status, outcome)
    assert len(frame.response) <= 65536
    assert ("ssha" in frame.meta) == (cause == "too_long")
    assert copies.count("breaker_open") == 0
    assert copies.count("upstream_connect_errors_total") == 0


async def test_a_challenger_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, url="http://127.0.0.1:1") as copies:
        frame = await copies.frame()
        assert (frame.meta["why"], frame.meta["st"]) == ("refused", 0)
        assert copies.count("upstream_connect_errors_total") == 0


async def test_a_silent_challenger_is_given_up_after_a_while(copies: Copies) -> None:
    copies.other.on(PATH.decode(), _hang)
    await copies.door.ask(post())
    await copies.door.settled("shadow_sent_total", 1)
    await copies.door.pass_time(copies.clock, 121)
    await copies.ended()
    (frame,) = copies.frames()
    assert (frame.meta["why"], frame.meta["out"], frame.response) == ("late", Outcome.TIMEOUT, b"")


async def test_places_are_few_and_nobody_waits_for_one(tmp_path: Path) -> None:
    async with opened(tmp_path, settings=config(gateway={"shadow_concurrency": 2})) as copies:
        copies.other.on(PATH.decode(), _hang)
        for _ in range(5):
            assert (await copies.door.ask(post()))[1] == CHAT
            copies.clock.advance(1.0)
        await copies.door.settled("shadow_sent_total", 2)
        assert copies.dropped("busy") == 3
        assert copies.count("shadow_in_flight") == 2
        assert len(copies.champion.seen) == 5


async def test_a_copy_takes_a_hundredth_of_the_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as copies:
        await copies.door.ask(post())
        await copies.door.settled("shadow_sent_total", 1)
        await copies.door.settled("shadow_in_flight", 0)
        await copies.door.ask(post())
        assert copies.dropped("pace") == 1
        copies.clock.advance(0.03)
        await copies.door.ask(post())
        await copies.door.settled("shadow_sent_total", 2)
        await copies.ended()
        copies.other.on(PATH.decode(), _error)
        await copies.door.ask(post())
        await copies.door.settled('shadow_failed_total{cause="500"}', 1)
        copies.clock.advance(0.03)
        await copies.door.ask(post())
        assert copies.dropped("pace") == 2, "one that fails is left alone for longer"


async def test_a_stale_connection_is_replaced_once(copies: Copies) -> None:
    await copies.ask()
    (line,) = copies.other.lines
    answered = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        if len(copies.other.lines) == 1:
            line.close()  # as a server does whose patience has just ended
            return
        await line.send(reply(OTHER))
        answered.set()

    copies.other.on(PATH.decode(), script)
    frame = await copies.frame()
    assert answered.is_set()
    assert "why" not in frame.meta
    assert frame.response == OTHER
    assert len(copies.other.lines) == 2
    assert line.closed.is_set()


async def test_a_copy_that_comes_back_is_refused_and_blames_nobody_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as copies:
        copies.door.route(**shadow(f"http://127.0.0.1:{copies.door.port}"))
        frame = await copies.frame()
        assert (frame.meta["st"], frame.meta["why"]) == (508, "508")
        assert b"leads back" in frame.response
        assert len(copies.champion.seen) == 1
        await copies.ask()
        assert copies.champion.seen[-1].header("via") is None, "users' requests are not marked for it"
    ring = KeyRing.load_or_create(tmp_path / "keys.json")
    assert via_token(ring.user_hash) not in copy_token(ring.user_hash)


async def test_an_address_that_is_none_leaves_users_alone(copies: Copies, caplog: pytest.LogCaptureFixture) -> None:
    copies.door.route(**shadow("ftp://nowhere"))
    for _ in range(2):
        assert (await copies.ask())[1] == CHAT
    assert copies.count("shadow_sent_total") == 0
    (line,) = [message for message in caplog.messages if "gets no copies" in message]
    assert "ftp://nowhere" in line


async def test_a_key_that_comes_later_is_found(tmp_path: Path) -> None:
    keys: dict[str, tuple[str, str]] = {}

    def header(name: str, url: str) -> tuple[str, str] | None:
        if name not in keys:
            raise UnknownCredentialError(f"{name} is not here")
        return keys[name]

    async with opened(tmp_path, credentials=header) as copies:
        copies.door.route(**shadow(copies.other.url, credential="new"))
        await copies.ask()
        keys["new"] = ("authorization", "Bearer sk-new")
        await copies.ask()
        assert copies.other.seen == [], "it is not looked for at every request"
        copies.clock.advance(5)
        await copies.ask(post(headers=b"Authorization: Bearer sk-client\r\n"))
        assert copies.other.seen[0].header("authorization") == b"Bearer sk-new"


async def test_a_new_shadow_gets_connections_of_its_own(copies: Copies) -> None:
    await copies.ask()
    async with serve_upstream() as third:
        copies.door.route(**shadow(third.url) | {"check_id": CHECK + 1})
        frame = await copies.frame()
        assert frame.meta["ck"] == CHECK + 1
        assert len(third.seen) == 1
        await copies.other.lines[0].closed.wait()


async def test_redaction_cleans_what_the_challenger_said(tmp_path: Path) -> None:
    async with opened(tmp_path, redact=RedactionConfig(patterns=("other",))) as copies:
        await copies.door.ask(post())
        await copies.door.settled("shadow_sent_total", 1)
        async with asyncio.timeout(60):
            while not copies.frames():
                await asyncio.sleep(0.005)
        (frame,) = copies.frames()
        assert b"other" not in frame.response
        assert b"[redacted]" in frame.response
        assert frame.meta["red"] is True
        assert (frame.meta["id"], frame.meta["ck"]) == (copies.frames(KIND_EXCHANGE)[-1].meta["id"], CHECK)


async def test_a_drain_waits_for_users_and_not_for_copies(copies: Copies) -> None:
    copies.other.on(PATH.decode(), _hang)
    await copies.door.ask(post())
    await copies.door.settled("shadow_sent_total", 1)
    assert await copies.door.gateway.drain(60) is True
    assert copies.dropped("shutdown") == 1
    assert copies.frames() == []
    await copies.other.lines[0].closed.wait()


class Tight:
    """A spool that has taken its last record."""

    full = True

    def __init__(self) -> None:
        self.takes = True
        self.frames: list[bytes] = []

    def append(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return self.takes


async def test_a_full_spool_has_no_room_for_copies(tmp_path: Path) -> None:
    spool = Tight()
    async with opened(tmp_path, spool=spool) as copies:
        assert (await copies.ask())[1] == CHAT
        assert copies.dropped("spool") == 1
        spool.full, spool.takes = False, False
        assert (await copies.ask())[1] == CHAT
        assert copies.count("shadow_sent_total") == 0, "what has no record has nothing to be compared with"


# -- nothing of the user's request changes


@pytest.mark.parametrize("script", [_hang, _close, _reset, _error, _nonsense, _flood, _break_off])
async def test_the_user_and_the_champion_see_the_same_bytes_with_and_without(tmp_path: Path, script: Any) -> None:
    """One connection of a client, ten requests, streamed and not: byte for byte, in order, over as many connections."""

    async def talk(directory: Path, *, copied: bool) -> tuple[bytes, list[tuple[bytes, bytes, int]], int]:
        async with opened(directory) as copies:
            copies.other.on(PATH.decode(), script)
            if not copied:
                copies.door.route(shadow=None)
            client = await copies.door.connect()
            said = b""
            for number in range(10):
                ask = ASK[:-1] + b',"n":%d}' % number
                await client.send(post(ask) if number % 2 else post(ask, path=b"/v1/messages"))
                head, body = await client.response()
                lines = [line for line in head.split(b"\r\n") if not line.startswith(b"x-ratchet-record-id")]
                said += b"\r\n".join(lines) + body
                copies.clock.advance(1.0)
            seen = [(one.head, one.body, one.connection - copies.champion.seen[0].connection)
                    for one in copies.champion.seen]  # fmt: skip
            if copied:
                assert copies.count("shadow_sent_total") > 0
            host = f"127.0.0.1:{copies.champion.port}".encode()
            seen = [(head.replace(host, b"champion"), body, number) for head, body, number in seen]
            return said, seen, len(copies.champion.lines)

    assert await talk(tmp_path / "with", copied=True) == await talk(tmp_path / "without", copied=False)


async def test_the_users_answer_has_left_before_its_copy_is_made(copies: Copies) -> None:
    """The challenger hears of a request only when the client has all of its answer, which here takes a while."""
    go_on = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await go_on.wait()
        await line.send(b"b")

    copies.champion.on(PATH.decode(), script)
    client = await copies.door.connect()
    await client.send(post())
    await client.head()
    assert await client.exactly(1) == b"a"
    assert (copies.count("shadow_in_flight"), copies.other.lines) == (0, [])
    go_on.set()
    assert await client.exactly(1) == b"b"
    await copies.door.settled("shadow_sent_total", 1)


def test_the_route_table_keeps_the_shadow(tmp_path: Path) -> None:
    champion = Target(model_id=1, name="old", url="http://a")
    table = RouteTable(version=3, champion=champion, **shadow("http://b", model="m"))
    write_routes(tmp_path / "routes.json", table)
    assert read_routes(tmp_path / "routes.json") == table
    write_routes(tmp_path / "routes.json", RouteTable(version=3, champion=champion))
    assert not read_routes(tmp_path / "routes.json").copies
    file = tmp_path / "routes.json"
    file.write_bytes(file.read_bytes().replace(b'"shadow_share":0.0', b'"shadow_share":2.0'))
    with pytest.raises(ValueError, match=r"shadow_share: 2\.0 is not a share of requests"):
        read_routes(file)
