"""What the gateway needs from the rest of a worker, as narrow as it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["GatewayCounters", "Minted", "MintsIds", "RecordSpool", "Redacts"]


class GatewayCounters(Protocol):
    """Slots that only this process adds to."""

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of `proxy.gateway.counters.GATEWAY_COUNTERS`."""
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
