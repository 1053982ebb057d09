"""uvicorn as a guest in somebody else's event loop: no signal handlers, no access log, started and stopped by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from proxy.tasks import spawn

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["WebServer"]


class WebServer:
    """Serves one ASGI app on one bound socket."""

    def __init__(self, app: Starlette, sock: socket.socket, *, name: str) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
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
            raise RuntimeError(f"{self._name} ended while it was started")

    async def stop(self) -> None:
        """Finish open requests for at most five seconds, then close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


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
