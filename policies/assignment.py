"""Which user sees which model: a hash, no state.

u = BLAKE2b-64(key; keyed with the experiment's salt) / 2⁶⁴ ∈ [0, 1); challenger iff u < share. The salt
belongs to the experiment, so raising the share only moves users champion → challenger, never back, and a
new experiment reshuffles everybody. After a promotion those with the highest u stay on the old champion for a while:
they never had the challenger. Every replica agrees without talking.
"""

from __future__ import annotations

from hashlib import blake2b

from policies.records import Arm

__all__ = ["assign", "is_held_back", "unit_interval"]

_SCALE = 2.0**-53


def unit_interval(salt: bytes, key: bytes) -> float:
    """Map `key` to [0, 1), uniformly and independently for each `salt` (at most 64 bytes).

    The top 53 bits of the digest are used, so that the quotient is exact and 1.0 is never reached.
    """
    digest = blake2b(key, digest_size=8, key=salt).digest()
    return (int.from_bytes(digest, "big") >> 11) * _SCALE


def assign(salt: bytes, key: bytes, share: float) -> Arm:
    """The arm of the user `key` in the experiment `salt` when the challenger has `share` of the users."""
    return Arm.CHALLENGER if unit_interval(salt, key) < share else Arm.CHAMPION


def is_held_back(salt: bytes, key: bytes, share: float) -> bool:
    """Whether the user `key` is among the `share` of the users that stay on the old champion after a promotion."""
    return unit_interval(salt, key) >= 1.0 - share
