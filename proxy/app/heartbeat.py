"""This host among those that share the store: it says that it is there, and knows who else is.

A replica is one data directory. Its row is written every few seconds and tells where it listens, which routes it
follows and how much waits in its spool; ages are by the database's clock, so that hosts whose clocks differ agree. How
far this host's own clock is ahead of it is told, too: somebody should look after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.app.paths import DataDir
from proxy.clock import AdjustedClock
from proxy.log_throttle import ThrottledLog
from proxy.private import replace_private
from proxy.routes import read_routes
from proxy.spool import SpoolUsage
from proxy.status import ReplicaStatus
from proxy.store.store import Store
from proxy.store.tables.control import Replica
from proxy.version import __version__

__all__ = ["ReplicaHeartbeat", "replica_id"]

_ALIVE_S: Final = 15.0
_FORGET_US: Final = 7 * 86_400_000_000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_log = logging.getLogger(__name__)


def replica_id(path: Path, fresh: str | None = None) -> str:
    """The name in the file `path`; where there is none, or none that can be read, `fresh` is, or a new one.

    On the disk for good before anybody hears of it: two replicas of one name, or of none, would take each other's row.
    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if _NAME.fullmatch(name := path.read_text("ascii").strip()):
            return name
        _log.warning("%s is damaged: this replica gets a new id", path)
    name = fresh or secrets.token_hex(4)
    replace_private(path, f"{name}\n", durable=True)
    return name


class ReplicaHeartbeat:
    """Written by `beat`; `replicas` is what the last beat saw."""

    def __init__(self, data: DataDir, clock: AdjustedClock) -> None:
        self._data = data
        self._clock = clock
        self._id = secrets.token_hex(4)
        """Its name where it has none yet, so that it keeps it while the disk has no room for it."""
        self._named = False
        self._throttled = ThrottledLog(_log, clock)
        self._host = socket.gethostname()
        self._started_us = int(clock.now() * 1e6)
        self.replicas: Sequence[ReplicaStatus] = ()

    async def beat(self, store: Store, usage: SpoolUsage, *, leader: bool) -> None:
        """Say that we are here, and look who else is. Raises TemporaryError."""
        if not self._named:
            await asyncio.to_thread(self._learn_name)
        now = self._clock.now()
        detail = {
            **self._addresses(),
            "leader": leader,
            "routes_version": self._routes_version(),
            "pending_bytes": usage.pending_bytes,
            "oldest_s": None if usage.oldest_at is None else max(0.0, now - usage.oldest_at),
            "clock_us": int(self._clock.unadjusted() * 1e6),
        }
        await store.replicas.seen(
            self._id, host=self._host, version=__version__, started_us=self._started_us, detail=detail
        )
        ages = await store.replicas.ages()
        rows = await store.replicas.list()
        self.replicas = [self._status(row, ages.get(row.id)) for row in rows]
        if any(row.seen_us < int(now * 1e6) - _FORGET_US for row in rows):
            await store.replicas.forget(int(now * 1e6) - _FORGET_US)

    def _learn_name(self) -> None:
        try:
            self._id = replica_id(self._data.replica_id, self._id)
        except OSError as exc:
            self._throttled.error("name", "%s: %s; this replica may get another id after a restart",
                             self._data.replica_id, exc)  # fmt: skip
        else:
            self._named = True

    def _status(self, row: Replica, age_s: float | None) -> ReplicaStatus:
        """One replica for /status; `lag_s` is the age of its oldest record that is not stored yet, as it last said."""
        detail = row.detail
        return ReplicaStatus(
            id=row.id,
            this=row.id == self._id,
            host=row.host,
            version=row.version,
            started_at=row.started_us / 1e6,
            seen_s_ago=age_s,
            alive=age_s is not None and age_s <= _ALIVE_S,
            leader=detail.get("leader", False),
            public=detail.get("public"),
            admin=detail.get("admin"),
            routes_version=detail.get("routes_version"),
            pending_bytes=detail.get("pending_bytes"),
            lag_s=detail.get("oldest_s") or 0.0,
            clock_ahead_s=(detail["clock_us"] - row.seen_us) / 1e6 if "clock_us" in detail else None,
        )

    def _addresses(self) -> dict[str, Any]:
        try:
            told = orjson.loads(self._data.addresses.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return {}
        return {"public": told.get("public"), "admin": told.get("admin")}

    def _routes_version(self) -> int | None:
        try:
            return read_routes(self._data.routes).version
        except (OSError, ValueError):
            return None
