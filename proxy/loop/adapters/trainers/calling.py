"""Calling a training function, plain or async, in whatever thread one happens to be.

Standard library only: the training process uses it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["anchored", "call"]


def call(function: Callable[..., Any], data_path: str, **extras: Any) -> Any:
    """What the function returns for the data. An awaitable is awaited: of a coroutine function, a partial of one, an
    object whose `__call__` is one. Its event loop is a new one, on another thread where this one has a loop running."""
    answer = function(data_path, **extras)
    return _awaited(answer) if inspect.isawaitable(answer) else answer


def _awaited(answer: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await answer

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1, thread_name_prefix="ratchet async train_fn") as pool:
        return pool.submit(asyncio.run, wait()).result()


def anchored(result: Any, began: Path) -> Any:
    """`result` with a whole path for its `model_path`, where that is relative: to the directory in which the training
    `began`, else, where a model is there instead, to the one that it has changed to."""
    path = result.get("model_path") if isinstance(result, Mapping) else None
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        return result
    if not text.strip() or "://" in text or text.startswith("~") or Path(text).is_absolute():
        return result
    places = [began / text]
    with contextlib.suppress(OSError):  # its working directory may be gone
        places.append(Path.cwd() / text)
    return {**result, "model_path": str(next((place for place in places if place.exists()), places[0]))}
