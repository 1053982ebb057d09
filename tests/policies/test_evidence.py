"""E-values, bounds, information and the sample ratio: against the oracle, at the edges, and as properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.evidence import bounds, critical_z, information_needed, log_e_value, sample_ratio_log_bf
from tests.policies.oracle import ORACLE

DELTAS = (0.05, 0.2)
thetas = st.floats(-1e3, 1e3)
errors = st.floats(1e-12, 1e6)


@pytest.mark.parametrize("case", ORACLE["bets"])
def test_e_values_and_bounds_agree_with_the_oracle(case: dict[str, Any]) -> None:
    theta, se, terms = case["theta"], case["se"], {"deltas": case["deltas"], "alpha": case["alpha"]}
    assert log_e_value(theta, se, null=case["null"], **terms) == pytest.approx(case["log_e"], rel=1e-9, abs=1e-9)
    lower, upper = bounds(theta, se, **terms)
    assert lower == (-math.inf if case["lower"] is None else pytest.approx(case["lower"], rel=1e-9, abs=1e-9))
    assert upper == (math.inf if case["upper"] is None else pytest.approx(case["upper"], rel=1e-9, abs=1e-9))


@pytest.mark.parametrize("case", ORACLE["information"])
def test_information_agrees_with_the_oracle(case: dict[str, Any]) -> None:
    needed = information_needed(case["effect"], deltas=case["deltas"], alpha=case["alpha"])
    assert needed == pytest.approx(case["information"], rel=1e-9)


@pytest.mark.parametrize("case", ORACLE["sample_ratios"])
def test_sample_ratios_agree_with_the_oracle(case: dict[str, Any]) -> None:
    log_bf = sample_ratio_log_bf(tuple(case["users"]), case["share"], 100.0)
    assert log_bf == pytest.approx(case["log_bf"], rel=1e-9, abs=1e-9)


def test_the_information_for_five_ten_and_twenty_percent() -> None:
    needed = [round(information_needed(gain, deltas=DELTAS, alpha=0.05)) for gain in (0.05, 0.1, 0.2)]
    assert needed == [5590, 1409, 364]


def test_nothing_shows_a_gain_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="not above 0"):
        information_needed(0.0, deltas=DELTAS, alpha=0.05)


def test_without_a_standard_error_there_is_no_evidence_and_no_bound() -> None:
    for se in (0.0, math.inf):
        assert log_e_value(0.5, se, deltas=DELTAS, alpha=0.05) == -math.inf
        assert critical_z(se, deltas=DELTAS, alpha=0.05) == math.inf
    assert bounds(0.5, math.inf, deltas=DELTAS, alpha=0.05) == (-math.inf, math.inf)


def test_next_to_no_information_gives_no_bound() -> None:
    assert bounds(0.1, 1e6, deltas=DELTAS, alpha=0.05) == (-math.inf, math.inf)
    assert bounds(0.1, 1e200, deltas=DELTAS, alpha=0.05) == (-math.inf, math.inf)


def test_a_far_bound_is_still_found_within_sixty_standard_errors() -> None:
    """Where one effect size alone would need more than 60, the mixture may still do with less."""
    sizes = [0.5 * 1.02**i for i in range(400)]
    se = next(se for se in sizes if critical_z(se, deltas=DELTAS, alpha=0.05) == math.inf)
    assert 55 < critical_z(se / 1.02, deltas=DELTAS, alpha=0.05) <= 60


def test_an_empty_threshold_still_bets() -> None:
    assert log_e_value(0.1, 0.005, deltas=(0.0, 0.0), alpha=0.05) > -math.log(0.05)


def test_numbers_beyond_floats_do_not_overflow() -> None:
    assert log_e_value(1e200, 1e-200, deltas=DELTAS, alpha=0.05) == math.inf
    assert log_e_value(-1e200, 1e-200, deltas=DELTAS, alpha=0.05) == -math.inf
    assert log_e_value(-1.0, 0.001, deltas=DELTAS, alpha=0.9) < -8


def test_a_share_of_nothing_or_all_has_no_ratio() -> None:
    assert sample_ratio_log_bf((10, 0), 0.0, 100.0) is None
    assert sample_ratio_log_bf((0, 10), 1.0, 100.0) is None


@given(thetas, errors, st.floats(0.001, 0.2))
def test_the_bound_is_where_the_null_is_just_rejected(theta: float, se: float, alpha: float) -> None:
    z = critical_z(se, deltas=DELTAS, alpha=alpha)
    if math.isfinite(z):
        assert log_e_value(z * se, se, deltas=DELTAS, alpha=alpha) == pytest.approx(-math.log(alpha), abs=1e-6)
        lower, upper = bounds(theta, se, deltas=DELTAS, alpha=alpha)
        assert lower <= theta <= upper


@given(thetas, errors, st.floats(-1, 1))
def test_more_effect_is_more_evidence(theta: float, se: float, null: float) -> None:
    less = log_e_value(theta, se, null=null, deltas=DELTAS, alpha=0.05)
    more = log_e_value(theta + se, se, null=null, deltas=DELTAS, alpha=0.05)
    assert not math.isnan(less)
    assert more >= less - 1e-9 * abs(less)


@settings(max_examples=25)
@given(st.floats(0.001, 0.3), st.sampled_from([(0.05, 0.2), (0.01, 0.05, 0.2)]))
def test_the_bet_is_fair(se: float, deltas: tuple[float, ...]) -> None:
    """Under the null z is standard normal, and the e-value's mean is 1: integrated on a grid."""
    step = 0.05
    grid = [i * step for i in range(-800, 801)]
    log_es = [log_e_value(z * se, se, deltas=deltas, alpha=0.05) for z in grid]
    mean = sum(math.exp(log_e - 0.5 * z * z) for z, log_e in zip(grid, log_es, strict=True))
    assert mean * step / math.sqrt(2 * math.pi) <= 1.0 + 1e-6
