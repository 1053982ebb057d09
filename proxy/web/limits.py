"""How fast one address may vote: a leaky bucket per address, in one float each (the GCRA of ATM networks).

The float is the time at which the bucket will be empty again. Memory is bounded: at `_MAX_ADDRESSES` the empty
buckets are forgotten, then the ones that were touched longest ago.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["RateLimit"]

_MAX_ADDRESSES: Final = 10_000


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

    def _forget(self, now: float) -> None:
        self._empty_at = {key: at for key, at in self._empty_at.items() if at > now}
        while len(self._empty_at) > _MAX_ADDRESSES // 2:
            del self._empty_at[next(iter(self._empty_at))]


def _subscriber(address: str) -> str:
    """An IPv6 subscriber owns at least a /64, so that is what counts; anything else is taken as it is."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address
