"""What the guardrails of a watch say, with a control and without.

With a control each guardrail has two proofs, each at half of its part of alpha_harm:

    at the same time    the new champion against the users held back, by the mean of two e-values: that of the
                        difference, and for errors and refusals that of who has the failures (`policies.failures`)
    with the hours      the same against the old champion's arm as it was at the promotion. Of errors and refusals it
    before              counts once the control has too few of the failures as well, at odds of 2/alpha_harm: the hours
                        before are many requests and see a bad model within a few dozen, the control sees to it that a
                        bad hour of both models is not held against one

A model may turn bad late. Then the good hours hide the bad ones: what is tolerated is a share of all requests, and a
user who asks much has the mean of all hours. So a watch has up to four parts (`policies.promotion` says when the next
one begins), in each of which users and failures are counted afresh. The differences of the parts are put together as
the stages of a ramp are. Who has the failures is asked in each: the e-values' mean counts, and against the hours before
the promotion each part has a quarter of the proof's alpha.

Where the control is too few users to say anything although a quarter of the window is over, and where there is no
control, the hours before decide alone, of everything but latency. That is weaker, and the reason says so. Of errors and
refusals they decide sooner, once these few users have too few of the failures, or have not come during 50 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from policies.estimates import Metric, Moments, metric_mean
from policies.experiment import guardrails_of
from policies.experiment_terms import ABTestConfig
from policies.failures import log_e_of_failures
from policies.guardrails import GUARDRAILS, Guardrail, GuardrailResult, GuardrailState, check
from policies.parts import MOST_PARTS, PartMoments, all_hours, control_sleeps, parts_to_ask
from policies.stages import Stage, Stages
from policies.wording import finite, odds

__all__ = ["Compared", "WatchedGuardrail", "watch_guardrails", "watched"]

_WAITS_FOR: Final = 0.25
"""Of the window: so long a control may have too few users before the hours before the promotion are asked."""
_FEW_HAVE_NONE: Final = math.log(5.0)
"""Log odds by which a control of too few users has too few of the failures: then it is waited for no longer."""
_NONE_HAS_COME: Final = 50.0
"""Failures, weighted, during which no user of the control has come: the same."""
_FAILURES: Final = (Metric.ERROR, Metric.REFUSED)
_LOG_2: Final = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The three arms of a watch."""

    after: Moments
    """The new champion's, since the running part of the watch began."""
    control: Moments | None
    """The old champion's, of the same hours; None where nobody is held back."""
    earlier: tuple[PartMoments, ...] = ()
    """The parts before it."""
    before: Moments | None
    """The old champion's in the experiment's last stage; None when there was no experiment."""
    holdback_share: float
    passed: float
    """Which part of the window is over."""

    @property
    def parts(self) -> tuple[PartMoments, ...]:
        """All of them, the running one last; none without a control."""
        return () if self.control is None else (*self.earlier, PartMoments(self.control, self.after))


def watch_guardrails(config: ABTestConfig, *, concurrent: bool = True) -> tuple[Guardrail, ...]:
    """The test's guardrails as the watch uses them: harm starts at the limit, and each of them takes traffic back.

    Those of behaviour, and the judge, have done their part. Without a concurrent control latency is not judged.
    """
    return tuple(
        replace(
            guardrail,
            tolerance=guardrail.limit,
            alpha=GUARDRAILS[guardrail.name].watch_part * config.alpha_harm,
            rolls_back=True,
        )
        for guardrail in guardrails_of(config)
        if GUARDRAILS[guardrail.name].watch_part and (concurrent or guardrail.metric is not Metric.SLOW)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedGuardrail:
    """What one guardrail says at one look."""

    result: GuardrailResult
    leans_to_harm: bool
    """Not proven, but beyond the limit, and one of the two proofs says that this is no chance: an e-value above 1 of
    the users held back, or proof against the hours before. Reason enough to watch on."""
    concurrent: bool
    """The users held back are enough to say something; else it is the hours before that are compared with."""


def watched(compared: Compared, config: ABTestConfig) -> tuple[WatchedGuardrail, ...]:
    """What each guardrail says; nothing where there is nothing to compare with."""
    if compared.control is not None:
        return tuple(_twice(guardrail, compared, config) for guardrail in watch_guardrails(config))
    return tuple(
        _alone(result)
        for guardrail in watch_guardrails(config, concurrent=False)
        if (result := _with_before(guardrail, compared, config)) is not None
    )


def _alone(result: GuardrailResult) -> WatchedGuardrail:
    beyond = result.state is GuardrailState.BLOCK
    leans = beyond and (result.log_e_harm or 0.0) > 0.0
    return WatchedGuardrail(result=result, leans_to_harm=leans, concurrent=False)


def _with_before(
    guardrail: Guardrail, compared: Compared, config: ABTestConfig, after: Moments | None = None
) -> GuardrailResult | None:
    """Of all hours since the promotion, or of one part's `after`."""
    if compared.before is None:
        return None
    if after is None:
        parts = [*(part.after for part in compared.earlier), compared.after]
        after = all_hours(parts, guardrail.metric, config.icc)
    return check(guardrail, Stages.one(compared.before, after), config.guardrails)


def _twice(guardrail: Guardrail, compared: Compared, config: ABTestConfig) -> WatchedGuardrail:
    half = replace(guardrail, alpha=guardrail.alpha / 2.0)
    now = _at_the_same_time(half, compared, config)
    then = _with_before(half, compared, config) if guardrail.metric is not Metric.SLOW else None
    waited = compared.passed >= _WAITS_FOR or _waits_no_longer(guardrail, compared, then)
    if now.state is GuardrailState.UNKNOWN and then is not None and waited:
        return _alone(_weaker(now, then))
    proven_then = _proven(then)
    if guardrail.metric in _FAILURES and now.state in (GuardrailState.PASS, GuardrailState.BLOCK):
        failures = _failures(half, compared, config)
        proven_then = proven_then or any(_proven(part.then) for part in failures)
        now = _of_failures(now, failures, half.alpha, config.alpha_harm)
    sleeps = guardrail.metric in _FAILURES and control_sleeps(
        compared.parts[-1],
        guardrail.metric,
        holdback_share=compared.holdback_share,
        least_users=config.guardrails.min_effective_users,
    )
    return WatchedGuardrail(
        result=now,
        leans_to_harm=_leans(now, proven_then, hidden=sleeps and bool(compared.earlier)),
        concurrent=now.state is not GuardrailState.UNKNOWN and not sleeps,
    )


def _leans(now: GuardrailResult, proven_then: bool, *, hidden: bool) -> bool:
    """`hidden`: the control sleeps, so the difference knows next to nothing of the running part."""
    if now.state is GuardrailState.BLOCK:
        return proven_then or (now.log_e_harm or 0.0) > 0.0
    return hidden and proven_then and now.state is not GuardrailState.ROLL_BACK


def _at_the_same_time(half: Guardrail, compared: Compared, config: ABTestConfig) -> GuardrailResult:
    """The difference, of all parts; without the last ones where they make of enough users too few.

    A part that has just begun has seen few of the control yet, and weights its parts of the effective users down. Were
    that too few for the whole watch, the hours before would decide alone, and a bad hour of both models with them.
    """
    share = 1.0 - compared.holdback_share
    parts = tuple(Stage(share=share, champion=part.control, challenger=part.after) for part in compared.parts)
    looks = (check(half, Stages(parts[:last], config.icc), config.guardrails) for last in range(len(parts), 0, -1))
    first = next(looks)
    if first.state is not GuardrailState.UNKNOWN:
        return first
    return next((look for look in looks if look.state is not GuardrailState.UNKNOWN), first)


class _Failures(NamedTuple):
    """What one part says of failures."""

    share: float
    """Log odds that the control has too few of them."""
    then: GuardrailResult | None
    """Against the hours before the promotion."""


def _failures(half: Guardrail, compared: Compared, config: ABTestConfig) -> list[_Failures]:
    """Of each part; against the hours before at the part's own share of alpha."""
    own = replace(half, alpha=half.alpha / MOST_PARTS)
    least = config.guardrails.min_effective_users
    return [
        _Failures(
            log_e_of_failures(part.control, part.after, half.metric, tolerance=half.tolerance),
            _with_before(own, compared, config, part.after),
        )
        for part in parts_to_ask(compared.parts, half.metric, holdback_share=compared.holdback_share, least_users=least)
    ]


def _waits_no_longer(guardrail: Guardrail, compared: Compared, then: GuardrailResult | None) -> bool:
    """A few users who ask much: thousands of failures before a quarter of the window is over are too many.

    Enough are those of which the few held back have too few, at odds of 5, which a bad hour of both models seldom
    shows; where none of these users has come, 50, of which a user has no more than the soft cap.
    """
    if not _proven(then):
        return False
    if guardrail.metric not in _FAILURES or compared.control is None:
        return False
    if metric_mean(compared.control, guardrail.metric) is None:
        failing = metric_mean(compared.after, guardrail.metric)
        return failing is not None and failing.mean * failing.observations >= _NONE_HAS_COME
    share = log_e_of_failures(compared.control, compared.after, guardrail.metric, tolerance=guardrail.tolerance)
    return share >= _FEW_HAVE_NONE


def _weaker(now: GuardrailResult, then: GuardrailResult) -> GuardrailResult:
    why = f"weaker: compared with the hours before the promotion, for too few users stay on the old one: {_after(now)}"
    return replace(then, reason=f"{then.reason} ({why})")


def _after(result: GuardrailResult) -> str:
    return result.reason.rpartition("; ")[2]


def _of_failures(now: GuardrailResult, parts: Sequence[_Failures], alpha: float, alpha_harm: float) -> GuardrailResult:
    """With what the control's share of the failures says: alone, or in one part with the hours before."""
    nothing_yet = [0.0] * (MOST_PARTS - len(parts))  # of an e-value to come: 1
    shares = _log_mean([*(part.share for part in parts), *nothing_yet])
    log_e = _log_mean([-math.inf if now.log_e_harm is None else now.log_e_harm, shares])
    needed, with_before = -math.log(alpha), _LOG_2 - math.log(alpha_harm)
    if log_e >= needed:
        why = f"harm is proven ({odds(log_e)}, {odds(needed)} needed)"
    elif (both := _proven_by_both(parts, with_before)) is not None:
        share, then = both
        why = (
            f"harm is proven: the old champion's users have too few of the failures ({odds(share)}, "
            f"{odds(with_before)} needed), and against the hours before the promotion {then.reason}"
        )
    else:
        return replace(now, log_e_harm=finite(log_e))
    numbers = now.reason.rpartition("; ")[0]
    return replace(now, log_e_harm=finite(log_e), state=GuardrailState.ROLL_BACK, reason=f"{numbers}; {why}")


def _proven_by_both(parts: Iterable[_Failures], needed: float) -> tuple[float, GuardrailResult] | None:
    """The control's odds are each part's own: they guard against a bad hour of both models, which is in one part."""
    for share, then in parts:
        if share >= needed and then is not None and _proven(then):
            return share, then
    return None


def _proven(result: GuardrailResult | None) -> bool:
    return result is not None and result.state is GuardrailState.ROLL_BACK


def _log_mean(logs: Sequence[float]) -> float:
    most = max(logs)
    return most if most == -math.inf else most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))
