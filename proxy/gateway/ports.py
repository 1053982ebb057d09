"""What the gateway needs from the rest of a worker, as narrow as it gets, and the counters that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from proxy.gateway.faults import ANSWER_COUNTERS

__all__ = ["GATEWAY_COUNTERS", "GatewayCounters", "Minted", "MintsIds", "RecordSpool", "Redacts"]

GATEWAY_COUNTERS: Final = (
    # gauges
    "in_flight",
    "client_connections",
    "upstream_connections",
    "tunnels",
    "breaker_open",
    # counters
    "requests_total",
    'protocol_errors_total{status="400"}',
    'protocol_errors_total{status="405"}',
    'protocol_errors_total{status="408"}',
    'protocol_errors_total{status="413"}',
    'protocol_errors_total{status="414"}',
    'protocol_errors_total{status="429"}',
    'protocol_errors_total{status="431"}',
    'protocol_errors_total{status="505"}',
    'protocol_errors_total{status="508"}',
    *ANSWER_COUNTERS,
    'fallbacks_total{cause="both_refused"}',
    'fallbacks_total{cause="breaker"}',
    'fallbacks_total{cause="connect"}',
    'fallbacks_total{cause="status"}',
    'fallbacks_total{cause="timeout"}',
    'fallbacks_impossible_total{cause="connect"}',
    'fallbacks_impossible_total{cause="status"}',
    'fallbacks_impossible_total{cause="timeout"}',
    "stale_retries_total",
    "upstream_connect_errors_total",
    'not_recorded_total{reason="defect"}',
    'not_recorded_total{reason="incomplete_request"}',
    'not_recorded_total{reason="refused"}',
    'not_recorded_total{reason="skip_path"}',
)
"""Slots of the worker's shared counters. Requests under `/-/` are counted nowhere: they are not traffic."""


class GatewayCounters(Protocol):
    """Slots that only this process adds to."""

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of GATEWAY_COUNTERS."""
        ...


class RecordSpool(Protocol):
    """Where frames go. Neither method waits for a disk."""

    @property
    def full(self) -> bool:
        """Whether a frame would be dropped."""
        ...

    def append(self, frame: bytes) -> bool:
        """Take one frame; False where it was dropped (and counted there)."""
        ...


class Minted(Protocol):
    """A new record's id."""

    @property
    def hex(self) -> str:
        """The UUID, 32 characters."""
        ...

    @property
    def text(self) -> str:
        """What the client sees: signed."""
        ...


class MintsIds(Protocol):
    """Makes record ids."""

    def mint(self, now_s: float) -> Minted:
        """A new id for a request that arrived at `now_s` (Unix seconds)."""
        ...


class Redacts(Protocol):
    """Cleans captured copies before they are written down: proxy.cleaning.Cleaner."""

    def exchange(
        self,
        meta: dict[str, Any],
        request: bytes,
        response: bytes,
        keep: Callable[[dict[str, Any], bytes, bytes], None],
    ) -> None:
        """Clean an exchange without waiting; `keep` gets the clean facts and bodies, now or later."""
        ...
