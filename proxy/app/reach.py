"""Whether this host reaches its store: the controller writes it down, the workers say it in `/-/health?verbose`.

A worker needs no store, so this never changes its own health; it tells an operator that records wait in the spool and
that the routes in force are the last ones that were published.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.private import write_private

__all__ = ["Reach", "read_reach"]

_STALE_S: Final = 20.0
"""A controller that has written nothing for so long does not run."""


class Reach:
    """The writing end. Changes are written at once, else the file is only touched."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reachable: bool | None = None

    def set(self, reachable: bool, now: float) -> None:
        """Note the state at `now` (Unix seconds). Raises OSError."""
        if reachable == self._reachable and self._path.exists():
            os.utime(self._path, (now, now))
            return
        scratch = self._path.with_suffix(".tmp")
        write_private(scratch, orjson.dumps({"reachable": reachable, "since": now}))
        os.utime(scratch, (now, now))
        scratch.replace(self._path)
        self._reachable = reachable


def read_reach(path: Path, now: float) -> dict[str, Any]:
    """`store`: ok, unreachable, or unknown where the controller does not say; `store_since` (Unix seconds) or None."""
    try:
        age_s = now - path.stat().st_mtime
        told = orjson.loads(path.read_bytes())
        if abs(age_s) <= _STALE_S:
            return {"store": "ok" if told["reachable"] else "unreachable", "store_since": told["since"]}
    except (OSError, ValueError, KeyError):
        pass
    return {"store": "unknown", "store_since": None}
