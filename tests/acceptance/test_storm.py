"""Everything that can be killed is killed, again and again, under whole answers, streams and votes: none is lost, none
comes twice. And when nothing is killed for a long time, nothing grows.

Whoever got the last byte of an answer, or 202 for a vote, has a row; nobody else's row is there twice. CI storms for
some seconds; RATCHET_FULL=1 storms for three minutes and soaks for twenty.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from proxy.ids import KeyRing, RecordIds
from tests.harness.programs import free_port
from tests.harness.require import FULL
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

STORM_S = 180.0 if FULL else 8.0
SOAK_S = 1200.0 if FULL else 12.0
PAUSE_S = 0.0 if FULL else 0.03
"""Between two requests of a client; without one, clients take all that the machine gives."""
EVENTS = 8
MIB = 1 << 20
SPARE_FILES = 8
KILLED = ("worker-0", "worker-1", "controller", "supervisor")
DIED = (OSError, asyncio.IncompleteReadError)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def chat(seen: Seen, line: Line) -> None:
            await asyncio.sleep(0.005)  # so that there is always something open when something is killed
            await line.send(reply())

        async def stream(seen: Seen, line: Line) -> None:
            await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for n in range(EVENTS):
                await asyncio.sleep(0.02)
                event = {"id": "c", "choices": [{"index": 0, "delta": {"content": f"{n} "}}]}
                await line.send(chunk(b"data: %b\n\n" % json.dumps(event).encode()))
            await line.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        server.on("/v1/chat/completions", chat)
        server.on("/v1/stream", stream)
        yield server


@dataclass
class Crowd:
    """Clients that ask, listen to streams and vote on what they got, and write down what they were promised."""

    base_url: str
    answered: set[str] = field(default_factory=set)
    """Record ids of answers that came whole."""
    voted: dict[str, int] = field(default_factory=dict)
    """Record ids with the thumb that was accepted last."""
    doubted: set[str] = field(default_factory=set)
    """Votes whose answer did not come: they may be there or not."""
    broken: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, number: int) -> None:
        parts, rng = urlsplit(self.base_url), random.Random(number)
        while not self.stopped.is_set():
            try:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(*DIED), contextlib.closing(writer):
                await self._talk(reader, writer, number, rng)
            self.broken += not self.stopped.is_set()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, rng: random.Random
    ) -> None:
        while not self.stopped.is_set():
            await asyncio.sleep(PAUSE_S)
            path = "/v1/stream" if rng.random() < 0.3 else "/v1/chat/completions"
            question = {"messages": [{"role": "user", "content": f"hello {number} {rng.random()}"}]}
            status, head = await _exchange(reader, writer, path, question)
            if status != 200:
                continue  # of a proxy that drains
            record_id = head["x-ratchet-record-id"]
            self.answered.add(record_id)
            if rng.random() < 0.3:
                await self._vote(reader, writer, record_id, rng.choice((1, -1)))

    async def _vote(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record_id: str, thumb: int
    ) -> None:
        try:
            status, _ = await _exchange(
                reader, writer, "/-/feedback", {"record_id": record_id, "feedback": thumb, "source": "crowd"}
            )
        except DIED:
            self.doubted.add(record_id)
            raise
        if status == 202:
            self.voted[record_id] = thumb


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: object
) -> tuple[int, dict[str, str]]:
    """One request to the last byte of its answer. Raises OSError, IncompleteReadError where that does not come."""
    content = json.dumps(body).encode()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), len(content), content)
    )
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    head = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if "content-length" in head:
        await reader.readexactly(int(head["content-length"]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return int(status.split()[1]), head


@contextlib.asynccontextmanager
async def crowd_at(base_url: str, clients: int = 12) -> AsyncIterator[Crowd]:
    crowd = Crowd(base_url)
    tasks = [asyncio.create_task(crowd.client(number)) for number in range(clients)]
    try:
        yield crowd
    finally:
        crowd.stopped.set()
        await asyncio.gather(*tasks)


def server(directory: Path, champion: str) -> RatchetProcess:
    """Two workers, on ports that stay the same when it is started again."""
    settings = {
        "server": {"workers": 2, "port": free_port(), "drain_seconds": 5},
        "admin": {"port": free_port()},
        "gateway": {"upstream_idle_seconds": 2},
    }
    return RatchetProcess(directory, champion=champion, settings=settings)


def rows(ratchet: RatchetProcess, query: str) -> list[tuple[bytes, int]]:
    with contextlib.closing(sqlite3.connect(ratchet.data_dir / "ratchet.db", timeout=120)) as database:
        return database.execute(query).fetchall()


RECORDS = "select id, 0 from records"
VOTES = "select record_id, feedback from feedback"


def assert_all_there(ratchet: RatchetProcess, crowd: Crowd) -> None:
    """Every promise was kept, once."""
    ids = RecordIds(KeyRing.load_or_create(ratchet.data_dir / "keys.json"))
    stored = Counter(row_id.hex() for row_id, _ in rows(ratchet, RECORDS))
    lost = {ids.verify(token) for token in crowd.answered} - set(stored)
    assert not lost, f"{len(lost)} of {len(crowd.answered)} answers have no record"
    assert set(stored.values()) == {1}, "no record twice"
    votes = [(row_id.hex(), thumb) for row_id, thumb in rows(ratchet, VOTES)]
    assert len(votes) == len(dict(votes)), "no vote twice"
    promised = {ids.verify(token): thumb for token, thumb in crowd.voted.items()}
    doubted = {ids.verify(token) for token in crowd.doubted}
    assert promised.items() <= dict(votes).items(), "every vote as it was accepted"
    assert dict(votes).keys() <= promised.keys() | doubted


@pytest.mark.timeout(STORM_S + 300)
async def test_a_storm_of_kills_loses_and_doubles_nothing(tmp_path: Path, upstream: Upstream) -> None:
    rng, loop = random.Random(20), asyncio.get_running_loop()
    ratchet = server(tmp_path, upstream.url)
    await asyncio.to_thread(ratchet.start)
    kills: Counter[str] = Counter()
    try:
        async with crowd_at(ratchet.base_url) as crowd:
            until = loop.time() + STORM_S
            while loop.time() < until or len(kills) < len(KILLED):
                seen = len(crowd.answered)
                await asyncio.to_thread(await_true, lambda seen=seen: len(crowd.answered) > seen + 50, "answers")
                name = KILLED[kills.total() % len(KILLED)] if kills.total() < len(KILLED) else rng.choice(KILLED)
                kills[name] += 1
                pid = await asyncio.to_thread(ratchet.kill, name)
                if name == "supervisor":
                    await asyncio.to_thread(ratchet.start)
                else:
                    await asyncio.to_thread(ratchet.await_new, name, pid)
        await asyncio.to_thread(ratchet.await_admin)
        await asyncio.to_thread(await_true, lambda: _stored(ratchet, crowd), "the spool to be stored")
    finally:
        await asyncio.to_thread(ratchet.stop)
    assert crowd.broken, "somebody's connection was cut"
    assert len(crowd.voted) > 20
    assert_all_there(ratchet, crowd)


def _stored(ratchet: RatchetProcess, crowd: Crowd) -> bool:
    enough = len(rows(ratchet, RECORDS)) >= len(crowd.answered) and len(rows(ratchet, VOTES)) >= len(crowd.voted)
    return enough and ratchet.metric("ratchet_spool_pending_bytes") == 0


@dataclass(frozen=True)
class Look:
    """What a process holds."""

    resident: int
    files: int


def look(ratchet: RatchetProcess) -> dict[str, Look]:
    found = {}
    for name in ("supervisor", "controller", "worker-0", "worker-1"):
        process = psutil.Process(ratchet.pid(name))
        found[name] = Look(process.memory_info().rss, process.num_fds())
    return found


@pytest.mark.timeout(SOAK_S + 300)
async def test_a_long_time_of_traffic_grows_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """Memory and descriptors are those of after the first quarter, but for some slack, and the end is clean."""
    ratchet = server(tmp_path, upstream.url)
    await asyncio.to_thread(ratchet.start)
    try:
        await asyncio.to_thread(ratchet.await_admin)
        idle = look(ratchet)
        async with crowd_at(ratchet.base_url) as crowd:
            await asyncio.sleep(SOAK_S / 4)
            warm = look(ratchet)
            pids = [psutil.Process(ratchet.pid(name)).pid for name in warm]
            await asyncio.sleep(SOAK_S * 3 / 4)
            late = look(ratchet)
        assert crowd.broken == 0
        await asyncio.to_thread(await_true, lambda: _stored(ratchet, crowd), "the spool to be stored")
        await asyncio.to_thread(await_true, lambda: _rested(ratchet, idle), "descriptors to be closed")
        assert request(ratchet.admin_url, "/health").json() == {"status": "ok"}
        assert pids == [psutil.Process(ratchet.pid(name)).pid for name in warm], "nobody was started again"
    finally:
        log = await asyncio.to_thread(ratchet.stop)
    for name, before in warm.items():
        assert late[name].resident <= before.resident * 1.1 + 16 * MIB, (name, before, late[name])
        assert late[name].files <= before.files + 12 + SPARE_FILES, (name, before, late[name])
    assert "ERROR" not in log, log
    assert_all_there(ratchet, crowd)


def _rested(ratchet: RatchetProcess, idle: dict[str, Look]) -> bool:
    """Whether the descriptors are those of before the clients came, but for segments and the like."""
    now = look(ratchet)
    return all(now[name].files <= idle[name].files + SPARE_FILES for name in now)
