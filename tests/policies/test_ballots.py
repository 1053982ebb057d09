"""Whose word counts, and for what."""

from __future__ import annotations

import pytest

from policies.ballots import FULL_TRUST, PARTS, BallotTrust, can_be_judged, trust_in
from policies.records import Outcome


def test_the_token_is_believed_in_everything_whatever_others_may_say() -> None:
    assert trust_in(token=True, anonymous=()) == FULL_TRUST
    assert all(part in FULL_TRUST for part in (*PARTS.values(), BallotTrust.TOKEN))
    assert BallotTrust.AMBIGUOUS not in FULL_TRUST


def test_without_it_what_is_allowed_counts_and_the_source_never_does() -> None:
    assert trust_in(token=False) == BallotTrust.THUMB
    assert trust_in(token=False, anonymous=()) == BallotTrust.NONE
    assert trust_in(token=False, anonymous=("score", "correction")) == BallotTrust.SCORE | BallotTrust.CORRECTION
    assert BallotTrust.TOKEN not in trust_in(token=False, anonymous=tuple(PARTS))


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.label)
@pytest.mark.parametrize("status", [0, 101, 200, 204, 304, 400, 401, 499, 500, 503])
def test_only_an_answer_whole_or_begun_can_be_judged(outcome: Outcome, status: int) -> None:
    begun = outcome in (Outcome.OK, Outcome.CLIENT_DISCONNECT, Outcome.TRUNCATED)
    assert can_be_judged(outcome, status) == (begun and status in (200, 204, 304))
