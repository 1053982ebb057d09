"""A synchronous door to the asynchronous store: an event loop of our own on a thread of its own.

So the library can be called from any thread, from inside a running event loop, and from a process forked off
another: a forked process has neither the thread nor a right to the connections, forgets them, and opens its own.
What the parent had is kept there untouched: to close a connection of SQLite, or an event loop, of another process
would disturb that process.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

__all__ = ["EventLoopThread"]

_R = TypeVar("_R")
_T = TypeVar("_T")
_LAST_WORDS_S: Final = 60.0
"""For calls of other threads that are under way when it is closed."""


class EventLoopThread(Generic[_R]):
    """Opens a resource on its own event loop, and runs coroutines with it there."""

    def __init__(self, opener: Callable[[], Awaitable[_R]], closer: Callable[[_R], Awaitable[None]]) -> None:
        self._opener = opener
        self._closer = closer
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._resource: _R | None = None
        self._kept_open: str | None = None
        self.first_opened_in: int | None = None
        """Id of the process that opened it first: in another one it has been forked since."""
        _all.add(self)

    def run(self, work: Callable[[_R], Coroutine[Any, Any, _T]]) -> _T:
        """Run `work(resource)` there and wait for its result. Opens the resource first where that is to be done.

        Raises RuntimeError where it is closed meanwhile.
        """
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the log was closed by another thread before this call finished") from None

    def submit(self, work: Callable[[_R], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """As `run`, but hand back the future."""
        if self._thread is threading.current_thread():
            raise RuntimeError(
                "this call would wait for itself: it was made from the library's own thread; call it from another"
            )
        with self._guard:
            loop, resource = self._ready()
            return asyncio.run_coroutine_threadsafe(work(resource), loop)

    def opened(self) -> tuple[asyncio.AbstractEventLoop, _R]:
        """The event loop and the resource, opened where that is to be done."""
        if self._thread is threading.current_thread() and self._resource is None:
            raise RuntimeError("this call would wait for itself: it was made from the library's own thread")
        with self._guard:
            return self._ready()

    def last_words(self, work: Callable[[_R], Coroutine[Any, Any, _T]], wait_s: float) -> None:
        """Run `work` where the resource is open and nobody closes it, for `wait_s` seconds at most."""
        loop, resource = self._loop, self._resource
        if loop is not None and resource is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(work(resource), loop).result(wait_s)

    @contextmanager
    def kept_open(self, reason: str) -> Iterator[None]:
        """Until the end of the block `close` raises RuntimeError with this reason."""
        with self._guard:
            self._kept_open = reason
        try:
            yield
        finally:
            self._kept_open = None

    def close(self) -> None:
        """Close the resource and end the thread; the next `run` opens it again. What other threads have asked for is
        done first. Raises RuntimeError while it is kept open."""
        if self._kept_open is not None:
            raise RuntimeError(self._kept_open)
        with self._guard:
            if self._loop is None or self._thread is None:
                return
            try:
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = self._thread = self._resource = None

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=_LAST_WORDS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._resource is not None:
            await self._closer(self._resource)

    def _ready(self) -> tuple[asyncio.AbstractEventLoop, _R]:
        if self._loop is None:
            self.first_opened_in = self.first_opened_in or os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="ratchet library", daemon=True)
            self._thread.start()
        if self._resource is None:
            self._resource = asyncio.run_coroutine_threadsafe(_awaited(self._opener()), self._loop).result()
        return self._loop, self._resource

    def _forget(self) -> None:
        """In a forked process: the thread is not here, and the lock may be held for ever."""
        if self._loop is not None:
            _of_parents.append((self._loop, self._thread, self._resource))
        self._guard = threading.Lock()
        self._loop = self._thread = self._resource = self._kept_open = None


_all: weakref.WeakSet[EventLoopThread[Any]] = weakref.WeakSet()
_of_parents: list[object] = []


def _forget_all() -> None:
    for background in list(_all):
        background._forget()


os.register_at_fork(after_in_child=_forget_all)


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
