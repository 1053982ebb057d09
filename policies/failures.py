"""Who has the failures: evidence about two models that serve at the same time, one of them few users.

A mean over hours is slow to show a model that turns bad late: its good hours dilute the bad ones, and a control of a
tenth of the users is small. Of the requests that failed, however, the control should have its share q, whatever made
requests fail and in whichever hour. Of each failure that is not the control's the bet against that gains a little.

    e = mean over p = q·u², u in (0, 1), of (p/q)^x₀ ((1 − p)/(1 − q))^x₁,     q = W₀/(W₀ + W₁)

x₀ are the control's failures, x₁ the other model's beyond what is tolerated, both divided by how much failures clump
by user, which is at least 1. Each p is a likelihood ratio against "the control's share is q or more", so e is an
e-value, at every look. The squares favour a control that fails seldom: without a failure there, and q a tenth, 44
failures are odds of 40 : 1.
"""

from __future__ import annotations

import math
from typing import Final

from policies.estimates import Metric, Moments, clustered, metric_mean

__all__ = ["log_e_of_failures"]

_POINTS: Final = 64
"""Of the mean over p; a mean over any fixed points is an e-value."""


def log_e_of_failures(control: Moments, other: Moments, metric: Metric, *, tolerance: float) -> float:
    """Log of the evidence that `other` fails more often than the control, by more than `tolerance` of its requests.

    `metric` is a rate (ERROR, REFUSED). −inf where an arm has no requests, or nothing failed.
    """
    old, new = metric_mean(control, metric), metric_mean(other, metric)
    if old is None or new is None or new.mean <= tolerance:
        return -math.inf
    requests = old.observations + new.observations
    failed = (old.mean * old.observations, new.mean * new.observations)
    rate = sum(failed) / requests
    spread = sum(
        clustered(arm, [(metric, mean.mean, 1.0)]) for arm, mean in ((control, old), (other, new)) if arm.users > 1
    )
    chance = rate * (1.0 - rate) * requests
    clumps = max(spread / chance, 1.0) if chance > 0 else 1.0
    ours, theirs = failed[0] / clumps, (failed[1] - tolerance * new.observations) / clumps
    return _log_mixture(ours, theirs, old.observations / requests)


def _log_mixture(ours: float, theirs: float, share: float) -> float:
    logs = [
        ours * math.log(part) + theirs * math.log1p(share * (1.0 - part) / (1.0 - share))
        for part in (((point + 0.5) / _POINTS) ** 2 for point in range(_POINTS))
    ]
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs) / _POINTS)
