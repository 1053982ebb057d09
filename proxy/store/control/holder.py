"""Work that one controller of an install does, and no two at once: rounds under a lease of its own.

    take the lease, or wait for it → round, round, … while it is renewed beside them → give it back

What the judge and the sender of telemetry have in common. The loop does otherwise (`proxy.loop.act.leadership`): it
takes over from a dead process at once, and every tick is fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

from proxy.errors import TemporaryError
from proxy.store.control.leases import Leases
from proxy.store.tables.control import Lease
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["LeaseHolder"]

_TTL_S: Final = 30.0
_RENEW_S: Final = 8.0
"""Three renewals in a term: two may fail before somebody else takes over."""
_POLL_S: Final = 1.0


class LeaseHolder:
    """One process's claim to a lease, and the work that it allows."""

    def __init__(
        self,
        leases: Leases,
        name: str,
        holder: str,
        *,
        take_over: Callable[[], Awaitable[object]],
        detail: Callable[[], Mapping[str, Any]] = dict,
        ttl_s: float = _TTL_S,
        renew_s: float = _RENEW_S,
    ) -> None:
        """`holder` names this process. `take_over` is called while it has no lease: it asks for one with `renew`, and
        puts in order what whoever had it before has left. `detail` is kept in the lease's row at each renewal."""
        self._leases = leases
        self._name = name
        self._holder = holder
        self._take_over = take_over
        self._detail = detail
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._lease: Lease | None = None

    @property
    def lease(self) -> Lease | None:
        """None while somebody else has it."""
        return self._lease

    async def before(self) -> Lease | None:
        """Whoever has it, or had it last, and what was kept in its row."""
        return await self._leases.get(self._name)

    async def renew(self, detail: Mapping[str, Any] | None = None) -> Lease | None:
        """Take the lease, or have it for another term; `detail` in place of the usual one."""
        kept = self._detail() if detail is None else detail
        self._lease = await self._leases.acquire(self._name, self._holder, ttl_s=self._ttl_s, detail=kept)
        return self._lease

    async def run(self, work: Callable[[], Awaitable[bool]]) -> NoReturn:
        """`work`, for ever, with a pause of a second where it says that nothing waits. It is called without the lease,
        too, and looks at it itself. Raises TemporaryError while the store is away."""
        try:
            await self._take_over()
            holding = spawn(self._hold(), name=f"hold the lease of {self._name}")
            try:
                while True:
                    busy = await work()
                    if holding.done():
                        holding.result()
                    if not busy:
                        await asyncio.sleep(_POLL_S)
            finally:
                await cancel_and_wait([holding])
        finally:
            await self._give_back()

    async def _hold(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._renew_s)
            await (self._take_over() if self._lease is None else self.renew())

    async def _give_back(self) -> None:
        """With how far the work came; the next one begins at once."""
        if self._lease is None:
            return
        with contextlib.suppress(TemporaryError):
            if (lease := await self.renew()) is not None:
                await self._leases.release(lease)
        self._lease = None
