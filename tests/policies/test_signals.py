"""What later requests reveal of earlier ones: cases to check by hand, and that no order matters."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.signals import EARLIER_S, LONGEST_S, Signal, UserRequest, shown, signal_words

PERSON = int(Signal.JUDGEABLE | Signal.ANSWER | Signal.AWAITED)
FIRST_TRY, RETRY = PERSON | Signal.TELLS_RETRIES, PERSON | Signal.TELLS_RETRIES | Signal.RETRY


def asked(name: str, started_s: float, took_s: float = 2.0, signals: int = PERSON) -> UserRequest:
    return UserRequest(name, started_s, started_s + took_s, int(signals))


def words(copies: list[UserRequest], complaints: list[UserRequest] | None = None) -> dict[str, list[str]]:
    return {name: signal_words(bits) for name, bits in shown(copies, complaints or []).items() if bits}


def test_the_same_again_after_a_look_at_the_answer_is_a_regeneration() -> None:
    assert words([asked("a", 0), asked("b", 10)]) == {"a": ["regenerated"]}
    assert words([asked("a", 0), asked("b", 10), asked("c", 30)]) == {"a": ["regenerated"], "b": ["regenerated"]}


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        ([asked("a", 0)], "nothing follows"),
        ([asked("a", 0), asked("b", 2.3)], "nobody reads that fast: a loop"),
        ([asked("a", 0), asked("b", 1)], "the first was not finished: copies at once"),
        ([asked("a", 0, 5), asked("b", 0, 3), asked("c", 7)], "of copies at once none is one that somebody rejects"),
        ([asked("a", 0, 2), asked("b", 4, 20), asked("c", 15)][:1], "nothing follows"),
        ([asked("a", 0), asked("b", 603)], "eleven minutes later"),
        ([asked("a", 0, signals=Signal.NONE), asked("b", 10)], "there was no answer"),
        ([asked("a", 0, 301), asked("b", 400)], "it took longer than what is looked at together"),
    ],
)
def test_what_is_no_regeneration(copies: list[UserRequest], why: str) -> None:
    assert words(copies) == {}, why


def test_workers_that_take_turns_regenerate_nothing() -> None:
    """Two at a time, ten copies: each begins after one has ended, and while the other is being answered."""
    copies = [asked(f"{n}", n * 1.5, 3.0) for n in range(10)]
    assert words(copies) == {}


def test_a_retry_is_what_the_client_calls_one_and_no_regeneration() -> None:
    first, second = asked("a", 0, 2, FIRST_TRY), asked("b", 2.5, 2, RETRY)
    assert words([first, second, asked("c", 5, 2, RETRY)]) == {"a": ["retried"], "b": ["retried"]}
    assert words([first._replace(signals=PERSON), second]) == {}, "a client that tells nothing was not asked"
    hung_up = asked("a", 0, 60.4, FIRST_TRY)
    assert words([hung_up, asked("b", 60, 2, RETRY)]) == {"a": ["retried"]}, "we notice a moment later that it left"


def test_a_complaint_is_about_the_last_answer_to_that() -> None:
    copies = [asked("a", 0), asked("b", 10)]
    complaint = asked("c", 30)
    assert words(copies, [complaint]) == {"a": ["regenerated"], "b": ["rephrased"]}
    assert words(copies[:1], [asked("c", 700)]) == {}, "it has forgotten that one"


@given(seed=st.integers(0, 10_000))
def test_no_order_matters(seed: int) -> None:
    rng = random.Random(seed)
    kinds = (PERSON, FIRST_TRY, RETRY, Signal.NONE)
    copies = [asked(f"{n}", rng.uniform(0, 900), rng.choice((0.5, 3, 20, 700)), rng.choice(kinds)) for n in range(9)]
    complaints = [asked(f"c{n}", rng.uniform(0, 900)) for n in range(3)]
    mixed = shown(rng.sample(copies, len(copies)), rng.sample(complaints, len(complaints)))
    assert mixed == shown(copies, complaints)
    assert all(bits & ~int(Signal.REGENERATED | Signal.REPHRASED | Signal.RETRIED) == 0 for bits in mixed.values())


@given(seed=st.integers(0, 10_000))
def test_what_is_far_away_changes_nothing(seed: int) -> None:
    """What the store relies on: how far it looks to either side, and how far back and ahead it changes something."""
    rng = random.Random(seed)
    kinds = (PERSON, FIRST_TRY, RETRY)
    copies = [asked(f"{n}", rng.uniform(0, 9000), rng.choice((1, 50, 290, 700)), rng.choice(kinds)) for n in range(40)]
    new = rng.choice(copies)
    around = [one for one in copies if abs(one.started_s - new.started_s) <= EARLIER_S + LONGEST_S]
    seen, all_of_it = shown(around), shown(copies)
    without = shown([one for one in copies if one.id != new.id])
    for one in copies:
        if new.started_s - EARLIER_S <= one.started_s <= new.started_s + LONGEST_S:
            assert seen.get(one.id) == all_of_it.get(one.id)
        else:
            assert without.get(one.id) == all_of_it.get(one.id)
