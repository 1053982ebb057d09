"""Which controller may act: the lease, renewed while work is going on, and taken over from the dead at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from proxy.errors import TemporaryError
from proxy.loop import processes
from proxy.store.control import Lease
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["LEASE", "Leadership"]

LEASE: Final = "loop"
_RENEWALS: Final = 3
"""Renewals per term: two may fail before the lease is lost."""
_TTL_S: Final = {"sqlite": 30.0, "postgresql": 9.0}
"""With one controller, its successor on the same host sees that it is dead. Other hosts can only wait: they go on with
the loop within this time and a third."""
_log = logging.getLogger(__name__)


class Leadership:
    """One process's hold on the lease."""

    def __init__(self, store: Store, *, ttl_s: float | None = None, holder: str | None = None) -> None:
        self._store = store
        self._ttl_s = ttl_s or _TTL_S[store.engine]
        self._who = {"host": socket.gethostname(), **_identity()}
        self._holder = holder or f"{self._who['host']}:{self._who['pid']}:{secrets.token_hex(4)}"
        self._lease: Lease | None = None

    @property
    def renew_s(self) -> float:
        """Renew at least this often (seconds)."""
        return self._ttl_s / _RENEWALS

    @property
    def held(self) -> bool:
        """Whether the last call of `hold` had the lease."""
        return self._lease is not None

    async def hold(self) -> Lease | None:
        """Take or renew the lease; None while a living controller holds it."""
        self._lease = await self._acquire()
        if self._lease is None and await self._bury_dead_holder():
            self._lease = await self._acquire()
        return self._lease

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Keep the lease while the body works, however long that takes."""
        task = spawn(self._renew(), name="renew the loop's lease")
        try:
            yield
        finally:
            await cancel_and_wait([task])

    async def release(self) -> None:
        """Let the next controller begin at once."""
        if self._lease is not None:
            await self._store.leases.release(self._lease)
            self._lease = None

    async def _acquire(self) -> Lease | None:
        return await self._store.leases.acquire(LEASE, self._holder, ttl_s=self._ttl_s, detail=self._who)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.renew_s)
            with contextlib.suppress(TemporaryError):
                await self._acquire()

    async def _bury_dead_holder(self) -> bool:
        """Release the lease of a process of this host that is gone. The fence protects us, should it still write."""
        held = await self._store.leases.get(LEASE)
        if held is None or not _is_dead(held.detail):
            return False
        _log.info("the lease's holder %s is gone; taking over", held.holder)
        await self._store.leases.release(held)
        return True


def _identity() -> dict[str, Any]:
    """Which process this is, and where process ids mean what they mean here: containers have their own."""
    return {**processes.identify(os.getpid()).as_json(), "pids": os.readlink("/proc/self/ns/pid")}


def _is_dead(detail: Mapping[str, Any]) -> bool:
    """Whether the holder was a process that we could see, and is gone. One of another host is never called dead."""
    here = _identity()
    if any(detail.get(key) != here[key] for key in ("boot_id", "pids")):
        return False
    return not processes.alive(processes.ProcessId.from_json(detail))
