"""A synchronous door to the asynchronous store: an event loop of our own on a thread of its own.

So the library can be called from any thread, from inside a running event loop, and from a process forked off
another: whoever finds itself in a new process gets a new thread and new connections.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["Background"]

_R = TypeVar("_R")
_T = TypeVar("_T")


class Background(Generic[_R]):
    """Opens a resource on its own event loop, and runs coroutines with it there."""

    def __init__(self, opener: Callable[[], Awaitable[_R]], closer: Callable[[_R], Awaitable[None]]) -> None:
        self._opener = opener
        self._closer = closer
        self._guard = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._resource: _R | None = None

    def run(self, work: Callable[[_R], Coroutine[Any, Any, _T]]) -> _T:
        """Run `work(resource)` there and wait for its result. Opens the resource first where that is to be done."""
        loop, resource = self._ready()
        return asyncio.run_coroutine_threadsafe(work(resource), loop).result()

    def submit(self, work: Callable[[_R], Coroutine[Any, Any, _T]]) -> Any:
        """As `run`, but hand back the future."""
        loop, resource = self._ready()
        return asyncio.run_coroutine_threadsafe(work(resource), loop)

    def close(self) -> None:
        """Close the resource and end the thread; the next `run` opens it again."""
        with self._guard:
            if self._loop is None or self._thread is None or self._pid != os.getpid():
                self._loop = None
                return
            if self._resource is not None:
                asyncio.run_coroutine_threadsafe(_awaited(self._closer(self._resource)), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = self._resource = None

    def _ready(self) -> tuple[asyncio.AbstractEventLoop, _R]:
        if self._pid != os.getpid():  # a fork: the parent's thread does not exist here, its lock may be held for ever
            self._guard = threading.Lock()
            self._loop = self._thread = self._resource = None
            self._pid = os.getpid()
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="ratchet library", daemon=True)
                self._thread.start()
            if self._resource is None:
                self._resource = asyncio.run_coroutine_threadsafe(_awaited(self._opener()), self._loop).result()
            return self._loop, self._resource


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
