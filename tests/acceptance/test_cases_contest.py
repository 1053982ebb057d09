"""While a challenger has half of the users: each user keeps one arm, and no body waits for a name that cannot come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from policies.assignment import assign
from tests.harness.cases import connected, send
from tests.harness.contest import CHAT_PATH, Contest, contest
from tests.harness.upstream import Line, Seen, reply

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S: Final = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def testing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Contest]:
    async with contest(tmp_path_factory.mktemp("r")) as found:
        await found.begin()
        yield found


BODIES: Final = {
    "plain": b'{"model":"m","user":"ann","messages":[{"role":"user","content":"keep me on one arm"}]}',
    "cut emoji": b'{"model":"m","user":"ann","messages":[{"role":"user","content":"keep me on one arm \\ud83d"}]}',
    "behind a mark": b'\xef\xbb\xbf{"model":"m","user":"ann","messages":[{"role":"user","content":"keep me"}]}',
    "no number": b'{"model":"m","temperature":NaN,"user":"ann","messages":[{"role":"user","content":"keep me"}]}',
    "behind a picture": b'{"model":"m","messages":[{"role":"user","content":"%b"}],"user":"ann"}' % (b"A" * 400_000),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_user_keeps_one_arm_whatever_the_body_looks_like(name: str, testing: Contest) -> None:
    routes, arms = testing.routes(), set()
    for _ in range(24):
        json = {"Content-Type": "application/json"}
        answer = await send(testing.ratchet.base_url, CHAT_PATH, BODIES[name], json)
        assert answer.status == 200
        arms.add(answer.headers["x-ratchet-arm"])
    assert arms == {assign(bytes.fromhex(routes.salt), b"ann", routes.share).label}


async def at_once(seen: Seen, line: Line) -> None:
    """An answer to the head alone."""
    await line.send(reply())


async def too_much(seen: Seen, line: Line) -> None:
    await line.send(reply(b"{}", status=b"413 Content Too Large", headers=b"Connection: close\r\n"))
    line.close()


NAMELESS: Final = {
    "application/x-ndjson": b'["a line","of a list"]\n',
    "text/plain": b"a line of text\n",
    "application/octet-stream": b"\x00\x01\x02",
}


@pytest.mark.parametrize("media_type", NAMELESS)
async def test_a_body_that_names_nobody_is_not_waited_for(media_type: str, testing: Contest) -> None:
    for model in (testing.champion, testing.challenger):
        model.on("/duplex", at_once, early=True)
    head = b"POST /duplex HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = NAMELESS[media_type]
    async with connected(testing.ratchet.base_url) as client, asyncio.timeout(PATIENCE_S):
        await client.send(head % media_type.encode() + b"%x\r\n%b\r\n" % (len(piece), piece))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")  # the rest of the body never comes


async def test_an_upload_that_is_refused_is_not_taken_to_its_end(testing: Contest) -> None:
    """The client waits after its first piece, as one does that listens while it uploads."""
    for model in (testing.champion, testing.challenger):
        model.on("/upload", too_much, early=True)
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 50000000\r\n\r\n"
    async with connected(testing.ratchet.base_url) as client, asyncio.timeout(PATIENCE_S):
        await client.send(head + b"a" * 65536)
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")


async def test_probes_of_both_models_name_themselves(testing: Contest) -> None:
    async def looked_at() -> None:
        for model in (testing.champion, testing.challenger):
            while not any(seen.method == "GET" for seen in model.seen):
                model.arrived.clear()
                await model.arrived.wait()

    await asyncio.wait_for(looked_at(), PATIENCE_S)
    probes = [seen for model in (testing.champion, testing.challenger) for seen in model.seen if seen.method == "GET"]
    agents = {seen.header("user-agent") for seen in probes}
    assert all((agent or b"").startswith(b"ratchet/") for agent in agents), agents
