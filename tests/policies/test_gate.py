"""The gate's rules: the worked examples of the reference, at the edges, and as properties."""

from __future__ import annotations

import json
from itertools import cycle, islice
from math import comb, exp, isclose, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gate import (
    BETS,
    PAIRS,
    SCORES,
    Bet,
    CheckPart,
    CheckReport,
    GateVerdict,
    GoldenCase,
    Rule,
    Side,
    gate,
    golden,
    log_bet,
    pair_outcome,
    sign_test,
)

outcomes = st.lists(st.sampled_from([-1.0, -0.5, -0.02, 0.0, 0.3, 1.0]), max_size=300)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("challenger", "challenger", 1),
        ("champion", "champion", -1),
        ("champion", "challenger", 0),  # it prefers what it reads first
        ("tie", "challenger", 0),
        ("tie", "tie", 0),
    ],
)
def test_a_preference_counts_only_where_it_holds_in_both_orders(first: Side, second: Side, outcome: int) -> None:
    assert pair_outcome(first, second) == outcome


def test_five_losses() -> None:
    by_hand = (1.1**5 + 1.2**5 + 1.4**5 + 1.8**5) / 4
    assert log_bet([-1.0] * 5, 0.0, -1) == pytest.approx(log(by_hand), abs=1e-12)
    assert by_hand == pytest.approx(7.09, abs=0.005)


def test_all_ties_pass_after_77_users() -> None:
    look = gate([0.0] * 200, PAIRS)
    assert (look.verdict, look.used, look.mean) == (GateVerdict.PASS, 77, 0.0)


def test_without_any_difference_in_score_it_passes_after_109_users() -> None:
    """ln(4 · 100) over ln(1 + .8 · .07), and a little less for the smaller stakes."""
    look = gate([0.0] * 400, SCORES)
    assert (look.verdict, look.used) == (GateVerdict.PASS, 109)


def test_half_lost_and_half_tied_is_rejected_at_the_first_look() -> None:
    look = gate(islice(cycle([-1.0, 0.0]), 60), PAIRS)
    assert (look.verdict, look.used) == (GateVerdict.REJECT, 20)


def test_a_budget_that_is_spent_without_an_answer_is_undecided() -> None:
    rule = Rule(broken=0.10, n_max=90)
    look = gate(islice(cycle([1.0, -1.0, 0.0]), 120), rule)
    assert (look.verdict, look.used) == (GateVerdict.UNDECIDED, 90)
    assert gate(islice(cycle([1.0, -1.0, 0.0]), 89), rule).verdict is None


def test_nothing_is_said_of_a_few_users() -> None:
    look = gate([-1.0] * 19, SCORES)
    assert look.verdict is None
    assert look.log_worse > log(20)
    assert gate([], SCORES).mean is None


def test_an_outcome_beyond_one_is_a_mistake() -> None:
    for outcome in (-1.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="between -1 and 1"):
            gate([outcome], SCORES)


@given(outcomes, st.lists(st.integers(1, 40), min_size=1))
def test_however_often_one_looks_the_verdict_is_the_same(xs: list[float], looks: list[int]) -> None:
    """After a verdict more answers change nothing; before it, less of them are just less."""
    whole = gate(xs, SCORES)
    seen, at = [], 0
    for step in cycle(looks):
        at += step
        seen.append(gate(xs[:at], SCORES))
        if at >= len(xs):
            break
    assert seen[-1] == whole
    decided = [look for look in seen if look.verdict is not None]
    assert all(look == whole for look in decided)


@given(outcomes)
def test_a_bet_is_its_product(xs: list[float]) -> None:
    for shift, sign in ((0.0, -1), (0.07, 1), (0.10, 1)):
        most = 0.95 / (1 + shift if sign < 0 else 1 - shift)
        by_hand = 0.0
        for stake in BETS:
            product = 1.0
            for x in xs:
                product *= 1 + sign * min(stake, most) * (x + shift)
            by_hand += product / len(BETS)
        if 0 < by_hand < float("inf"):
            assert isclose(exp(log_bet(xs, shift, sign)), by_hand, rel_tol=1e-6)


@given(outcomes)
def test_what_one_side_loses_the_other_wins(xs: list[float]) -> None:
    """Against "the mean is 0 or more" and, with the two models swapped, against "the mean is 0 or less"."""
    swapped = [-x for x in xs]
    assert log_bet(xs, 0.0, -1) == pytest.approx(log_bet(swapped, 0.0, 1), abs=1e-9)


@given(st.permutations([-1.0] * 4 + [0.0] * 6 + [1.0] * 3))
def test_what_a_bet_has_won_does_not_depend_on_the_order(xs: list[float]) -> None:
    bet = Bet(shift=0.1, sign=1)
    for x in xs:
        bet.add(x)
    assert bet.log_e == pytest.approx(log_bet(sorted(xs), 0.1, 1), abs=1e-9)


def test_the_sign_test() -> None:
    assert sign_test(9, 2) == 67 / 2048
    assert sign_test(8, 0) == 1 / 256
    assert sign_test(0, 0) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_symmetric(lost: int, won: int) -> None:
    tied = comb(lost + won, lost) / 2 ** (lost + won)
    assert sign_test(lost, won) + sign_test(won, lost) == pytest.approx(1 + tied)


def test_a_tag_that_fell_is_named() -> None:
    both, lost = (True, True), (True, False)
    cases = [GoldenCase(*both, ("a",))] * 40 + [GoldenCase(*lost, ("b",))] * 8 + [GoldenCase(*both, ("b",))] * 12
    groups = golden(cases)
    assert [(group.tag, group.cases, group.lost, group.won) for group in groups] == [
        ("", 60, 8, 0),
        ("a", 40, 0, 0),
        ("b", 20, 8, 0),
    ]
    assert [group.tag for group in groups if group.worse] == ["", "b"]
    assert [group.level for group in groups] == [0.025, 0.0125, 0.0125]


def test_without_tags_the_whole_file_has_the_whole_level() -> None:
    (whole,) = golden([GoldenCase(True, False)] * 5 + [GoldenCase(True, True)] * 5)
    assert (whole.level, whole.p) == (0.05, 1 / 32)
    assert whole.worse


def test_less_than_the_margin_proves_nothing_however_sure() -> None:
    (whole,) = golden([GoldenCase(True, False)] * 15 + [GoldenCase(True, True)] * 985)
    assert whole.p < 0.001
    assert not whole.worse


def test_what_is_lost_and_won_alike_proves_nothing() -> None:
    cases = [GoldenCase(True, False)] * 20 + [GoldenCase(False, True)] * 20
    assert not golden(cases)[0].worse
    assert not golden([])[0].worse


@given(st.lists(st.builds(GoldenCase, st.booleans(), st.booleans(), st.sampled_from([(), ("a",), ("a", "b")]))))
def test_not_both_of_two_models_are_proven_worse(cases: list[GoldenCase]) -> None:
    swapped = [GoldenCase(case.challenger, case.champion, case.tags) for case in cases]
    for one, other in zip(golden(cases), golden(swapped), strict=True):
        assert not (one.worse and other.worse)


def test_a_report_is_json() -> None:
    groups = golden([GoldenCase(True, False)] * 6)
    part = CheckPart(name="golden", verdict=GateVerdict.REJECT, compared=6, most=6, groups=groups)
    report = CheckReport(
        verdict=GateVerdict.REJECT, reasons=("worse",), parts=(part,), counts={"golden": 6}, examples=({"item": "a"},)
    )
    document = json.loads(json.dumps(report.document()))
    assert document["verdict"] == "reject"
    assert document["parts"][0]["groups"][0]["worse"] is True
    assert document["examples"] == [{"item": "a"}]
    assert json.loads(json.dumps(CheckReport().document()))["verdict"] is None
