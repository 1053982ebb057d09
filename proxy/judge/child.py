"""The process that runs a judging function: it reads records from its standard input, a socket, and writes scores.

A function of the user's may block, crash or never return: here that costs a batch of records, and nothing else. The
parent ends this process where it takes too long; where the parent is gone, the socket ends.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
import signal
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proxy.callables import imported

__all__ = ["LENGTH", "main"]

LENGTH: Final = struct.Struct("<I")
_NICE: Final = 5


def main(target: str) -> int:
    """Answer each list of records with {"scores": [[score or null, reason], …]} or {"error": text}, until there is
    nobody to answer; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the controller decides
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.nice(_NICE)
    line = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the function prints is for the log
    function: Callable[..., Any] | None = None
    while (records := _read(line)) is not None:
        try:
            function = function or imported(target)
            answer: dict[str, Any] = {"scores": _scores(function(records), len(records))}
        except Exception as exc:  # noqa: BLE001 - whatever the function raises
            traceback.print_exc()
            answer = {"error": f"{target} raised {type(exc).__name__}: {exc}"}
        if not _write(line, answer):
            break
    return 0


def _scores(returned: Any, count: int) -> list[tuple[float | None, str]]:
    """A score and a reason for each record. Raises TypeError or ValueError where that is not what came back."""
    if inspect.isawaitable(returned):
        returned = asyncio.run(_awaited(returned))
    if isinstance(returned, str | Mapping) or not isinstance(returned, Sequence):
        if isinstance(returned, str | Mapping) or not hasattr(returned, "__iter__"):
            raise TypeError(f"it returned {type(returned).__name__}, not a list of scores")
        returned = list(returned)
    if len(returned) != count:
        raise ValueError(f"it returned {len(returned)} scores for {count} records")
    return [_score(one) for one in returned]


async def _awaited(answer: Any) -> Any:
    return await answer


def _score(one: Any) -> tuple[float | None, str]:
    """A number from 0 to 1, or None; or a mapping with `score` and `reason`."""
    reason = ""
    if isinstance(one, Mapping):
        one, reason = one.get("score"), str(one.get("reason") or "")
    if one is None:
        return None, reason
    number = float(one)
    if not math.isfinite(number) or not 0 <= number <= 1:
        return None, f"its score {number:g} is not from 0 to 1"
    return number, reason


def _read(line: int) -> Any:
    head = _exactly(line, LENGTH.size)
    body = None if head is None else _exactly(line, LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def _exactly(line: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = os.read(line, count - len(data))
        if not piece:
            return None
        data += piece
    return data


def _write(line: int, answer: Any) -> bool:
    text = json.dumps(answer).encode()
    data = memoryview(LENGTH.pack(len(text)) + text)
    try:
        while data:
            data = data[os.write(line, data) :]
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
