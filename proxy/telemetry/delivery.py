"""Sends what it is given until it is taken, or is too old: one request at a time, and nothing beside it in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, TypeVar

from policies.exporting import pause_s
from proxy.clock import Clock
from proxy.telemetry.encoding import OtlpEncoder, rejected
from proxy.telemetry.facts import EventFacts, SpanFacts
from proxy.telemetry.metrics import TelemetryMetrics
from proxy.telemetry.sending import Meaning, OtlpAnswer, OtlpSender, Signal

__all__ = ["Delivery"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T", SpanFacts, EventFacts)
_TOPICS: Final = ("refused", "rejected", "too_large")


class Delivery:
    """To one receiver."""

    def __init__(
        self,
        sender: OtlpSender,
        encoder: OtlpEncoder,
        metrics: TelemetryMetrics,
        clock: Clock,
        *,
        signals: Sequence[str],
        max_age_s: float,
    ) -> None:
        """`signals`: what the receiver gets."""
        self._sender = sender
        self._encoder = encoder
        self._metrics = metrics
        self._clock = clock
        self._signals = signals
        self._max_age_s = max_age_s
        self._failures = 0
        self._told: set[tuple[str, str]] = set()
        """What was said since it last worked."""

    async def spans(self, spans: Sequence[SpanFacts], at: float) -> None:
        """Send spans that have waited since `at`, Unix seconds."""
        await self._deliver("traces", spans, at)

    async def events(self, events: Sequence[EventFacts], at: float) -> None:
        """The same for events."""
        await self._deliver("logs", events, at)

    async def _deliver(self, signal: Signal, facts: Sequence[SpanFacts] | Sequence[EventFacts], at: float) -> None:
        if not facts or signal not in self._signals:
            return
        content = await asyncio.to_thread(self._encode, facts)
        while (answer := await self._sender.send(signal, content)).meaning is Meaning.LATER:
            self._put_off(answer)
            if self._clock.now() - at > self._max_age_s:
                self._metrics.dropped(signal, "too_old", len(facts))
                return
            await asyncio.sleep(pause_s(self._failures, answer.retry_after_s))
        self._answered()
        match answer.meaning:
            case Meaning.TAKEN:
                self._taken(signal, len(facts), answer)
            case Meaning.TOO_LARGE if len(facts) > 1:
                half = len(facts) // 2
                await self._deliver(signal, facts[:half], at)
                await self._deliver(signal, facts[half:], at)
            case Meaning.TOO_LARGE:
                self._leave_out(signal, "too_large", 1, answer.why)
            case _:
                self._leave_out(signal, "refused", len(facts), answer.why)

    def _encode(self, facts: Sequence[SpanFacts] | Sequence[EventFacts]) -> bytes:
        """Work on the CPU."""
        if isinstance(facts[0], SpanFacts):
            return self._encoder.spans([one for one in facts if isinstance(one, SpanFacts)])
        now_ns = int(self._clock.now() * 1e9)
        return self._encoder.events([one for one in facts if isinstance(one, EventFacts)], now_ns)

    def _taken(self, signal: Signal, count: int, answer: OtlpAnswer) -> None:
        refused, why = rejected(signal, answer.body)
        refused = min(refused, count)
        self._metrics.sent(signal, count - refused)
        if refused:
            self._leave_out(signal, "rejected", refused, why)
        else:
            self._told -= {(signal, topic) for topic in _TOPICS}

    def _leave_out(self, signal: Signal, reason: str, count: int, why: str) -> None:
        self._metrics.dropped(signal, reason, count)
        if (signal, reason) not in self._told:
            self._told.add((signal, reason))
            kept = tuple(other for other in self._signals if other != signal)
            _log.warning(
                "telemetry: the receiver does not take %s (%s); they are left out and counted. If it has no place for "
                "them, set telemetry.otlp_signals = %s", signal, why or reason, list(kept),
            )  # fmt: skip

    def _put_off(self, answer: OtlpAnswer) -> None:
        self._metrics.failed()
        self._failures += 1
        if self._failures == 1:
            _log.warning("telemetry waits in the store, nothing else waits for it: %s", answer.why)

    def _answered(self) -> None:
        if self._failures:
            _log.info("telemetry: the receiver answers again after %d failed requests", self._failures)
        self._failures = 0
