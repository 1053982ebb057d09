"""Assignment: stable, uniform, monotone in the share, and reshuffled by the salt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.assignment import assign, unit_interval
from policies.records import Arm

keys = st.binary(max_size=64)
salts = st.binary(max_size=64)
shares = st.floats(0, 1)


def test_a_known_user_lands_where_every_replica_puts_them() -> None:
    """BLAKE2b-64 of b"alice" under the key b"experiment-1": the top 53 bits of the digest, over 2⁵³."""
    assert unit_interval(b"experiment-1", b"alice") == 0.0207344323425398


@given(salts, keys)
def test_the_point_is_in_the_unit_interval_and_stable(salt: bytes, key: bytes) -> None:
    assert 0 <= unit_interval(salt, key) < 1
    assert unit_interval(salt, key) == unit_interval(salt, key)


@given(salts, keys, shares, shares)
def test_a_larger_share_never_takes_a_user_back(salt: bytes, key: bytes, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if assign(salt, key, small) is Arm.CHALLENGER:
        assert assign(salt, key, large) is Arm.CHALLENGER


@given(salts, keys)
def test_nobody_at_zero_and_everybody_at_one(salt: bytes, key: bytes) -> None:
    assert assign(salt, key, 0.0) is Arm.CHAMPION
    assert assign(salt, key, 1.0) is Arm.CHALLENGER


def test_the_split_is_the_share_and_a_new_salt_reshuffles() -> None:
    users = [b"user-%d" % i for i in range(20_000)]
    first = [assign(b"one", user, 0.1) is Arm.CHALLENGER for user in users]
    second = [assign(b"two", user, 0.1) is Arm.CHALLENGER for user in users]
    assert abs(sum(first) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    both = sum(a and b for a, b in zip(first, second, strict=True))
    assert abs(both - 200) < 4 * (20_000 * 0.01 * 0.99) ** 0.5
