"""Whether this host's store takes what happens: the controller writes it down, the workers say it in
`/-/health?verbose`.

A worker needs no store, so this never changes its own health; it tells an operator that records wait in the spool and
that the routes in force are the last ones that were published.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.private import write_private

__all__ = ["StoreHealthFile", "read_store_health"]

_STALE_S: Final = 20.0
"""A controller that has written nothing for so long does not run."""
_MOST_CHARS: Final = 900
_ROOM: Final = 4096
"""The file always has this size: what is said on a full disk is written over what was said before."""


class StoreHealthFile:
    """The writing end. Changes are written at once, else the file is only touched."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: tuple[str, float] | None = None
        """What was written last: the trouble, and since when."""

    def set(self, trouble: str, now: float) -> None:
        """Note what is wrong at `now` (Unix seconds); empty: nothing. Raises OSError."""
        told = self._told
        if told is not None and told[0] == trouble and self._path.exists():
            os.utime(self._path, (now, now))
            return
        since = told[1] if told is not None and bool(told[0]) == bool(trouble) else now
        document = {"reachable": not trouble, "since": since, "trouble": trouble[:_MOST_CHARS]}
        self._write(orjson.dumps(document).ljust(_ROOM), now)
        self._told = trouble, since

    def _write(self, content: bytes, now: float) -> None:
        scratch = self._path.with_suffix(".tmp")
        try:
            write_private(scratch, content)
            os.utime(scratch, (now, now))
            scratch.replace(self._path)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            with self._path.open("r+b") as file:  # that it is full, of all things, must be said: in the room there is
                file.write(content)
            os.utime(self._path, (now, now))


def read_store_health(path: Path, now: float) -> dict[str, Any]:
    """`store`: ok, unreachable, or unknown where the controller does not say; `store_since` (Unix seconds) or None;
    `store_trouble`: what is wrong, or None."""
    try:
        age_s = now - path.stat().st_mtime
        told = orjson.loads(path.read_bytes())
        if abs(age_s) <= _STALE_S:
            store = "ok" if told["reachable"] else "unreachable"
            return {"store": store, "store_since": told["since"], "store_trouble": told.get("trouble") or None}
    except (OSError, ValueError, KeyError):
        pass
    return {"store": "unknown", "store_since": None, "store_trouble": None}
