"""Files that others replace while a worker runs, looked at four times a second: routes, keys, models' API keys, and
what the time is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy.app.timekeeping import follow_time
from proxy.clock import AdjustedClock, Clock, SystemClock
from proxy.credentials import CredentialFile
from proxy.ids import KeyRing
from proxy.log_throttle import ThrottledLog
from proxy.routes import RouteTable, read_routes

__all__ = ["Routes", "follow_credentials", "follow_files", "follow_keys", "key_trouble"]

_INTERVAL_S: Final = 0.25

_log = logging.getLogger(__name__)


class Routes:
    """The newest good route table of the file `path`; `fallback` until there is one."""

    def __init__(self, path: Path, fallback: RouteTable, clock: Clock | None = None) -> None:
        self._path = path
        self._throttled = ThrottledLog(_log, clock or SystemClock())
        self._stamp: tuple[int, int] | None = None
        self.table = fallback
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it was replaced; True where the table changed. What cannot be used is logged, once a minute.

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
            self._throttled.error("routes", "the last good route table stays in use: %s", exc)
            return False
        self._throttled.over("routes")
        if table.version < self.table.version:
            _log.error("%s has version %d, older than version %d in use: ignored",
                       self._path, table.version, self.table.version)  # fmt: skip
            return False
        changed = table != self.table
        self.table = table
        return changed

    def renew(self) -> None:
        """The same table again, to be made ready anew: keys that it names have come, or are others now."""
        self.table = replace(self.table)


def key_trouble(keys: KeyRing, exc: Exception) -> str:
    """What to say of a ring that cannot be read any more, which a process that has read it once goes on without."""
    if isinstance(exc, FileNotFoundError):
        return (f"{keys.path} is gone; the keys in memory stay in use until the next start. Restore it from a "
                "backup: with a new one all earlier record ids are refused, and all users count as new")  # fmt: skip
    return f"{exc}; the keys in memory stay in use until the next start"


def follow_keys(keys: KeyRing, said: ThrottledLog) -> None:
    """Take a new ring over; one that cannot be read is said, and changes nothing."""
    try:
        if keys.reload():
            _log.info("a new key ring is in use: %d keys", len(keys.key_ids))
    except (OSError, ValueError) as exc:
        said.error("keys", "%s", key_trouble(keys, exc))
    else:
        said.over("keys")


def follow_credentials(credentials: CredentialFile, routes: Routes, said: ThrottledLog) -> None:
    """Take over what the controller has written; what cannot be read is said, and changes nothing."""
    try:
        if credentials.refresh():
            routes.renew()
    except (OSError, ValueError) as exc:
        said.error("credentials", "%s", exc)
    else:
        said.over("credentials")


async def follow_files(
    routes: Routes,
    keys: KeyRing,
    credentials: CredentialFile,
    clock: AdjustedClock,
    clock_file: Path,
    *,
    show: Callable[[], None] = lambda: None,
) -> None:
    """Look at all of them until cancelled. What cannot be used is logged, once a minute at most. `show` is called as
    often: what this process tells others."""
    said = ThrottledLog(_log, clock)
    while True:
        await asyncio.sleep(_INTERVAL_S)
        follow_time(clock_file, clock)
        show()
        if routes.refresh():
            _log.info("route table version %d is in use", routes.table.version)
        follow_keys(keys, said)
        follow_credentials(credentials, routes, said)
