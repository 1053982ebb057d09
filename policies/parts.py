"""The parts of a watch as evidence: what each says by itself, and what all of them say together.

In each part users and failures are counted afresh. Where the control sleeps, a part says little: a model that turns bad
then has all of its failures. So the last part in which enough of the control's users came goes on being asked, together
with those after it in which too few did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policies.estimates import Metric, Moments, metric_mean

__all__ = ["MOST_PARTS", "PartMoments", "all_hours", "control_sleeps", "parts_to_ask"]

MOST_PARTS: Final = 4
"""Of a watch. Each has the same part of what errors and refusals are given, so that none has to be foreseen."""
_SLEEPS: Final = 0.5
"""Of the requests that should be the control's: with fewer in a part, it shows next to nothing of who has the
failures."""


class PartMoments(NamedTuple):
    """Both arms in one part of a watch."""

    control: Moments
    after: Moments


def control_sleeps(part: PartMoments, metric: Metric, *, holdback_share: float, least_users: float) -> bool:
    """Whether too few of the control's users came in this part to say anything of `metric`: fewer effective ones than
    `least_users`, or with less than half of the requests that their share of the users would make."""
    control, after = metric_mean(part.control, metric), metric_mean(part.after, metric)
    if control is None or control.effective_users < least_users:
        return True
    both = control.observations + (0.0 if after is None else after.observations)
    return control.observations < _SLEEPS * holdback_share * both


def parts_to_ask(
    parts: Sequence[PartMoments], metric: Metric, *, holdback_share: float, least_users: float
) -> list[PartMoments]:
    """The parts as who has the failures is asked in them: each by itself, and the last one with enough of the control's
    users together with those after it that have too few."""
    found: list[PartMoments] = []
    enough = 0
    for part in parts:
        if found and control_sleeps(part, metric, holdback_share=holdback_share, least_users=least_users):
            one = found[enough]
            found[enough] = PartMoments(one.control + part.control, one.after + part.after)
        else:
            enough = len(found)
        found.append(part)
    return found


def all_hours(parts: Sequence[Moments], metric: Metric, icc: float) -> Moments:
    """One arm in all parts, to be compared with what is not of these hours.

    A user who comes in K of them is K units here, which are alike as far as a user's answers are: so the products, and
    with them the variance, are wider by 1 + f(K − 1), f = icc·ΣN²/ΣN as in `policies.stages`.
    """
    whole = sum(parts[1:], parts[0])
    mean = metric_mean(whole, metric)
    if mean is None or len(parts) == 1:
        return whole
    between = min(1.0, icc * mean.observations / mean.effective_users)
    wider = 1.0 + between * (len(parts) - 1)
    return replace(whole, products=tuple(wider * product for product in whole.products))
