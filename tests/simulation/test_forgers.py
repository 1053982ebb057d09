"""Votes that are forged, by somebody who knows which model answered: fixed seeds, six days or ten each.

The full tables are in docs/statistics.md (`python -m tests.simulation`).
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Final

import pytest

from policies.carriers import LEAST_LEFT_OUT
from policies.experiment import Verdict
from policies.records import TESTED
from tests.simulation.cases import worth
from tests.simulation.forged import Attacked, Powered, forged_table, power_table
from tests.simulation.forgers import FRESH_KEYS, VOTES_EACH, ForgedBook, by_cluster, by_user
from tests.simulation.traffic import World

SEEDS: Final = range(20)
SIX_DAYS: Final = 144
TEN_DAYS: Final = 240
ALIKE: Final = World(requests_per_day=2000)

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_unit_that_costs_nothing_decides_anything() -> None:
    """The control: where every claimed name counts, one address wins."""
    endings = [by_user(ALIKE, 1, seed, TEN_DAYS) for seed in SEEDS]
    assert sum(ending.promoted for ending in endings) >= 19


@pytest.mark.timeout(300)
@pytest.mark.parametrize("addresses", [1, LEAST_LEFT_OUT])
def test_as_many_addresses_as_are_left_out_force_nothing(addresses: int) -> None:
    pairs = [by_cluster(ALIKE, addresses, seed, SIX_DAYS) for seed in SEEDS]
    assert sum(held.promoted for _, held in pairs) == 0
    assert sum(plain.promoted for plain, _ in pairs) <= (0 if addresses == 1 else 10)
    if addresses > 1:  # clusters alone would not do
        assert any(plain.promoted for plain, _ in pairs)


@pytest.mark.timeout(300)
def test_a_better_challenger_is_promoted_all_the_same() -> None:
    better = replace(ALIKE, **worth(0.10))
    pairs = [by_cluster(better, 0, seed, SIX_DAYS) for seed in SEEDS]
    for at, most_hours in ((0, 54), (1, 72)):
        endings = [pair[at] for pair in pairs]
        assert sum(ending.promoted for ending in endings) >= 18
        assert median(ending.hours for ending in endings if ending.promoted) <= most_hours


def test_the_forged_votes_are_those_that_are_claimed_to_be_there() -> None:
    """Twenty users an address and day with five votes each, up for the challenger; a cluster is one unit of an arm."""
    days, addresses = 30, 3
    by_name, by_place = (ForgedBook(ALIKE, addresses, seed=3, clusters=clusters) for clusters in (False, True))
    [*_, (_, named)], [*_, (_, placed)] = by_name.looks(24 * days), by_place.looks(24 * days)
    assert addresses * days * FRESH_KEYS == 1800
    for arm in TESTED:
        names, places = getattr(named, arm.label), getattr(placed, arm.label)
        assert names.users == places.users
        assert names.requests == places.requests
        assert (names.clusters, places.clusters) == (0, places.moments.users)
    honest = named.champion.users + named.challenger.users - 1800
    assert placed.champion.clusters + placed.challenger.clusters == honest + 2 * addresses
    votes = [book.votes for book in (by_name, by_place)]
    assert votes[0] == votes[1] >= 1800 * VOTES_EACH


def test_the_tables() -> None:
    rows = [Attacked(addresses=1, user=1.0, cluster=0.015, survives=0.0)]
    rows.append(Attacked(addresses=20, user=None, cluster=1.0, survives=0.97))
    assert forged_table(rows).splitlines()[2:] == ["| 1 | 100 % | 2 % | 0 % |", "| 20 | – | 100 % | 97 % |"]
    endings = [by_cluster(ALIKE, 0, 0, 6)]
    nothing = Powered.of([pair[0] for pair in endings])
    assert endings[0][0].verdict is Verdict.CONTINUE
    assert power_table([("+5 %", (nothing, Powered(promoted=0.8, median_hours=115.0)))]).endswith(
        "| +5 % | 0 % | 80 % (115 h) |"
    )
