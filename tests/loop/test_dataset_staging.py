"""What a build remembers: bands in a table that forgets, digests that do not, counts per user that spill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.similarity import Fingerprint
from proxy.loop.dataset import index, staging
from proxy.loop.dataset.staging import CapCounter, Split, Staging


@pytest.fixture
def house() -> Iterator[Staging]:
    with Staging(None) as opened:
        yield opened


def item(number: int, *bands: int) -> Fingerprint:
    return Fingerprint(digest=number, bands=bands, signature=b"%d" % number)


def test_whoever_shares_a_band_is_a_candidate(house: Staging) -> None:
    for number in range(1, 2 * index._WAITING):  # some wait, the others are in the file
        house.index.add(item(number, number << 33 | number, 5 << 40 | number << 8))
    for number in (1, 7, index._WAITING - 1, index._WAITING, 2 * index._WAITING - 1):
        assert b"%d" % number in set(house.index.candidates((number << 33 | number, 99 << 50)))
        assert house.index.has(number)
    assert not house.index.has(2 * index._WAITING)
    assert list(house.index.candidates((77 << 45 | 123_456,))) == []


def test_a_full_bucket_forgets_its_oldest(house: Staging) -> None:
    for number in range(1, 12):
        house.index.add(item(number, 42))
    assert set(house.index.candidates((42,))) == {b"%d" % number for number in range(4, 12)}
    assert list(house.index.candidates((42 + (1 << 32),))) == [], "another band of the same bucket"
    assert all(house.index.has(number) for number in range(1, 12))


@given(users=st.lists(st.integers(-4, 4), max_size=60))
def test_counts_per_user_are_right_however_many_there_are(users: list[int]) -> None:
    with Staging(None) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "_USERS_AT_HAND", 3)
        tallies = {split: opened.tally(split, CapCounter.SAMPLES) for split in Split}
        counted: Counter[int] = Counter()
        for user in users:
            counted[user] += 1
            assert tallies[Split.TRAIN].add(user) == counted[user]
            assert tallies[Split.HOLDOUT].add(-9) == counted.total()
