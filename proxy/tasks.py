"""Background tasks with a name and an owner.

`spawn` is the only way to start one (the linter bans `asyncio.create_task`): it keeps a reference until the
task ends, and reports an exception that nobody awaited. Whoever spawns awaits the end, usually through
`cancel_and_wait` at shutdown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["cancel_and_wait", "spawn", "to_the_end"]

_T = TypeVar("_T")
_alive: set[asyncio.Task[Any]] = set()
_log = logging.getLogger(__name__)


def spawn(coro: Coroutine[Any, Any, _T], *, name: str) -> asyncio.Task[_T]:
    """Start `coro` as a task called `name` and hold it until it ends."""
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _alive.add(task)
    task.add_done_callback(_finished)
    return task


async def to_the_end(coro: Coroutine[Any, Any, _T], *, name: str) -> _T:
    """What `coro` returns. Where the waiting is cancelled, `coro` still ends first: what is written is also noted."""
    task = spawn(coro, name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel each task and wait until it has ended; what it raised on the way out is only logged.

    Whoever is cancelled while it waits here, as by a time-out, is so at once: all tasks have been told to end by then,
    and are held until they have.
    """
    myself = asyncio.current_task()
    pending = [task for task in tasks if not task.done() and task is not myself]
    for task in pending:
        task.cancel()
    if not pending:
        return
    for task in pending:
        _alive.add(task)
        task.add_done_callback(_let_go)
    await asyncio.wait(pending)


def _let_go(task: asyncio.Task[Any]) -> None:
    _alive.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that nobody is told of it when the task is collected; `_finished` has logged it


def _finished(task: asyncio.Task[Any]) -> None:
    _alive.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed", task.get_name(), exc_info=error)
