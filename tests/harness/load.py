"""Clients that never stop asking, and know exactly who got a whole answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Load", "load_on"]

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


@dataclass
class Load:
    """Clients that send one request after the other and note who got a whole answer."""

    base_url: str
    pause_s: float = 0.0
    """Between an answer and the next request of the same client."""
    answered: list[str] = field(default_factory=list)
    """Record ids of whole answers."""
    sent: int = 0
    broken: int = 0
    refused: int = 0

    async def client(self, stop: asyncio.Event) -> None:
        parts = urlsplit(self.base_url)
        while not stop.is_set():
            try:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            except ConnectionError:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            try:
                while not stop.is_set():
                    self.sent += 1
                    writer.write(REQUEST)
                    self.answered.append(await _answer(reader))
                    await asyncio.sleep(self.pause_s)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.broken += 1
            finally:
                writer.close()

    async def until(self, answers: int) -> None:
        """Return once so many more requests have been answered."""
        goal = len(self.answered) + answers
        async with asyncio.timeout(120):
            while len(self.answered) < goal:
                await asyncio.sleep(0.02)


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200"), head
    fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:-2])
    await reader.readexactly(int(fields["content-length"]))
    return next(line for line in head.split("\r\n") if line.lower().startswith("x-ratchet-record-id")).split(": ")[1]


@contextlib.asynccontextmanager
async def load_on(base_url: str, clients: int = 8, pause_s: float = 0.02) -> AsyncIterator[Load]:
    """So many clients for the length of the block. Without a pause they would ask for as much as the machine gives, and
    have a hundred thousand answers to be looked for where the test waits for a minute."""
    load, stop = Load(base_url, pause_s), asyncio.Event()
    tasks = [asyncio.create_task(load.client(stop)) for _ in range(clients)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*tasks)
