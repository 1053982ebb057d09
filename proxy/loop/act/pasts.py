"""Reads each user's own past for a test that is adjusted by it (`ab_test_config.cuped`), once, when it begins; and once
a day what that saves, or would.

A long history takes minutes to read, and no tick waits for that: what is not done within a second goes on beside the
loop, and a restart begins it anew. Until then the estimate is the plain one. What cannot be read is tried again with
the next tick.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from policies.composite import composite_weights
from policies.experiment import ABTestConfig
from policies.lifecycle import Phase
from policies.rows import Experiment
from policies.transition import Position
from proxy.errors import PermanentError, TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.store.ingest.facts import Terms
from proxy.store.store import Store
from proxy.store.tables.control import Lease
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["PastReader"]

_WITHIN_S: Final = 1.0
"""A tick waits this long."""
_DAY_US: Final = 86_400_000_000
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PastReader:
    """Knows which experiment has its users' past, and owns the task that reads it."""

    store: Store
    ab_test: ABTestConfig
    """How far back it reads; of a test that has begun it stays as it was."""
    troubles: ThrottledLog
    _complete: int | None = None
    _task: asyncio.Task[None] | None = None
    _showing: asyncio.Task[None] | None = None

    async def keep(self, lease: Lease, position: Position) -> None:
        """See to it that the running test has its users' past; returns within a second. Raises TemporaryError."""
        experiment = position.experiment
        if self._task is not None and self._task.done():
            self._task = None
        if experiment is None or position.state.phase_name is not Phase.TESTING or self._task is not None:
            return
        if self._complete == experiment.id or not Terms.of(experiment.frozen).cuped:
            return
        if await self.store.pasts.complete(experiment.id):
            self._complete = experiment.id
            return
        self._task = spawn(self._read(lease, experiment), name=f"read the users' past for experiment {experiment.id}")
        await asyncio.wait((self._task,), timeout=_WITHIN_S)

    def show(self) -> None:
        """See to it that what the past saves is known, for who looks at a test: for a loop that runs on."""
        if (self._showing is None or self._showing.done()) and self.store.past_savings.due:
            self._showing = spawn(self._show(), name="work out what the users' past saves")

    async def finish(self) -> None:
        """Wait until what is being read is there, or cannot be."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def stop(self) -> None:
        """Read no more."""
        await cancel_and_wait(task for task in (self._task, self._showing) if task is not None)
        self._task = self._showing = None

    async def _read(self, lease: Lease, experiment: Experiment) -> None:
        since_us = experiment.started_us - round(self.ab_test.history_days * _DAY_US)
        try:
            units = await self.store.pasts.fill(
                lease,
                experiment.id,
                experiment.stages[0].epoch,
                since_us=since_us,
                until_us=experiment.started_us,
                icc=Terms.of(experiment.frozen).icc,
            )
        except (TemporaryError, PermanentError) as exc:
            self.troubles.warning("past", "the users' past could not be read, and is tried again: %s", exc)
            return
        self._complete = experiment.id
        _log.info("experiment %d: %d users have a past", experiment.id, units)

    async def _show(self) -> None:
        test = self.ab_test
        try:
            await self.store.past_savings.read(composite_weights(test), test.history_days, test.icc)
        except (TemporaryError, PermanentError) as exc:
            self.troubles.warning("saving", "what the users' past saves could not be worked out: %s", exc)
