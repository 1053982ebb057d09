"""Numbers as they stand in sentences."""

from __future__ import annotations

import math

from policies.wording import confidence, duration, finite, odds, percent, points, share, signed_percent


def test_changes_carry_a_true_sign_and_nothing_is_minus_zero() -> None:
    assert signed_percent(0.0512) == "+5.1 %"
    assert signed_percent(-0.021) == "−2.1 %"
    assert signed_percent(-0.0001) == "+0.0 %"
    assert points(-0.0009) == "−0.1 points"
    assert percent(0.0512) == "5.1 %"


def test_confidence_is_what_the_error_rate_leaves() -> None:
    assert confidence(0.05) == "95 %"
    assert confidence(0.025) == "97.5 %"


def test_a_share_has_no_decimal_that_says_nothing() -> None:
    assert share(0.3) == "30 %"
    assert share(0.07) == "7 %"
    assert share(0.125) == "12.5 %"
    assert share(1.0) == "100 %"


def test_durations_have_the_unit_that_fits() -> None:
    assert duration(0.0) == "0 seconds"
    assert duration(0.01) == "36 seconds"
    assert duration(1 / 60) == "1 minute"
    assert duration(0.5) == "30 minutes"
    assert duration(5.52) == "5.5 hours"
    assert duration(47.94) == "47.9 hours"
    assert duration(290) == "12 days"


def test_e_values_stay_readable() -> None:
    assert odds(math.log(3.216)) == "e = 3.22"
    assert odds(math.log(12345)) == "e = 12,345"
    assert odds(800.0) == "e > 1,000,000"
    assert odds(-math.inf) == "e < 0.001"


def test_infinite_numbers_are_unknown() -> None:
    assert finite(-math.inf) is None
    assert finite(0.5) == 0.5
