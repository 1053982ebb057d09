"""Where what computes for long is done: in a thread, wherever one is asked from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["in_a_thread"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_a_thread(work: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
    """What `work` returns; it is done in a thread, and right here where this is one that has no event loop to hold up
    (`Database.transact`)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return await asyncio.to_thread(work, *args, **options)
    return work(*args, **options)  # here, so that what it raises names no other error as its context
