"""The loop as a part of the controller, and what the admin port asks of it.

The loop exists only while its store does. Until then, and while it is started again, whoever asks is told so and why;
the admin port stays up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from prometheus_client.registry import CollectorRegistry

from proxy.app.troubles import Troubles
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.credentials import Credential
from proxy.errors import PermanentError, TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.loop.look import explain
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.service import open_loop
from proxy.loop.tick import Loop
from proxy.status import STARTING, PhaseStatus, ReplicaStatus, Status
from proxy.store.engine.channels import COMMANDS
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn
from proxy.version import __version__
from proxy.web.responses import ApiError

__all__ = ["LoopService"]

_RETRY_S: Final = 2.0

_log = logging.getLogger(__name__)


class LoopService:
    """Runs the loop on a store; `troubles` say what keeps it from running."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        clock: Clock,
        troubles: Troubles,
        replicas: Callable[[], Sequence[ReplicaStatus]] = tuple,
    ) -> None:
        self._config = config
        self._replicas = replicas
        self._clock = clock
        self._troubles = troubles
        self._metrics = LoopMetrics(registry, clock)
        self._running: tuple[Loop, Store] | None = None

    async def run(self, store: Store, stop: asyncio.Event) -> None:
        """Tick until told to stop. Raises ConfigError where trainer or deployer cannot work, TemporaryError."""
        opened = open_loop(self._config, store, self._clock, metrics=self._metrics, troubles=self._troubles)
        async with opened as loop:
            self._running = loop, store
            listening = spawn(_follow_others(store, loop, self._clock), name="listen for other replicas")
            try:
                await loop.run(stop)
            finally:
                self._running = None
                await cancel_and_wait([listening])

    @property
    def leading(self) -> bool:
        """Whether this controller decides for all replicas."""
        return self._running is not None and self._running[0].leading

    async def submit(
        self, verb: str, args: Mapping[str, Any], who: str, why: str, key: Credential | None = None
    ) -> int:
        """Write a command down for the loop, with the API key that comes with it, and wake it; returns its id."""
        return await self._loop().submit(verb, args, who, why, key)

    async def status(self) -> Status:
        """What the loop sees and decides (`proxy.loop.look.status`), and who is asked."""
        try:
            status = await self._loop().status()
        except TemporaryError as exc:  # nothing was seen yet, and the store is away
            phase = PhaseStatus(name=STARTING, reason=self._troubles.of("store") or str(exc))
            status = Status(phase=phase, leader=self.leading)
        return replace(
            status,
            version=__version__,
            replicas=tuple(self._replicas()),
            trouble=self._troubles.first or None,
            troubles=self._troubles.status(),
        )

    async def explain(self, at: float | None) -> Mapping[str, Any]:
        """The decision in force at that time (Unix seconds; None: the latest)."""
        try:
            return await explain.explain(self._store(), at)
        except LookupError as exc:
            raise ApiError(404, str(exc)) from exc

    async def history(self, limit: int, before: float | None) -> Sequence[Mapping[str, Any]]:
        """Decisions, newest first."""
        return await explain.history(self._store(), limit, before)

    def _loop(self) -> Loop:
        return self._now()[0]

    def _store(self) -> Store:
        return self._now()[1]

    def _now(self) -> tuple[Loop, Store]:
        if self._running is None:
            reason = self._troubles.of("store") or "it is starting"
            raise TemporaryError(f"the loop is not running: {reason}", retry_after_s=_RETRY_S)
        return self._running


async def _follow_others(store: Store, loop: Loop, clock: Clock) -> None:
    """Wake the loop when another replica has changed something. What is missed, its own polling finds."""

    def heard(channel: str) -> None:
        if channel == COMMANDS or not loop.leading:  # the leader's own changes reach itself, too
            loop.poke()

    throttled = ThrottledLog(_log, clock)
    while True:
        try:
            await store.listen(heard)
        except PermanentError as exc:
            _log.info("%s", exc)
            return
        except TemporaryError as exc:
            throttled.warning("listen", "database notifications are interrupted, the loop polls instead: %s", exc)
            await asyncio.sleep(exc.retry_after_s)
            with suppress(TemporaryError, PermanentError):
                await store.ping()
                loop.poke()  # it may have failed so often that it waits for long
        else:
            return
