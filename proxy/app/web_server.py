"""uvicorn as a guest in somebody else's event loop: no signal handlers, no access log, started and stopped by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.tasks import spawn

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["WebServer"]

_LONGEST_HEAD: Final = 65_536
_MOST_FRAMING: Final = 4 << 20
"""Bytes of head, chunk sizes and trailers together: a long body may come in many small chunks."""
_TOO_LONG: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nx-content-type-options: nosniff\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class WebServer:
    """Serves one ASGI app on one bound socket."""

    def __init__(self, app: Starlette, sock: socket.socket, *, name: str) -> None:
        config = uvicorn.Config(
            app,
            http=_Bounded,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=5,
        )
        self._server = _Guest(config)
        self._socket = sock
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once it accepts connections."""
        self._task = spawn(self._server.serve(sockets=[self._socket]), name=self._name)
        ready = spawn(self._server.ready.wait(), name=f"{self._name} ready")
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._task
            raise RuntimeError(f"{self._name} ended while starting")

    def stop_listening(self) -> None:
        """Accept nobody any more; who is connected is still answered."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Finish open requests for at most five seconds, then close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _Bounded(HttpToolsProtocol):
    """HTTP with an end to the head of a request, and to what frames its body: the parser itself takes header and
    trailer lines for as long as they come."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._in_head = True
        self._framing = 0
        """Bytes of this request so far that are no body."""

    def on_message_begin(self) -> None:
        self._in_head, self._framing = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # nobody reads trailers here
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        self._framing += len(data)
        super().data_received(data)
        if self._framing > (_LONGEST_HEAD if self._in_head else _MOST_FRAMING) and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()


class _Guest(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
