"""One person, many ways to say so: one user on one arm, with an experiment and without, and deleted with one name.

A real gateway, the ingest and a real SQLite store.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from policies.assignment import assign
from policies.records import Arm, StickySource
from proxy.clock import SystemClock
from proxy.gateway.request_buffer import Budget
from proxy.ids import KeyRing
from proxy.ingest.ingestor import Ingestor
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool.reader import SpoolReader
from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter, RecordRow
from proxy.wire.person import former_keys, person_key
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import serve_upstream

HEX = "0a1b2c3d" * 8
PICTURE = "A" * 400_000
TURNS = [{"role": "user", "content": "hello"}]
SAYS: dict[str, Any] = {"model": "m", "messages": TURNS}


def text(document: Any, **options: Any) -> bytes:
    return json.dumps(document, **options).encode()


def jwt(claims: Any) -> str:
    parts = (b'{"alg":"HS256"}', text(claims), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def agent(session: str) -> str:
    return json.dumps({"device_id": HEX, "account_uuid": "ann", "session_id": session})


Request = tuple[dict[str, str], bytes]

SPELLINGS: dict[str, Request] = {
    "plain": ({}, text(SAYS | {"user": "ann"})),
    "first": ({}, text({"user": "ann"} | SAYS)),
    "safety identifier": ({}, text({"user": "other", "safety_identifier": "ann"} | SAYS)),
    "behind a picture": ({}, text(SAYS | {"image": PICTURE, "user": "ann"})),
    "before a document": ({}, text({"user": "ann", "document": PICTURE} | SAYS)),
    "in metadata behind a picture": ({}, text(SAYS | {"image": PICTURE, "metadata": {"user_id": "ann"}})),
    "behind many tools": ({}, text({"tools": [{"name": "f", "x": {"y": [1]}}] * 20_000, "user": "ann"})),
    "half an emoji": ({}, text({"messages": [{"role": "user", "content": "good \ud83d"}], "user": "ann"})),
    "half an emoji and a picture": ({}, text(SAYS | {"x": "\ud83d", "image": PICTURE, "user": "ann"})),
    "NaN": ({}, text(SAYS | {"temperature": float("nan"), "user": "ann"})),
    "infinity and a picture": ({}, text(SAYS | {"temperature": float("-inf"), "image": PICTURE, "user": "ann"})),
    "byte order mark": ({}, b"\xef\xbb\xbf" + text(SAYS | {"user": "ann"})),
    "stray byte": ({}, b'{"prompt":"J\xf6rg","user":"ann"}'),
    "line breaks in strings": ({}, b'{"prompt":"a\nb","user":"ann"}'),
    "UTF-16": ({"Content-Type": "application/json; charset=utf-16"}, json.dumps({"user": "ann"}).encode("utf-16")),
    "long UTF-16": ({}, json.dumps({"x": PICTURE, "user": "ann"}).encode("utf-16-le")),
    "given twice": ({}, b'{"user":"bob","prompt":"x","user":"ann"}'),
    "escaped": ({}, b'{"us\\u0065r":"\\u0061nn"}'),
    "compressed": ({"Content-Encoding": "gzip"}, gzip.compress(text(SAYS | {"user": "ann"}))),
    "compressed picture": ({"Content-Encoding": "gzip"}, gzip.compress(text(SAYS | {"x": PICTURE, "user": "ann"}))),
    "one session": ({}, text(SAYS | {"metadata": {"user_id": agent("s-1")}})),
    "another session": ({}, text(SAYS | {"metadata": {"user_id": agent("s-2")}})),
    "an older client": ({}, text(SAYS | {"metadata": {"user_id": f"user_{HEX}_account_ann_session_s-3"}})),
    "a session behind a picture": ({}, text({"x": PICTURE, "metadata": {"user_id": agent("s-4")}})),
    "another tool": ({}, text(SAYS | {"client_metadata": {"x-codex-installation-id": "ann", "session_id": "s-5"}})),
    "x-ratchet-user": ({"x-ratchet-user": "ann"}, text(SAYS | {"user": "other"})),
    "a header for Open WebUI": ({"X-OpenWebUI-User-Id": "ann", "X-OpenWebUI-Chat-Id": "c"}, text(SAYS)),
    "LiteLLM": ({"x-litellm-user_api_key_end_user_id": "ann", "x-litellm-session-id": "s"}, text(SAYS)),
    "empty headers": ({"x-openwebui-user-id": "", "x-user-id": "ann"}, text(SAYS)),
    "a token": ({"x-openwebui-user-jwt": jwt({"sub": "ann", "iat": 1})}, text(SAYS)),
    "a newer token": ({"x-openwebui-user-jwt": jwt({"sub": "ann", "iat": 2})}, text(SAYS)),
    "Portkey": ({"x-portkey-metadata": '{"_user": "ann"}'}, text(SAYS)),
    "a cookie": ({"Cookie": "a=b; sid=ann"}, text(SAYS)),
}


CONVERSATIONS = {
    "one session": b"s-1", "another session": b"s-2", "an older client": b"s-3", "a session behind a picture": b"s-4",
    "another tool": b"s-5", "a header for Open WebUI": b"c", "LiteLLM": b"s",
}  # fmt: skip


async def send(door: Door, request: Request, *, pieces: int = 60_000, chunked: bool = False) -> None:
    headers, body = request
    lines = {"Host": "x", "Content-Type": "application/json"} | headers
    lines |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    client = await door.connect()
    await client.send(b"POST /v1/chat/completions HTTP/1.1\r\n")
    await client.send("".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + b"\r\n")
    for start in range(0, len(body), pieces):
        piece = body[start : start + pieces]
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        await client.send(b"0\r\n\r\n")
    await client.response()
    client.close()


async def stored(directory: Path, store: Store, count: int) -> list[RecordRow]:
    """The records, once the ingest has taken all of them."""
    ring = KeyRing.load_or_create(directory / "keys.json")
    ingestor = Ingestor(config(), store, SpoolReader(directory / "spool"), TrafficMetrics(CollectorRegistry()),
                        SystemClock(), user_hash=ring.user_hash)  # fmt: skip
    rows = 0
    while rows < count:
        rows += await ingestor.run_once()
    page = await store.records.list(RecordFilter(), limit=1000)
    return sorted(page.rows, key=lambda row: row.id)


@pytest.mark.parametrize("share", [None, 0.5])
async def test_one_person_is_one_user_on_one_arm(tmp_path: Path, share: float | None) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock(), busy_timeout_s=1.0)
    settings = config(sticky={"cookie": "sid"})
    async with serve_upstream() as old, serve_upstream() as new:
        challenger = {} if share is None else {"challenger": new.url, "share": share}
        async with open_gateway(tmp_path, old.url, settings=settings, **challenger) as door:
            for request in SPELLINGS.values():
                for chunked in (False, True):
                    await send(door, request, chunked=chunked)
            assert door.gateway.budget.left == Budget().left
            rows = await stored(tmp_path, store, 2 * len(SPELLINGS))
        assert not old.seen or not new.seen
    names = [name for name in SPELLINGS for _ in range(2)]
    ring = KeyRing.load_or_create(tmp_path / "keys.json")
    hashed = ring.user_hash(b"ann")
    conversations = {name: row.conversation for name, row in zip(names, rows, strict=True)}
    named = {name: ring.user_hash(conversation) for name, conversation in CONVERSATIONS.items()}
    assert conversations == dict.fromkeys(SPELLINGS) | named
    assert {name: row.user_hash for name, row in zip(names, rows, strict=True)} == dict.fromkeys(SPELLINGS, hashed)
    right = Arm.CHAMPION if share is None else assign(bytes.fromhex("00ff" * 8), b"ann", share)
    assert {row.arm for row in rows} == {right}
    assert {row.experiment_id for row in rows} == {None if share is None else 7}
    assert {row.key_source for row in rows} == {
        StickySource.BODY, StickySource.HEADER, StickySource.COOKIE, StickySource.RATCHET_HEADER
    }  # fmt: skip
    deleted = await store.deletion.delete_user(hashed)
    assert deleted.records == len(rows)
    assert (await store.records.list(RecordFilter(), limit=10)).rows == ()
    await store.close()


@pytest.mark.parametrize("given", ["ann", agent("s-9"), f"user_{HEX}_account_ann_session_s-9", " ann"])
def test_a_name_that_is_given_later_is_the_same_person(given: str) -> None:
    assert person_key(given) == b"ann"
    assert former_keys(given)[0] == b"ann"


async def test_a_conversation_without_a_user_stays_on_one_arm(tmp_path: Path) -> None:
    async with serve_upstream() as old, serve_upstream() as new:
        async with open_gateway(tmp_path, old.url, challenger=new.url, share=0.5) as door:
            for number, said in enumerate(("one", "two", "three" + PICTURE)):
                turns = [{"role": "user", "content": said}]
                await send(door, ({"x-conversation-id": "c-1"}, text({"messages": turns})))
                await send(door, ({}, text({"messages": turns, "conversation": {"id": "c-1"}})))
                await send(door, ({}, text({"prompt_cache_key": "c-1", "messages": turns})), chunked=number > 0)
            metas = [frame.meta for frame in door.frames()]
        assert not old.seen or not new.seen
    hashed = KeyRing.load_or_create(tmp_path / "keys.json").user_hash(b"c-1")
    assert {(meta["key"], meta["src"]) for meta in metas} == {(hashed, "conversation")}
