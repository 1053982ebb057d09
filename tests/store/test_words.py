"""Which comments stand, by hand; and that what is erased in any order of arrival is what does not stand in the end."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from policies.ballots import BallotTrust
from proxy.store.ingest.words import _walked, hidden
from proxy.store.tables.values import NewVote

UP = NewVote(fid="1", record_id="r", source="ann", feedback=1, comment="good")
DOWN, SAID = replace(UP, feedback=-1, comment=None), replace(UP, feedback=None, comment="in short")
GONE = replace(UP, feedback=None, retracted=True, comment=None)
BOB, NOBODY = {"source": "bob"}, {"trust": BallotTrust.THUMB}
ONE, TWO = {"external": 1}, {"external": 2}
CASES: dict[str, tuple[list[NewVote], list[str]]] = {
    "another comment replaces the first": ([UP, SAID], ["in short"]),
    "another thumb ends it": ([UP, DOWN], []),
    "the same thumb again leaves it": ([UP, replace(UP, comment=None)], ["good"]),
    "a comment leaves with another thumb what it says itself": ([UP, replace(DOWN, comment="bad")], ["bad"]),
    "taken back": ([UP, SAID, GONE], []),
    "given again": ([UP, GONE, SAID], ["in short"]),
    "an empty one takes it back, and leaves the thumb": ([UP, replace(SAID, comment="")], []),
    "somebody else's stays": ([UP, replace(SAID, **BOB), GONE], ["in short"]),
    "without the token all are one": ([replace(UP, **NOBODY), replace(SAID, **NOBODY, **BOB)], ["in short"]),
    "on the whole conversation is another": ([replace(UP, whole=True), SAID], ["good", "in short"]),
    "each score of a tool has one": ([replace(UP, **ONE), replace(SAID, **TWO)], ["good", "in short"]),
    "the same score again replaces it": ([replace(UP, **ONE), replace(DOWN, **ONE)], []),
    "a score that is deleted": ([replace(UP, **ONE), replace(SAID, **TWO), replace(GONE, **ONE)], ["in short"]),
    "who takes all back takes the scores' too": ([replace(UP, **ONE), GONE], []),
    "a change without words leaves them": ([replace(UP, **ONE), replace(DOWN, **ONE, amends=True)], ["good"]),
    "a change with words": ([replace(UP, **ONE), replace(SAID, **ONE, amends=True)], ["in short"]),
    "a change of what is not here": ([replace(UP, **ONE), replace(GONE, **ONE), replace(SAID, **ONE, amends=True)], []),
}  # fmt: skip


def given(votes: list[NewVote]) -> list[NewVote]:
    return [replace(vote, fid=str(n)) for n, vote in enumerate(votes)]


@pytest.mark.parametrize("case", CASES)
def test_what_stands(case: str) -> None:
    votes, standing = given(CASES[case][0]), CASES[case][1]
    silent = hidden(votes)
    assert [vote.comment for vote in votes if vote.comment and vote.fid not in silent] == standing


@pytest.mark.parametrize("case", CASES)
def test_no_order_of_arrival_erases_what_stands_or_leaves_what_does_not(case: str) -> None:
    votes = given(CASES[case][0])
    for order in permutations(votes):
        here: list[NewVote] = []
        for vote in order:
            here.append(vote)
            gone = _walked(here).replaced
            here = [replace(one, comment=None) if one.fid in gone else one for one in here]
        left = {vote.comment for vote in here if vote.comment and vote.fid not in hidden(here)}
        assert left == set(CASES[case][1]), order
