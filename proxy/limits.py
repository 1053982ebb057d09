"""How fast one address may do something: a leaky bucket per address, in one float each (the GCRA of ATM networks).

The float is the time at which the bucket will be empty again. Memory is bounded: at `_MAX_ADDRESSES` the empty
buckets are forgotten, then the ones that were touched longest ago.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from typing import Final, Literal

from proxy.clock import Clock

__all__ = ["Guesses", "RateLimit"]

_MAX_ADDRESSES: Final = 10_000
_GUESSES_PER_S: Final = 1.0
_GUESSES_AT_ONCE: Final = 10
_SAID_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


class RateLimit:
    """At most `rate` units a second in the long run, and `burst` units at once; `rate` 0 limits nothing."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._empty_at: dict[str, float] = {}

    def take(self, address: str, units: int, now: float) -> float:
        """Take `units` at monotonic second `now`; 0.0 where that was allowed, else the seconds to wait first.

        Refused units are not counted. More than `burst` units are allowed from an empty bucket, for they could
        never fit.
        """
        if self._rate <= 0:
            return 0.0
        key = _subscriber(address)
        empty_at = max(now, self._empty_at.pop(key, now))
        room_at = empty_at - max(0.0, self._burst - units) / self._rate
        if room_at > now:
            self._empty_at[key] = empty_at
            return room_at - now
        self._empty_at[key] = empty_at + units / self._rate
        if len(self._empty_at) > _MAX_ADDRESSES:
            self._forget(now)
        return 0.0

    def wait_s(self, address: str, now: float) -> float:
        """How long `take` of one unit would have to wait; takes nothing."""
        if self._rate <= 0:
            return 0.0
        empty_at = self._empty_at.get(_subscriber(address), now)
        return max(0.0, empty_at - max(0.0, self._burst - 1) / self._rate - now)

    def _forget(self, now: float) -> None:
        self._empty_at = {key: at for key, at in self._empty_at.items() if at > now}
        while len(self._empty_at) > _MAX_ADDRESSES // 2:
            del self._empty_at[next(iter(self._empty_at))]


class Guesses:
    """Wrong tokens: ten at once and one a second from each address, the others are told to wait; logged and counted.

    A right token is never refused for what its address did before, or whoever shares an address with an attacker (a
    balancer, a NAT) would be locked out. What makes a token safe is its length (`weak_tokens`), not this: it keeps the
    log readable and makes an attack visible.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        where: str = "admin port",
        count: Callable[[Literal["wrong", "too_many"]], None] = lambda reason: None,
    ) -> None:
        """`where` stands in the log; `count` is told about every one."""
        self._clock = clock
        self._where = where
        self._count = count
        self._limit = RateLimit(_GUESSES_PER_S, _GUESSES_AT_ONCE)
        self._said_at = -_SAID_EVERY_S

    def wrong(self, address: str) -> float:
        """A wrong token came from `address`; 0.0 where it is told so, else the seconds to wait before another one."""
        now = self._clock.monotonic()
        wait_s = self._limit.take(address, 1, now)
        self._count("too_many" if wait_s else "wrong")
        if not wait_s:
            _log.warning("%s: a wrong token from %s", self._where, address)
        elif now - self._said_at >= _SAID_EVERY_S:
            self._said_at = now
            _log.warning("%s: too many wrong tokens from %s; it must now wait between attempts", self._where, address)
        return wait_s

    def wait_s(self, address: str) -> float:
        """How long a guess from `address` would have to wait now."""
        return self._limit.wait_s(address, self._clock.monotonic())


def _subscriber(address: str) -> str:
    """An IPv6 subscriber owns at least a /64, so that is what counts; anything else is taken as it is."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address
