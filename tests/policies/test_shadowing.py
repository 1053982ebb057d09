"""What copies of live requests may conclude: that a challenger is worse, and never that it is good enough."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from policies.gate import SCORES, GateVerdict, log_bet
from policies.shadowing import ALPHA, N_MIN, Missing, conclude_shadow, shadow_look, shadow_part


def test_all_losses_are_worse_after_twenty_users() -> None:
    """E after 20 losses is the mean of 1.1²⁰, 1.2²⁰, 1.4²⁰ and 1.8²⁰: about 32,000, and 100 is enough."""
    assert not shadow_look([-1.0] * 19).worse
    look = shadow_look([-1.0] * 20)
    assert look.worse
    assert exp(look.log_worse) == pytest.approx((1.1**20 + 1.2**20 + 1.4**20 + 1.8**20) / 4)
    verdict, reasons = conclude_shadow(look, copies=20, missing={})
    assert verdict is GateVerdict.REJECT
    assert reasons == (
        "copies of live requests of 20 users: by visible defects it is 1.000 worse on average: it is worse",
    )


def test_what_goes_wrong_late_is_seen_although_it_was_close_before() -> None:
    xs = [0.0] * 200
    assert shadow_look(xs).close
    look = shadow_look(xs + [-1.0] * 20)
    assert look.worse
    assert shadow_part(look, most=2000).verdict is GateVerdict.REJECT


def test_what_was_proven_stays_so() -> None:
    xs = [-1.0] * 20
    assert shadow_look(xs + [1.0] * 500).worse


def test_ties_and_gains_turn_no_challenger_away_and_pass_none() -> None:
    for xs in ([0.0] * 500, [1.0] * 500, [0.5, -0.5] * 250):
        verdict, _ = conclude_shadow(shadow_look(xs), copies=500, missing={})
        assert verdict is None
    assert shadow_part(shadow_look([0.0] * 500), most=2000).verdict is GateVerdict.PASS


def test_nothing_is_said_before_there_is_anything() -> None:
    look = shadow_look(())
    assert (look.users, look.mean, look.log_worse, look.worse, look.close) == (0, None, 0.0, False, False)
    assert conclude_shadow(look, copies=0, missing={}) == (
        None,
        ("copies of live requests: none is compared so far",),
    )
    assert shadow_part(look, most=2000).verdict is None


@pytest.mark.parametrize("why", [Missing.UNREACHED, Missing.BUSY])
def test_a_server_that_is_mostly_away_holds(why: Missing) -> None:
    look = shadow_look([0.0] * 15)
    assert conclude_shadow(look, copies=19, missing={why: 19})[0] is None, "too few to say"
    assert conclude_shadow(look, copies=30, missing={why: 15})[0] is None, "half is not most"
    verdict, reasons = conclude_shadow(look, copies=31, missing={why: 16})
    assert verdict is GateVerdict.HOLD
    assert reasons[0] == "the challenger did not answer 16 of 31 copies of live requests"
    assert len(reasons) == 3


def test_worse_is_worse_whatever_is_missing_and_other_gaps_hold_nothing() -> None:
    missing = {Missing.UNREACHED: 80, Missing.CUT: 3, Missing.SLOW: 1, Missing.UNREAD: 2}
    verdict, reasons = conclude_shadow(shadow_look([-1.0] * 20), copies=106, missing=missing)
    assert verdict is GateVerdict.REJECT
    assert len(reasons) == 5
    assert reasons[0].startswith("copies of live requests of 20 users: ")
    counted = [f"{many} not compared" for many in ("80 copies are", "1 copy is", "3 copies are", "2 copies are")]
    assert [reason.partition(":")[0] for reason in reasons[1:]] == counted
    assert conclude_shadow(shadow_look([0.0]), copies=100, missing={Missing.CUT: 99})[0] is None


def test_it_is_the_gates_bet_at_its_highest() -> None:
    rng = random.Random(5)
    xs = [rng.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(120)]
    worse = max((log_bet(xs[:n], 0.0, -1) for n in range(N_MIN, 121)), default=0.0)
    close = max((log_bet(xs[:n], SCORES.broken, 1) for n in range(N_MIN, 121)), default=0.0)
    look = shadow_look(xs)
    assert (look.log_worse, look.log_close) == (pytest.approx(max(worse, 0.0)), pytest.approx(max(close, 0.0)))


def test_an_equal_challenger_is_hardly_ever_turned_away() -> None:
    """1 % at most, looked at after every user, for 400 users: of 600 runs no more than what 1 % and three standard
    errors allow."""
    rng = random.Random(11)
    runs = 600
    rejected = sum(shadow_look(rng.choice((-1.0, 0.0, 1.0)) for _ in range(400)).worse for _ in range(runs))
    assert rejected <= runs * (ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5)


def test_a_broken_one_is_found_within_a_hundred_users() -> None:
    """One answer in five is spoiled."""
    rng = random.Random(12)
    found = sum(shadow_look(-1.0 if rng.random() < 0.2 else 0.0 for _ in range(100)).worse for _ in range(100))
    assert found >= 90
    assert log(1 / ALPHA) > 4.6
