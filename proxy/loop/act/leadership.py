"""Which controller may act: the lease, renewed while work is going on, and taken over from the dead at once."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from proxy.clock import SystemClock
from proxy.errors import TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.loop.adapters import processes
from proxy.store.store import Store
from proxy.store.tables.control import Lease
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["LEASE", "Leadership"]

LEASE: Final = "loop"
_RENEWALS: Final = 3
"""Renewals per term: two may fail before the lease is lost."""
_TTL_S: Final = {"sqlite": 30.0, "postgresql": 9.0}
"""With one controller, its successor on the same host sees that it is dead. Other hosts can only wait: they go on with
the loop within this time and a third."""
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Leadership:
    """One process's claim to the lease."""

    def __init__(self, store: Store, *, ttl_s: float | None = None, holder: str | None = None) -> None:
        self._store = store
        self._ttl_s = ttl_s or _TTL_S[store.engine]
        self._who = {"host": socket.gethostname(), **_identity()}
        self._holder = holder or f"{self._who['host']}:{self._who['pid']}:{secrets.token_hex(4)}"
        self._lease: Lease | None = None
        self._troubles = ThrottledLog(_log, SystemClock())
        self._valid_until = 0.0
        """On the event loop's clock, which no operator sets."""

    @property
    def renew_s(self) -> float:
        """Renew at least this often (seconds)."""
        return self._ttl_s / _RENEWALS

    @property
    def leads(self) -> bool:
        """Whether this process took or renewed the lease, and its time is not up yet."""
        return self._lease is not None and not self.lapsed

    @property
    def lapsed(self) -> bool:
        """Whether the lease could not be renewed in time: somebody else may have it by now."""
        return self._lease is not None and asyncio.get_running_loop().time() > self._valid_until

    async def acquire(self) -> Lease | None:
        """Take or renew the lease; None while a living controller has it. Raises TemporaryError."""
        if self._lease is not None or await self._is_free():
            await self._try_to_acquire()
        if self._lease is None and await self._bury_dead_holder():
            await self._try_to_acquire()
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

    async def _is_free(self) -> bool:
        return await self._within_term(self._store.leases.is_free(LEASE, self._holder, ttl_s=self._ttl_s))

    async def _try_to_acquire(self) -> None:
        until = asyncio.get_running_loop().time() + self._ttl_s  # asked before the database sets the end
        acquiring = self._store.leases.acquire(LEASE, self._holder, ttl_s=self._ttl_s, detail=self._who)
        self._lease = await self._within_term(acquiring)
        self._valid_until = until

    async def _within_term(self, answer: Awaitable[_T]) -> _T:
        """A database that takes longer than a term is as good as gone. Raises TemporaryError."""
        try:
            async with asyncio.timeout(self._ttl_s):
                return await answer
        except TimeoutError as exc:
            raise TemporaryError(
                f"store: no answer about the lease within {self._ttl_s:g} s", retry_after_s=1.0
            ) from exc

    async def _renew(self) -> None:
        """Until the term is over, whatever goes wrong meanwhile: then somebody else may have the lease by now, and only
        the fence of each write can tell."""
        while self._lease is not None:
            left_s = self._valid_until - asyncio.get_running_loop().time()
            if left_s <= 0:
                _log.error("the loop's lease could not be renewed for its whole term; another controller may take it")
                return
            await asyncio.sleep(min(self.renew_s, left_s))
            try:
                await self._try_to_acquire()
            except Exception as exc:  # noqa: BLE001 - the store's driver is an edge, and this goes on for its time
                self._troubles.warning("renew", "the loop's lease could not be renewed: %s", str(exc) or repr(exc))

    async def _bury_dead_holder(self) -> bool:
        """Release the lease of a process of this host that is gone. The fence protects us, should it still write."""
        lease = await self._store.leases.get(LEASE)
        if lease is None or not _is_dead(lease.detail):
            return False
        _log.info("the lease's holder %s is gone; taking over", lease.holder)
        await self._store.leases.release(lease)
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
