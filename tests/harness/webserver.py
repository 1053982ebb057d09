"""An ASGI app behind a real socket, in the test's own event loop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, host: str = "127.0.0.1", *, certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[str]:
    """Serve `app` on a free port of `host`; gives the base URL. Up when entered, down when left.

    `certificate`: files with the certificate and its key, for TLS.
    """
    cert, key = certificate or (None, None)
    with socket.socket() as listener:
        listener.bind((host, 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, http="httptools", loop="none", ssl_certfile=cert,
                                ssl_keyfile=key)  # fmt: skip
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        try:
            yield f"http{'s' if certificate else ''}://{host}:{listener.getsockname()[1]}"
        finally:
            await server.shutdown(sockets=[listener])


@contextlib.contextmanager
def serving_in_thread(
    app: ASGIApp,
    close: Callable[[], Awaitable[None]] | None = None,
    *,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[str]:
    """As `serving`, but in a thread with its own event loop, for tests of blocking clients; `close` runs there last."""
    started: Future[str] = Future()
    stop = asyncio.Event()

    async def run() -> None:
        try:
            async with serving(app, certificate=certificate) as url:
                started.set_result(url)
                await stop.wait()
        except BaseException as exc:
            if not started.done():
                started.set_exception(exc)
            raise
        if close is not None:
            await close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield started.result()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
