"""The controller's last work: to store what is in the spool when it is told to end.

Where the supervisor was killed, the workers are only now draining, and what they write until their end is still stored:
for as long as they may take, unless another supervisor has come, whose controller waits for this one and does the rest.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from proxy.app.parent_pipe import ShutdownSignal
from proxy.app.paths import DataDir
from proxy.app.store_keeper import FAILURES
from proxy.ingest import Ingestor
from proxy.spool import is_alive, writers_of

__all__ = ["FLUSH_S", "LastFlush"]

FLUSH_S: Final = 10.0
"""For the rest of the spool, after which the next start goes on with it."""
_ORPHANS_S: Final = 3.5
"""Behind the workers' drain, where there is no supervisor."""
_STEP_S: Final = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LastFlush:
    """Of one controller, whose `supervisor` has this process id."""

    data: DataDir
    supervisor: int
    ingestor: Ingestor
    shutdown: ShutdownSignal

    async def run(self, drain_s: float) -> None:
        """Store what workers wrote to the end; `drain_s` (seconds) is what they may take. Never raises for a store
        that is away or for want of time: the spool keeps the rest."""
        limit_s = drain_s + _ORPHANS_S if self.shutdown.orphaned else FLUSH_S
        try:
            async with asyncio.timeout(limit_s):
                await self._store_all()
        except TimeoutError:
            _log.warning("not all was stored within %g s; the rest stays in the spool for the next start", limit_s)

    async def _store_all(self) -> None:
        try:
            while True:
                if self.shutdown.orphaned and self._has_successor():
                    return  # it stores the rest, also what orphans are still writing
                more_may_come = self.shutdown.orphaned and self._workers_live()  # asked before the spool is read
                if not await self.ingestor.run_once() and not more_may_come:
                    return
                await asyncio.sleep(_STEP_S)
        except FAILURES as exc:
            _log.warning("not everything could be stored, the rest stays in the spool: %s", exc)

    def _has_successor(self) -> bool:
        """Whether another supervisor has taken this directory over, so that its controller waits for us to end."""
        try:
            return int(self.data.pid("supervisor").read_text()) != self.supervisor
        except (OSError, ValueError):
            return False

    def _workers_live(self) -> bool:
        return any(is_alive(self.data.spool / writer) for writer in writers_of(self.data.spool))
