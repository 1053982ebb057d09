"""Numbers as they stand in sentences."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.wording import (
    confidence,
    cost,
    counted,
    duration,
    figure,
    finite,
    many,
    no_proof,
    nothing_yet,
    number,
    odds,
    percent,
    points,
    progress,
    score,
    share,
    signed,
    signed_percent,
    size,
    span,
    took,
)

ROOT = Path(__file__).parents[2]


def test_changes_carry_a_true_sign_and_nothing_is_minus_zero() -> None:
    assert signed_percent(0.0512) == "+5.1 %"
    assert signed_percent(-0.021) == "−2.1 %"
    assert [signed_percent(one) for one in (0.0, -0.0001, 0.0003, -2e-6, 2e-6, 12.5)] == [
        "0 %", "−0.01 %", "+0.03 %", ">−0.001 %", "<+0.001 %", "+1,250.0 %"
    ]  # fmt: skip
    assert points(-0.0009) == "−0.09 points"
    assert percent(0.0512) == "5.1 %"


def test_confidence_is_what_the_error_rate_leaves() -> None:
    assert confidence(0.05) == "95 %"
    assert confidence(0.025) == "97.5 %"


def test_progress_is_whole_percents_and_never_done_too_soon() -> None:
    assert [progress(one) for one in (0.0, 0.00001, 0.29, 0.419, 0.9999, 1.0, 3.0)] == [
        "0 %", "<1 %", "29 %", "41 %", "99 %", "100 %", "100 %"
    ]  # fmt: skip


def test_a_share_has_no_decimal_that_says_nothing() -> None:
    assert share(0.3) == "30 %"
    assert share(0.07) == "7 %"
    assert share(0.125) == "12.5 %"
    assert share(1.0) == "100 %"


def test_durations_have_the_unit_that_fits() -> None:
    assert duration(0.0) == "0 seconds"
    assert duration(0.0001) == "less than 1 second"
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


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (1 / 33_000, "0.003 %"),  # one failure of 33,000 is not none
        (3e-6, "<0.001 %"),
        (0.0034, "0.34 %"),
        (0.003, "0.3 %"),
        (0.0099999, "1.0 %"),
        (0.5, "50.0 %"),
        (0.9994, "99.94 %"),
        (1 - 1e-7, ">99.999 %"),
        (12.5, "1,250.0 %"),
    ],
)
def test_what_is_rare_is_not_shown_as_none_and_nearly_all_not_as_all(part: float, said: str) -> None:
    assert percent(part) == said


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_share_is_read_as_far_as_it_is_shown_and_never_as_none_or_all(one: float, other: float) -> None:
    said = percent(one)
    assert (said == "0 %") == (one == 0)
    assert (said == "100 %") == (100 * one == 100)
    if said[0].isdigit():
        assert abs(float(said.removesuffix(" %")) - 100 * one) <= 0.0501
    if said[0].isdigit() and percent(other)[0].isdigit() and one < other:
        assert float(said.removesuffix(" %")) <= float(percent(other).removesuffix(" %")) + 0.05


@given(st.floats(1e-9, 1e9) | st.floats(-1e9, -1e-9))
def test_what_is_not_zero_never_reads_as_zero(value: float) -> None:
    for say in (many, figure, signed, percent, signed_percent, points, score, share, duration, span, took, cost):
        if value > 0 or say in (many, figure, signed, signed_percent, points, score):
            assert re.search("[1-9]", say(value)), f"{say.__name__}: {say(value)}"
    for say in (signed, signed_percent, points):
        assert ("+" in say(value)) == (value > 0)
        assert ("−" in say(value)) == (value < 0)


@given(st.floats(-1, 1))
def test_a_change_in_points_says_which_way_it_goes(change: float) -> None:
    said = points(change)
    assert (said == "0 points") == (change == 0)
    assert signed_percent(change) == said.replace("points", "%")
    if said[0] in "+−":
        assert (said[0] == "+") == (change > 0)
        assert re.fullmatch(r"[+−]\d+(\.\d+)? points", said)
        assert float(said.split()[0].replace("−", "-")) != 0


def test_many_have_commas() -> None:
    assert many(33_200) == "33,200"
    assert {say(-0.0) for say in (figure, percent, share, cost)} == {"0", "0 %", "0.00"}
    assert [number(-0.5), number(-5e-7), cost(-3.0)] == ["−0.5", "−5e-07", "−3.00"]
    assert [many(x) for x in (0.0, 0.4, -0.4, -0.0, -1234)] == ["0", "<1", ">−1", "0", "−1,234"]
    assert counted(1, "request") == "1 request"
    assert counted(33_200, "request") == "33,200 requests"
    assert [number(x) for x in (20.0, 2000.0, 12.5, 0.05)] == ["20", "2,000", "12.5", "0.05"]
    assert [score(x) for x in (0.0, 0.8126, 0.0002, -0.0002)] == ["0.000", "0.813", "<0.001", ">−0.001"]
    assert [figure(x) for x in (0.0, 0.70512, 23456.0, 5e-5, -0.0001)] == ["0", "0.705", "23,456", "<0.001", ">−0.001"]
    assert [signed(x) for x in (0.0, 1, -1 / 3, 0.00004, -0.00004, -1500)] == [
        "0", "+1", "−0.33", "<+0.001", ">−0.001", "−1,500"
    ]  # fmt: skip
    assert [cost(x) for x in (0.0, 1234.5, 0.004)] == ["0.00", "1,234.50", "<0.01"]


def test_measured_times_have_three_digits_and_waits_are_rough() -> None:
    times = (0.0, 1e-5, 0.0009996, 0.0853, 0.9996, 1.239, 99.97, 130.0, 12_600.0, 200_000.0)
    assert [took(t) for t in times] == [
        "0 s", "10 µs", "1 ms", "85.3 ms", "1 s", "1.24 s", "100 s", "2 min", "3.5 h", "2.3 days",
    ]  # fmt: skip
    assert [span(t) for t in (0.0, 0.3)] == ["0 s", "<1 s"]
    assert [span(t) for t in (45.2, 600, 12_600, 172_800)] == ["45 s", "10 min", "3.5 h", "2.0 days"]


@given(st.floats(1e-6, 1e7))
def test_a_measured_time_is_right_to_a_part_in_twenty(seconds: float) -> None:
    figure, unit = took(seconds).split()
    in_s = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}[unit]
    assert float(figure.replace(",", "")) * in_s == pytest.approx(seconds, rel=0.26 if unit == "min" else 0.05)


def test_sizes_are_in_thousands_of_bytes() -> None:
    sizes = (0, 812, 999.7, 1_200, 12_345, 512_000_000, 999_600_000_000, 5e15)
    assert [size(n) for n in sizes] == [
        "0 bytes",
        "812 bytes",
        "1.0 KB",
        "1.2 KB",
        "12 KB",
        "512 MB",
        "1.0 TB",
        "5,000 TB",
    ]


def test_a_test_that_found_nothing_says_what_that_rests_on() -> None:
    assert no_proof(1234, "users") == "No proof that they differ (n = 1,234 users)"
    assert no_proof(0.4, "users") == "No proof that they differ (n < 1 users)"
    assert no_proof(0) == "No proof that they differ (n = 0)"


def test_an_arm_without_requests_is_all_there_is_to_say() -> None:
    assert nothing_yet(1, 1) is None
    assert nothing_yet(0, 0) == "No request has come yet, for either arm."
    lacking = "The challenger has had no request yet (the champion: 1,200 requests), so there is nothing to compare."
    assert nothing_yet(1200, 0) == lacking
    assert (nothing_yet(0, 1) or "").startswith("The champion has had no request yet (the challenger: 1 request)")


def test_nobody_else_writes_thousands_and_percents() -> None:
    """In decisions, pages, commands and what the loop shows: a format of one's own would soon be another one."""
    own = []
    for pattern in ("policies/**/*.py", "proxy/loop/look/*.py", "proxy/web/console/*.py", "proxy/web/checks/*.py",
                    "proxy/cli/*.py", "proxy/demo/*.py"):  # fmt: skip
        for path in ROOT.glob(pattern):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                spec = node.format_spec if isinstance(node, ast.FormattedValue) else None
                if spec is not None and re.search(r",|%$", ast.unparse(spec).strip("f'\"")):
                    own.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert [place for place in own if not place.startswith("policies/wording.py")] == []
    assert own, "the module itself has some"


def test_infinite_numbers_are_unknown() -> None:
    assert finite(-math.inf) is None
    assert finite(0.5) == 0.5
