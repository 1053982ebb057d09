"""The rate limit: a burst, then the long-run rate, per subscriber, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from proxy import limits
from proxy.limits import RateLimit


def test_a_burst_passes_then_the_wait_is_told() -> None:
    limit = RateLimit(rate=2, burst=4)
    assert [limit.take("a", 1, now=0.0) for _ in range(4)] == [0.0] * 4
    assert limit.take("a", 1, now=0.0) == 0.5
    assert limit.take("a", 1, now=0.5) == 0.0
    assert limit.take("a", 1, now=0.5) > 0


def test_addresses_do_not_share_a_bucket() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert limit.take("10.0.0.1", 1, now=0.0) == 0.0
    assert limit.take("10.0.0.2", 1, now=0.0) == 0.0


def test_an_ipv6_subscriber_is_one_client_whatever_the_last_half() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert limit.take("2001:db8::1", 1, now=0.0) == 0.0
    assert limit.take("2001:db8::2", 1, now=0.0) > 0
    assert limit.take("2001:db8:0:1::1", 1, now=0.0) == 0.0


def test_more_than_a_burst_passes_an_empty_bucket_and_is_paid_for() -> None:
    limit = RateLimit(rate=10, burst=10)
    assert limit.take("a", 30, now=0.0) == 0.0
    assert limit.take("a", 10, now=0.0) == 3.0


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(rate=0, burst=1)
    assert all(limit.take("a", 100, now=0.0) == 0.0 for _ in range(100))


def test_memory_is_bounded() -> None:
    limit = RateLimit(rate=1, burst=5)
    for number in range(3 * limits._MAX_ADDRESSES):
        limit.take(f"client-{number}", 1, now=0.0)
    assert len(limit._empty_at) <= limits._MAX_ADDRESSES


@given(steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=60))
def test_never_more_than_the_burst_plus_the_rate(steps: list[tuple[float, int]]) -> None:
    limit = RateLimit(rate=3, burst=10)
    now = taken = 0.0
    for wait, units in steps:
        now += wait
        if limit.take("a", units, now) == 0.0:
            taken += units
        assert taken <= 10 + 3 * now + 1e-6
