"""A real gateway in the test's event loop: real sockets, a real spool, real ids and counters."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.cleaning.cleaner import Cleaner
from proxy.cleaning.counters import CLEANING_COUNTERS
from proxy.clock import ManualClock
from proxy.config.model import Config
from proxy.config.serving import (
    CaptureConfig,
    ChampionConfig,
    GatewayConfig,
    RedactionConfig,
    SpoolConfig,
    StickyConfig,
)
from proxy.gateway import GATEWAY_COUNTERS, Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target
from proxy.spool.frames import Frame, iter_frames
from proxy.spool.writer import SpoolWriter

__all__ = ["Client", "Door", "config", "open_gateway"]

_PATIENCE_S = 120.0


def config(
    *,
    gateway: dict[str, Any] | None = None,
    capture: dict[str, Any] | None = None,
    spool: dict[str, Any] | None = None,
    sticky: dict[str, Any] | None = None,
    champion: dict[str, Any] | None = None,
) -> Config:
    """A configuration with some tables changed."""
    return Config(
        gateway=GatewayConfig(**(gateway or {})),
        capture=CaptureConfig(**(capture or {})),
        spool=SpoolConfig(**(spool or {})),
        sticky=StickyConfig(**(sticky or {})),
        champion=ChampionConfig(**(champion or {})),
    )


class Client:
    """A raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """A response head, with its empty line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self) -> tuple[bytes, bytes]:
        """Head and body of a response that has a length."""
        head = await self.head()
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        return head, await self.reader.readexactly(length)

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


@dataclass
class Door:
    """A running gateway, and what it wrote."""

    gateway: Gateway
    port: int
    spool_root: Path
    counters: SharedCounters
    ids: RecordIds
    table: list[RouteTable]
    tls: ssl.SSLContext | None = None
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        name = "localhost" if self.tls else None
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname=name))
        self.clients.append(client)
        return client

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """One request on a connection of its own; a response with a length."""
        client = await self.connect()
        await client.send(request)
        answer = await client.response()
        client.close()
        return answer

    async def dialogue(self, request: bytes) -> bytes:
        """Everything that comes back for `request` until the connection ends."""
        client = await self.connect()
        await client.send(request)
        answer = await client.rest()
        client.close()
        return answer

    def frames(self) -> list[Frame]:
        """Everything written down, in order."""
        frames: list[Frame] = []
        for segment in sorted(self.spool_root.glob("*/*.seg")):
            frames += [frame for frame, _ in iter_frames(segment.read_bytes())]
        return frames

    async def frame(self, number: int = 1) -> Frame:
        """The record number `number` (from 1), once it is there."""
        async with asyncio.timeout(_PATIENCE_S):
            while len(frames := self.frames()) < number:
                await asyncio.sleep(0.005)
        return frames[number - 1]

    def count(self, name: str) -> float:
        return float(self.counters.values[self.counters.slot(name)])

    async def settled(self, name: str, value: float) -> None:
        """Wait until a counter has `value`."""
        async with asyncio.timeout(_PATIENCE_S):
            while self.count(name) != value:
                await asyncio.sleep(0.005)

    async def pass_time(self, clock: ManualClock, seconds: float) -> None:
        """Move the clock by more than gateway.client_idle_seconds, until every deadline was looked at: a client made
        for this has been found to be idle."""
        witness = await self.connect()
        await witness.send(b"GET /witness HTTP/1.1\r\nHost: x\r\n\r\n")
        await witness.response()
        clock.advance(seconds)
        assert await witness.rest() == b""

    def route(self, **changes: Any) -> None:
        """Change the route table, as the controller would."""
        self.table[0] = replace(self.table[0], version=self.table[0].version + 1, **changes)


@contextlib.asynccontextmanager
async def open_gateway(
    directory: Path,
    champion: str,
    *,
    challenger: str | Target | None = None,
    share: float = 1.0,
    settings: Config | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    redact: RedactionConfig | None = None,
    **options: Any,
) -> AsyncIterator[Door]:
    """A gateway in front of `champion` (a URL). `tls` is a pair of contexts: the server's and the clients'."""
    settings = settings or config()
    if not settings.champion.url:
        settings = replace(settings, champion=replace(settings.champion, url=champion))
    ring = KeyRing.load_or_create(directory / "keys.json")
    ids = RecordIds(ring)
    counters = SharedCounters(directory / "worker-0.stats", (*GATEWAY_COUNTERS, *CLEANING_COUNTERS))
    cleaner = Cleaner(redact, counters.add) if redact else None
    spool = SpoolWriter(directory / "spool", settings.spool)
    if isinstance(challenger, str):
        challenger = Target(model_id=2, name="new", url=challenger)
    credential = "champion" if settings.champion.api_key else None
    target = Target(model_id=1, name="old", url=champion, model=settings.champion.model, credential=credential)
    table = [
        RouteTable(
            version=1,
            champion=target,
            challenger=challenger,
            share=share if challenger else 0.0,
            salt="00ff" * 8 if challenger else "",
            experiment_id=7 if challenger else None,
            epoch=3,
            config_id=5,
        )
    ]
    gateway = Gateway(
        settings,
        routes=lambda: table[0],
        spool=options.pop("spool", spool),
        ids=ids,
        user_hash=ring.user_hash,
        counters=counters,
        redact=cleaner,
        **options,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(gateway.protocol_factory, "127.0.0.1", 0, ssl=tls[0] if tls else None)
    port = server.sockets[0].getsockname()[1]
    door = Door(gateway, port, directory / "spool", counters, ids, table, tls[1] if tls else None)
    try:
        yield door
    finally:
        server.close()
        for client in door.clients:
            client.writer.transport.abort()
        await gateway.close()
        await server.wait_closed()
        if cleaner is not None:
            await cleaner.close(_PATIENCE_S)
        spool.close()
        counters.close()
