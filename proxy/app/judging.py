"""The judge as a part of the controller: it exists where the settings name one, and asks while the store is there."""

from __future__ import annotations

import ssl

from prometheus_client.registry import CollectorRegistry

from proxy.clock import Clock
from proxy.config.judge import JudgeConfig
from proxy.judge.build import make_judge
from proxy.judge.metrics import JudgeMetrics
from proxy.judge.service import JudgeService
from proxy.status import JudgeStatus
from proxy.store.store import Store

__all__ = ["Judging"]


class Judging:
    """Runs the judge on a store, and says how it does."""

    def __init__(
        self, config: JudgeConfig, registry: CollectorRegistry, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._config = config
        self._clock = clock
        self._metrics = JudgeMetrics(registry)
        self._service: JudgeService | None = None

    @property
    def status(self) -> JudgeStatus | None:
        """None without a judge, and until the store was read."""
        return None if self._service is None else self._service.status

    async def run(self, store: Store, holder: str) -> None:
        """Judge, for ever; returns at once where there is no judge. Raises TemporaryError while the store is away."""
        judge = make_judge(self._config, self._tls)
        if judge is None:
            return
        self._service = JudgeService(self._config, judge, store, self._clock, self._metrics, holder=holder)
        await self._service.run()
