"""Whose word counts, and for what.

A vote says up to three things that decide something: a thumb, a score, a correction. Who holds the feedback token is
believed in all of them, and may vote for several people (`source`). Who holds nothing but the signed id of a record got
that answer, and is one person: of a record they have one vote, under whatever names they send it, and it counts for
what `feedback.anonymous` allows. The rest of what they say is kept as a comment is.

How far a vote was believed is kept with it, so that neither a changed setting nor a replay counts it another way. And
nobody can judge an answer that never came: see `can_be_judged`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from typing import Final

from policies.records import Outcome

__all__ = ["ANONYMOUS_PARTS", "FULL_TRUST", "PARTS", "BallotTrust", "can_be_judged", "trust_in"]


class BallotTrust(IntFlag):
    """What counts of a vote. The integer is what spool and store keep; no bit at all: it is a comment."""

    NONE = 0
    TOKEN = 1
    """Its source tells who votes; without, all that hold the record's id are one."""
    THUMB = 2
    SCORE = 4
    CORRECTION = 8
    AMBIGUOUS = 16
    """It named its record by an alias that several people's records have: it is for none of them."""


PARTS: Final = {"thumb": BallotTrust.THUMB, "score": BallotTrust.SCORE, "correction": BallotTrust.CORRECTION}
"""By the names that `feedback.anonymous` has for them."""
FULL_TRUST: Final = BallotTrust.TOKEN | BallotTrust.THUMB | BallotTrust.SCORE | BallotTrust.CORRECTION
"""Of those with the token, and of votes from before there was a difference: they have counted like this."""
ANONYMOUS_PARTS: Final = ("thumb",)
"""What counts by default of votes without the token."""


def trust_in(*, token: bool, anonymous: Iterable[str] = ANONYMOUS_PARTS) -> BallotTrust:
    """What counts of a vote that came with or without the token; `anonymous` are names out of PARTS."""
    if token:
        return FULL_TRUST
    trust = BallotTrust.NONE
    for part in anonymous:
        trust |= PARTS[part]
    return trust


def can_be_judged(outcome: Outcome, status: int) -> bool:
    """Whether people got an answer, whole or begun, that a vote can be about.

    Who stops a model that rambles has seen enough of it to say so. Who was refused, or got an error, has not: such
    requests cost nothing, need no credential, and say nothing of what the model answers.
    """
    return 200 <= status < 400 and not (outcome.failed or outcome.refused)
