"""The controller's listener: metrics, status, control and console.

The supervisor hands its socket over, so that a controller which dies loses no connection in the backlog. Where the
port was taken when it started (by an earlier controller that is about to end, or a stranger), nothing waits for it:
the controller goes on without, says so, and opens the port itself as soon as that is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import orjson

from proxy.app.parent_pipe import ShutdownSignal
from proxy.app.paths import DataDir
from proxy.app.sockets import listen, url_of
from proxy.app.troubles import Troubles
from proxy.app.web_server import WebServer
from proxy.config.model import Config
from proxy.private import replace_private
from proxy.tasks import cancel_and_wait, spawn

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["admin_port"]

_RETRY_S: Final = 0.25

_log = logging.getLogger(__name__)


@asynccontextmanager
async def admin_port(
    app: Starlette, config: Config, descriptor: int | None, shutdown: ShutdownSignal, troubles: Troubles
) -> AsyncIterator[None]:
    """Serve `app` while the context is open, on `descriptor` or, where there is none, as soon as the port is free."""
    if not config.admin.enabled:
        yield
        return
    port = _Port(app, shutdown)
    if descriptor is not None:
        await port.open(socket.socket(fileno=descriptor))
        joining = None
    else:
        joining = spawn(_join(port, config, shutdown, troubles), name="open the admin port")
    try:
        yield
    finally:
        if joining is not None:
            await cancel_and_wait([joining])
        await port.close()


class _Port:
    """What is served, once there is a socket for it."""

    def __init__(self, app: Starlette, shutdown: ShutdownSignal) -> None:
        self._app = app
        self._told = shutdown
        self._server: WebServer | None = None

    async def open(self, sock: socket.socket) -> None:
        server = WebServer(self._app, sock, name="admin")
        await server.start()
        self._server = server
        self._told.guard(sock, server.stop_listening)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()


async def _join(port: _Port, config: Config, shutdown: ShutdownSignal, troubles: Troubles) -> None:
    """Try until the port can be had, or it is time to end."""
    while not shutdown.stop.is_set():
        try:
            sock = listen(config.admin.host, config.admin.port, "admin", patience_s=0.0)
        except OSError as exc:
            troubles.report("admin", f"{exc}; serving goes on, and the admin port opens as soon as it is free")
            await asyncio.sleep(_RETRY_S)
            continue
        url = url_of(sock, "http")
        await port.open(sock)
        _announce(DataDir.of(config), url)
        troubles.over("admin", f"{url} is open")
        return


def _announce(data: DataDir, url: str) -> None:
    """Add where it is to what the supervisor has written down."""
    with contextlib.suppress(OSError, ValueError):  # whoever looks there goes by the configuration, then
        replace_private(data.addresses, orjson.dumps({**orjson.loads(data.addresses.read_bytes()), "admin": url}))
