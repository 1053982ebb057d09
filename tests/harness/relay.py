"""A TCP relay in front of a database: what clients connect to stays the same while what is behind it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

__all__ = ["Relay", "relay_to"]


class Relay:
    """Passes bytes on to `target` (host, port), until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End every connection, and take no other. From any thread."""
        self._open = False
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self) -> None:
        """Take connections again."""
        self._open = True

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        if not self._open:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            back_reader, back_writer = await asyncio.open_connection(*self.target)
            both = {writer, back_writer}
            self._writers |= both
            try:
                await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
            finally:
                self._writers -= both
                for each in both:
                    each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def relay_to(host: str, port: int) -> AsyncIterator[Relay]:
    """A relay for the length of the block; its `port` is on 127.0.0.1."""
    relay = Relay(host, port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
