"""What a body is held for, what flows meanwhile, and what a record says of a user who is found late."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from policies.assignment import assign
from policies.records import Arm
from proxy.config.serving import RedactionConfig
from proxy.gateway.request_buffer import Budget
from proxy.ids import KeyRing
from proxy.routes import Target
from tests.harness.gateway import Client, Door, config, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply, serve_upstream

SALT = bytes.fromhex("00ff" * 8)
HELD_S = 0.3
"""For so long nothing comes of a body that is held."""


async def at_once(seen: Seen, line: Line) -> None:
    """Answers when the head is there, and reads on."""
    await line.send(reply())
    await line.until_closed()


def head(kind: bytes, *lines: bytes, length: bytes = b"Transfer-Encoding: chunked") -> bytes:
    return b"\r\n".join((b"POST /early HTTP/1.1", b"Host: x", b"Content-Type: " + kind, length, *lines, b"", b""))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def is_silent(client: Client) -> bool:
    """Whether nothing is answered yet."""
    try:
        async with asyncio.timeout(HELD_S):
            await client.reader.readexactly(1)
    except TimeoutError:
        return True
    return False


FLOWS = {
    "an array a line": (b"application/x-ndjson", b'["event",1]\n'),
    "an array a line as JSON": (b"application/json", b' \r\n["event",1]\n'),
    "an object a line": (b"application/x-ndjson", b'{"user":"ann","event":1}\n'),
    "two objects": (b"application/x-ndjson", b'{"event":1}\n{"event":2}\n{"ev'),
    "a marked array": (b"application/json", b"\xef\xbb\xbf[1"),
    "text": (b"text/plain", b"a line of plain text\n"),
    "one letter": (b"text/plain", b"a"),
    "a form": (b"application/x-www-form-urlencoded", b"a=b&"),
    "octets": (b"application/octet-stream", bytes(range(100))),
    "no type": (b"", b"words"),
    "a number": (b"application/json", b"17"),
    "a wide array": (b"application/json", "[1".encode("utf-16")),
}


@pytest.mark.parametrize("model", [None, "tuned"])
@pytest.mark.parametrize("name", FLOWS)
async def test_an_upload_that_names_nobody_flows(
    upstream: Upstream, tmp_path: Path, name: str, model: str | None
) -> None:
    upstream.on("/early", at_once, early=True)
    target = Target(model_id=2, name="new", url=upstream.url, model=model)
    async with open_gateway(tmp_path, upstream.url, challenger=target, share=0.5) as door:
        kind, line = FLOWS[name]
        for parts in ([chunk(line)], [b"", chunk(line[:1]), chunk(line[1:])]):
            client = await door.connect()
            await client.send(head(kind))
            for part in parts:
                await client.send(part)
            assert (await client.response())[1] == CHAT
            client.writer.transport.abort()


async def test_an_object_is_held_until_it_is_whole(upstream: Upstream, tmp_path: Path) -> None:
    upstream.on("/early", at_once, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        client = await door.connect()
        await client.send(head(b"application/json") + chunk(b'{"user":"ann","x":['))
        assert await is_silent(client)
        await client.send(chunk(b'1],"y":"}"') + chunk(b"}"))
        assert (await client.response())[1] == CHAT
        assert door.gateway.budget.left == Budget().left


async def test_a_user_in_the_head_holds_nothing(upstream: Upstream, tmp_path: Path) -> None:
    upstream.on("/early", at_once, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        client = await door.connect()
        await client.send(head(b"application/json", b"x-openwebui-user-id: ann") + chunk(b'{"x":'))
        assert (await client.response())[1] == CHAT


async def test_a_forced_arm_holds_nothing_that_is_not_rewritten(upstream: Upstream, tmp_path: Path) -> None:
    upstream.on("/early", at_once, early=True)
    target = Target(model_id=2, name="new", url=upstream.url, model="tuned")
    force = b"X-Ratchet-Admin-Token: letmein"
    async with open_gateway(tmp_path, upstream.url, challenger=target, share=0.5, admin_token="letmein") as door:
        client = await door.connect()
        await client.send(head(b"application/json", force, b"X-Ratchet-Arm: champion") + chunk(b'{"x":'))
        assert (await client.response())[1] == CHAT
        client = await door.connect()
        await client.send(head(b"application/json", force, b"X-Ratchet-Arm: challenger") + chunk(b'{"x":'))
        assert await is_silent(client)
        await client.send(chunk(b'1,"model":"m"}'))
        assert (await client.response())[1] == CHAT
        client = await door.connect()
        await client.send(head(b"application/json", b"X-Ratchet-Arm: champion") + chunk(b'{"x":'))  # without the token
        assert await is_silent(client)


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue"])
async def test_a_refusal_reaches_who_uploads_a_long_text_at_once(
    upstream: Upstream, tmp_path: Path, expect: bytes
) -> None:
    size = 50 << 20

    async def refuse(seen: Seen, line: Line) -> None:
        await line.send(reply(b"{}", status=b"413 Content Too Large", headers=b"connection: close\r\n"))
        await line.until_closed()

    upstream.on("/early", refuse, early=True)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        client = await door.connect()
        lines = (expect,) if expect else ()
        await client.send(head(b"text/plain", *lines, length=b"Content-Length: %d" % size))
        if expect:
            assert (await client.head()).startswith(b"HTTP/1.1 100")
        await client.send(b"words " * 10_000)
        assert (await client.head()).startswith(b"HTTP/1.1 413")


# -- a user who is found too late


def two_users() -> dict[Arm, bytes]:
    """A user of each arm."""
    found: dict[Arm, bytes] = {}
    for number in itertools.count():
        user = b"user-%d" % number
        found.setdefault(assign(SALT, user, 0.5), user)
        if len(found) == 2:
            return found
    raise AssertionError


async def upload(door: Door, body: bytes) -> None:
    client = await door.connect()
    await client.send(b"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 1 << 20):
        await client.send(body[start : start + (1 << 20)])
    await client.response()
    client.close()


async def test_a_user_who_is_found_too_late_is_on_no_other_side(upstream: Upstream, tmp_path: Path) -> None:
    """A body of more than 16 MiB is not held: it goes by its first message, and its user stands at its end."""
    ring = KeyRing.load_or_create(tmp_path / "keys.json")
    long = b"x" * (18 << 20)
    async with open_gateway(tmp_path, upstream.url, challenger=upstream.url, share=0.5) as door:
        for user in two_users().values():
            await upload(door, b'{"prompt":"hello","document":"%b","user":"%b"}' % (long, user))
        await upload(door, b'{"prompt":"hello","document":"%b"}' % long)
        metas = [(await door.frame(n)).meta for n in (1, 2, 3)]
    went = assign(SALT, b"hello", 0.5)
    for meta, (arm, user) in zip(metas, two_users().items(), strict=False):
        assert (meta["key"], meta["src"], meta["arm"]) == (ring.user_hash(user), "body", int(went))
        assert meta["exp"] == (7 if arm is went else None)
    assert (metas[2]["src"], metas[2]["exp"]) == ("first-message", 7)


async def test_a_client_that_leaves_early_is_known_by_what_came(upstream: Upstream, tmp_path: Path) -> None:
    upstream.on("/early", at_once, early=True)
    async with open_gateway(tmp_path, upstream.url) as door:
        client = await door.connect()
        await client.send(head(b"application/json") + chunk(b'{"user":"ann","x":"' + b"y" * 300_000))
        await client.response()
        client.writer.transport.abort()
        meta = (await door.frame()).meta
    assert (meta["src"], meta["key"]) == ("body", KeyRing.load_or_create(tmp_path / "keys.json").user_hash(b"ann"))


# -- conversations


async def test_a_conversation_stands_in_the_record_where_nobody_else_will_find_it(
    upstream: Upstream, tmp_path: Path
) -> None:
    short, long = b'{"user":"ann","conversation":"c-1"}', b'{"x":"%b","conversation":"c-1"}' % (b"y" * 2000)
    hashed = KeyRing.load_or_create(tmp_path / "keys.json").user_hash(b"c-1")

    async def facts(body: bytes, *lines: bytes, **options: object) -> object:
        captured: Any = options.pop("capture", {})
        sticky: Any = options.pop("sticky", {})
        settings = config(capture={"max_request_bytes": 1000} | captured, sticky=sticky)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "keys.json").write_bytes((tmp_path / "keys.json").read_bytes())
        async with open_gateway(folder, upstream.url, settings=settings, **options) as door:
            request = b"\r\n".join(
                (b"POST / HTTP/1.1", b"Host: x", *lines, b"Content-Length: %d" % len(body), b"", body)
            )
            await door.ask(request)
            return (await door.frame()).meta.get("conv")

    redact = RedactionConfig(patterns=("c-1",))
    assert await facts(short) is None, "the ingest finds it in the body"
    assert await facts(short, b"X-OpenWebUI-Chat-Id: c-1") == hashed
    assert await facts(b"{}", b"x-user-id: u", b"session-id: c-1") == hashed
    assert await facts(long) == hashed
    assert await facts(long, b"x-user-id: u") == hashed
    assert await facts(long, b"x-conversation-id: other") not in (None, hashed)
    assert await facts(short, redact=redact) == hashed
    assert await facts(short + b" ", b"x-user-id: u", redact=redact) == hashed
    assert await facts(short, capture={"enabled": False}) == hashed
    assert await facts(b'{"thread":"c-1"}', sticky={"conversation_fields": ("thread",)}) == hashed
    assert await facts(b"{", capture={"enabled": False}) is None
    assert await facts(b"", capture={"enabled": False}) is None
    assert await facts(b'["conversation"]', capture={"enabled": False}) is None
    assert await facts(gzip.compress(short), b"Content-Encoding: gzip", redact=redact) == hashed
    assert await facts(short, b"Content-Encoding: zap", redact=redact) is None


async def test_no_name_and_no_address_reach_the_disk(door: Door) -> None:
    names = (b"X-OpenWebUI-User-Id", b"X-OpenWebUI-User-Email", b"X-OpenWebUI-User-Name", b"X-OpenWebUI-User-Jwt",
             b"X-OpenWebUI-Chat-Id", b"session-id", b"x-codex-turn-metadata")  # fmt: skip
    lines = b"".join(name + b": PLANTED\r\n" for name in names)
    await door.ask(b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"Content-Length: 2\r\n\r\n{}")
    await door.frame()
    for segment in door.spool_root.glob("*/*.seg"):
        assert b"PLANTED" not in segment.read_bytes()


async def test_a_long_body_is_rewritten_whatever_stands_in_it(upstream: Upstream, tmp_path: Path) -> None:
    """The same scanner finds the user and the model's name, in one body."""
    async with serve_upstream() as other:
        target = Target(model_id=2, name="new", url=other.url, model="tuned-7b")
        user = two_users()[Arm.CHALLENGER]
        body = b'{"messages":[{"role":"user","content":"%b"}],"user":"%b","model":"m"}' % (b'\\\\y\\"' * 99_999, user)
        async with open_gateway(tmp_path, upstream.url, challenger=target, share=0.5) as door:
            await upload(door, body)
        assert other.seen[0].payload == body.replace(b'"m"', b'"tuned-7b"')


BIG = json.dumps({"x": "y" * 100_000, "user_id": "ann"})


@pytest.mark.parametrize(
    "body",
    [
        f'{{"messages":[],"metadata":{BIG}}}',
        f'{{"messages":[],"conversation":{BIG.replace("user_id", "id")}}}',
        '{"user":"%s"}' % ("ann" * 30_000),
        '{"messages":["{",{"role":"user","content":"hi"}],"prompt":"other"}',
    ],
)
async def test_in_however_many_pieces_a_body_comes_its_user_is_one(
    upstream: Upstream, tmp_path: Path, body: str
) -> None:
    other = Target(model_id=2, name="new", url=upstream.url)
    async with open_gateway(tmp_path, upstream.url, challenger=other, share=0.5) as door:
        keys = set()
        for number, cut in enumerate((0, 1, len(body) // 2), 1):
            client = await door.connect()
            length = head(b"application/json", length=b"Content-Length: %d" % len(body))
            await client.send(length + body[:cut].encode())
            if cut:
                await door.settled("in_flight", 1)
            await client.send(body[cut:].encode())
            await client.response()
            meta = (await door.frame(number)).meta
            keys.add((meta["key"], meta["src"], meta["arm"]))
    assert len(keys) == 1


async def test_headers_that_are_tags_stand_in_the_record_and_no_others(upstream: Upstream, tmp_path: Path) -> None:
    async def headers(tags: tuple[str, ...], redact: RedactionConfig | None = None) -> dict[str, str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        settings = config(capture={"tag_headers": tags})
        async with open_gateway(folder, upstream.url, settings=settings, redact=redact) as door:
            await door.ask(b"POST / HTTP/1.1\r\nHost: x\r\nX-Plan: free\r\nX-Other: 1\r\nContent-Length: 2\r\n\r\n{}")
            kept: dict[str, str] = (await door.frame()).meta["rh"]
            return kept

    assert "x-plan" not in await headers(())
    found = await headers(("X-Plan",))
    assert found["x-plan"] == "free"
    assert "x-other" not in found
    assert (await headers(("X-Plan",), RedactionConfig(patterns=("free",))))["x-plan"] == "[redacted]"
