"""Files that others replace while a worker runs, looked at four times a second: routes, keys, and what the time is."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from proxy.app.timekeeping import follow_time
from proxy.clock import AdjustedClock
from proxy.ids import KeyRing
from proxy.routes import RouteTable, read_routes

__all__ = ["Routes", "follow_files"]

_INTERVAL_S: Final = 0.25

_log = logging.getLogger(__name__)


class Routes:
    """The newest good route table of the file `path`; `fallback` until there is one."""

    def __init__(self, path: Path, fallback: RouteTable) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self.table = fallback
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it was replaced; True where the table changed. What cannot be used is logged once.

        A file that is gone, unreadable, or older than what is in force leaves the last good table in force.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            table = read_routes(self._path)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as exc:
            _log.error("the last good route table stays in force: %s", exc)
            return False
        if table.version < self.table.version:
            _log.error("%s has version %d, older than %d in force: ignored",
                       self._path, table.version, self.table.version)  # fmt: skip
            return False
        changed = table != self.table
        self.table = table
        return changed


async def follow_files(routes: Routes, keys: KeyRing, clock: AdjustedClock, clock_file: Path) -> None:
    """Look at all of them until cancelled."""
    while True:
        await asyncio.sleep(_INTERVAL_S)
        follow_time(clock_file, clock)
        if routes.refresh():
            _log.info("routes version %d is in force", routes.table.version)
        try:
            if keys.reload():
                _log.info("the key ring was replaced: %d keys", len(keys.key_ids))
        except (OSError, ValueError) as exc:
            _log.error("the keys read before stay in force: %s", exc)
