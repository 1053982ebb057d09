"""What is known of an exchange that has ended: all that its record is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from policies.records import Arm, Outcome
from proxy.gateway.backend import Backend, ResolvedRoutes
from proxy.gateway.capture import Capture
from proxy.gateway.head_cache import CachedHead, KnownResponse
from proxy.gateway.ports import Minted
from proxy.gateway.request_buffer import RequestBuffer
from proxy.gateway.trust import Network
from proxy.users.sticky import StickyKey

__all__ = ["ExchangeFacts", "FallbackCause"]

FallbackCause = Literal["breaker", "connect", "status", "timeout"]


class ExchangeFacts(NamedTuple):
    """Times are seconds: `arrived_at` since 1970 (UTC), all others monotonic. A tuple, since a frozen dataclass costs
    several times as much to make, and one is made for every request."""

    record_id: Minted
    arrived_at: float
    started: float
    """When the head of the request was here."""
    handed_over: float | None
    """When the first model got it; another one may have answered in the end. None: none did."""
    first_byte: float | None
    """When the response's head was there."""
    heard_at: float | None
    """When bytes of the response came last."""
    ended: float
    held_s: float
    """Seconds for which the client was too slow to read."""
    known: CachedHead
    network: Network
    key: StickyKey | None
    """Whose request it is, and who says so; None: whoever reads the record looks for that in the body."""
    conversation: bytes | None
    """The conversation that only the body names, where nobody will find it in the record."""
    routes: ResolvedRoutes
    backend: Backend
    """Who answered, or was asked last."""
    assigned: Arm
    is_exposure: bool
    """Whether it is evidence in the experiment."""
    request: RequestBuffer
    response: KnownResponse | None
    response_body: Capture
    status: int
    """What the client got; 0: nothing."""
    outcome: Outcome
    fallback: FallbackCause | None
    refusal: int
    """The status of the challenger, or of the control, where the champion was asked because of it, else 0."""
    resent: bool
    """Whether it was sent once more because a kept connection had been closed."""
    marks: Sequence[tuple[int, float]] | None
    """When the pieces of the response's body came that did not come with its head: bytes before it, and when."""
