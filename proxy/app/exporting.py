"""Telemetry out as a part of the controller: it exists where `telemetry.otlp_endpoint` is set, and only then are
OpenTelemetry's packages imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from prometheus_client.registry import CollectorRegistry

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.config.programs import otlp_target
from proxy.errors import ConfigError
from proxy.spool import SpoolReader
from proxy.status import ReplicaStatus
from proxy.store.store import Store
from proxy.telemetry.metrics import TelemetryMetrics

__all__ = ["TelemetryOut"]

_log = logging.getLogger(__name__)


class TelemetryOut:
    """Sends what a store has to the receiver of the settings."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        clock: Clock,
        spool: SpoolReader,
        replicas: Callable[[], Sequence[ReplicaStatus]],
    ) -> None:
        """`spool`: of this host, of which nobody else reads at the same time; `replicas`: who else is there."""
        self._config = config
        self._clock = clock
        self._spool = spool
        self._replicas = replicas
        self._metrics = TelemetryMetrics(registry, enabled=config.telemetry.otlp_endpoint is not None)

    async def run(self, store: Store, holder: str) -> None:
        """Send, for ever; returns at once where nothing is to be sent, or it cannot be: `check-config` and `serve` have
        said so, and nothing else depends on it. Raises TemporaryError while the store is away."""
        try:
            target = otlp_target(self._config.telemetry)
        except ConfigError as exc:
            _log.error("telemetry is not sent: %s", exc)
            return
        if target is None:
            return
        from proxy.telemetry.delivery import Delivery
        from proxy.telemetry.encoding import OtlpEncoder
        from proxy.telemetry.sending import OtlpSender
        from proxy.telemetry.service import TelemetryService
        from proxy.telemetry.spans import ModelServer

        telemetry, champion = self._config.telemetry, self._config.champion
        async with OtlpSender(target.endpoint, target.headers) as sender:
            delivery = Delivery(
                sender,
                OtlpEncoder({"service.instance.id": holder}),
                self._metrics,
                self._clock,
                signals=telemetry.otlp_signals,
                max_age_s=telemetry.otlp_max_age_seconds,
            )
            await TelemetryService(
                telemetry,
                store,
                self._clock,
                self._metrics,
                delivery,
                champion=ModelServer(champion.name, champion.url or None),
                stored_until=lambda: self._stored_until(store),
                holder=holder,
            ).run()

    async def _stored_until(self, store: Store) -> float:
        """Up to when all that has ended is in the store: the oldest that still lies in a spool, on any living host."""
        now = self._clock.now()
        positions = await store.spools.positions()
        usage = await asyncio.to_thread(self._spool.usage, positions)
        waiting = [now - replica.lag_s for replica in self._replicas() if replica.alive and replica.pending_bytes]
        return min([now, *waiting, *([] if usage.oldest_at is None else [usage.oldest_at])])
