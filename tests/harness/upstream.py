"""A model's server whose every byte is the test's to choose.

It reads requests exactly (raw head, raw body, payload) and hands each to the script of its path: a coroutine
that writes what it likes, when it likes, and may hang, reset or talk nonsense. What it saw is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["CHAT", "Line", "Script", "Seen", "Upstream", "reply", "serve_upstream"]

CHAT = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"x" * 800 + b'"},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}'
)


@dataclass
class Seen:
    """A request as it arrived."""

    head: bytes
    body: bytes = b""
    """The body's bytes on the wire."""
    payload: bytes = b""
    """The same without chunking."""
    trailer: bytes = b""
    connection: int = 0
    """Which connection it came on, counted from 1."""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> bytes:
        return self.head.split(b" ", 2)[1]

    @property
    def lines(self) -> list[bytes]:
        """Header lines as they came."""
        return self.head.split(b"\r\n")[1:-2]

    def header(self, name: str) -> bytes | None:
        """The first value of a header, any case."""
        for line in self.lines:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip()
        return None


@dataclass
class Line:
    """One connection as a script holds it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the peer has closed."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def until_closed(self) -> None:
        """Read on until the peer closes."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.closed.set()


Script = Callable[[Seen, Line], Awaitable[None]]


def reply(body: bytes = CHAT, *, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """A response with a length; `headers` are whole lines."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        headers,
        len(body),
        body,
    )


class Upstream:
    """The server. `scripts[path]` (or `default`) answers; a script with `early = True` gets the head alone."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.lines: list[Line] = []
        self.scripts: dict[str, Script] = {}
        self.early: set[str] = set()
        self.port = 0
        self.url = ""
        self.arrived = asyncio.Event()
        """Set whenever a request (or, for early scripts, a head) has come."""

    async def default(self, seen: Seen, line: Line) -> None:
        await line.send(reply())

    def on(self, path: str, script: Script, *, early: bool = False) -> None:
        """Answer `path` with `script`; `early`: as soon as the head is there."""
        self.scripts[path] = script
        if early:
            self.early.add(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        number = len(self.lines)
        try:
            while not writer.transport.is_closing():
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    return
                seen = Seen(head, connection=number)
                path = seen.target.partition(b"?")[0].decode("latin-1")
                if path not in self.early:
                    await read_body(reader, seen)
                if _asks_whether_we_live(seen):
                    self.lines = [other for other in self.lines if other is not line]
                else:
                    self.seen.append(seen)
                    self.arrived.set()
                await self.scripts.get(path, self.default)(seen, line)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            line.closed.set()
            writer.close()


def _asks_whether_we_live(seen: Seen) -> bool:
    """The controller's question at its start is nobody's request."""
    named = (seen.header("user-agent") or b"").startswith(b"ratchet/")
    return named and (seen.header("via") or b"").startswith(b"1.1 ratchet-")


async def read_body(reader: asyncio.StreamReader, seen: Seen) -> None:
    """Read the body that belongs to `seen.head`."""
    if length := seen.header("content-length"):
        seen.body = seen.payload = await reader.readexactly(int(length))
    elif seen.header("transfer-encoding"):
        while True:
            size = await reader.readuntil(b"\r\n")
            seen.body += size
            if not (count := int(size.split(b";")[0], 16)):
                break
            chunk = await reader.readexactly(count + 2)
            seen.body += chunk
            seen.payload += chunk[:-2]
        while (trailer := await reader.readuntil(b"\r\n")) != b"\r\n":
            seen.trailer += trailer
        seen.body += seen.trailer + b"\r\n"


@contextlib.asynccontextmanager
async def serve_upstream(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Upstream]:
    """An upstream on a free port, or on that one."""
    upstream = Upstream()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await upstream.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.url = f"{'https' if tls else 'http'}://{host}:{upstream.port}"
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in upstream.lines:
            line.writer.transport.abort()
        await server.wait_closed()
