"""After a promotion: was it right? The watch window and the way back.

Until the window ends some of the users (`holdback_share`, the last by hash) stay on the old champion, which is warm
anyway: the watch is the ramp's last stage, with concurrent arms. Busier hours, weekdays and a slow network are then the
same on both sides, and what is left is the model's. Harm is judged on this stage alone, and here it is to be worse by
more than the guardrail's own limit (2 points of errors or refusals, 5 of slow answers, 5 % of quality or thumbs by
default), proven at a part of alpha_harm each: errors and refusals a quarter, the others a sixth (`policies.holdback`).
While the evidence leans to harm, and is no proof, the window goes on, three times as long at most: of a small site a
tenth of the users for a day is not many.

After a quarter of the window and a thousand requests a new part of the watch begins, so that good hours do not hide a
model that turns bad later. None begins while errors or refusals lean to harm: that proof is not to start again.

Where nobody can be held back (`holdback_share = 0`, or the old champion's arm was frozen by an earlier version), what
the new champion does is compared with what the old one did in the experiment's last stage, frozen at the promotion. The
frozen side does not move, but its error is part of the standard error, and Cov(θ̂ₛ, θ̂ₜ) = Var(θ̂ₜ) for s < t all the
same, which is what the e-values need to be looked at at any time. Hours, weekdays and users differ between the two
periods, so it is weaker: it says so, and it does not judge latency, for a busier hour is slower whichever model serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.estimates import Metric
from policies.experiment import ABTestConfig, ArmStats
from policies.guardrails import GUARDRAILS, GuardrailResult, GuardrailState
from policies.holdback import Compared, WatchedGuardrail, watched
from policies.parts import MOST_PARTS, PartMoments
from policies.wording import counted, duration, many, share

__all__ = ["WatchAssessment", "WatchDecision", "WatchFacts", "WatchPart", "watch"]

_LONGEST: Final = 3.0
"""Windows that a watch lasts at most while the evidence leans to harm."""
_PART_REQUESTS: Final = 1000
"""The new champion's in a part of the watch, at least: of so many, 2 points that are tolerated hide 20 failures."""
_FAILURES: Final = frozenset(name for name, kind in GUARDRAILS.items() if kind.metric in (Metric.ERROR, Metric.REFUSED))


class WatchDecision(StrEnum):
    """What to do during the watch window."""

    KEEP = "keep"
    """Go on watching."""
    RETURN = "return"
    """A guardrail broke: traffic goes back to the old champion."""
    FINISH = "finish"
    """The window is over and nothing broke: retire the old champion."""
    HALT = "halt"
    """A guardrail broke, but the old champion is not known to be alive: leave traffic where it is, call a human."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPart:
    """What both models served in a part of the watch that is over."""

    control: ArmStats
    after: ArmStats


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFacts:
    """What is known about a promotion that is being watched."""

    promoted_at: float
    """Unix seconds."""
    before: ArmStats | None
    """The old champion's arm in the experiment's last stage, frozen; None when there was no experiment."""
    control: ArmStats | None = None
    """What the old champion has served in the running part of the users that were held back; None where none are."""
    holdback_share: float = 0.1
    """Of the users, who are held back."""
    after: ArmStats
    """Everything the new champion has served in the running part, with the same slow threshold."""
    earlier: tuple[WatchPart, ...] = ()
    """The parts before the running one; of a control that has been released since they are there all the same."""
    part_began_at: float | None = None
    """The running one, Unix seconds; None: with the promotion."""
    epoch: int = 0
    """Of the experiment: the running part's."""
    old_champion_healthy: bool | None
    """Result of the last health check; None when it was not checked."""

    @property
    def requests(self) -> int:
        """Of the new champion since the promotion."""
        return self.after.requests + sum(part.after.requests for part in self.earlier)

    @property
    def users(self) -> int:
        """Of the new champion, in the part that has most: the parts do not know of each other who comes again."""
        return max(arm.users for arm in (self.after, *(part.after for part in self.earlier)))

    @property
    def control_requests(self) -> int | None:
        """Of the old champion since the promotion; None where nobody is held back."""
        if self.control is None:
            return None
        return self.control.requests + sum(part.control.requests for part in self.earlier)

    @property
    def control_users(self) -> int | None:
        """Of the old champion, as `users`; None where nobody is held back."""
        if self.control is None:
            return None
        return max(arm.users for arm in (self.control, *(part.control for part in self.earlier)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchAssessment:
    """One look at the watch window."""

    decision: WatchDecision
    reasons: tuple[str, ...]
    at: float
    elapsed_hours: float
    remaining_hours: float
    guardrails: tuple[GuardrailResult, ...]
    concurrent: bool = False
    """Both models have users now; else the hours since the promotion are compared with those before it."""
    parts: int = 1
    """Of the watch so far."""
    renews: bool = False
    """The next part is due."""


def watch(facts: WatchFacts, config: ABTestConfig, now: float) -> WatchAssessment:
    """Decide at `now` (Unix seconds) whether the promotion stands.

    The window ends by time and needs as many requests as an arm needs before a promotion: a night without traffic
    watches nothing. Unknown health is not health, so a broken guardrail with an unchecked old champion halts; the next
    look may return.
    """
    elapsed = max(now - facts.promoted_at, 0.0) / 3600
    guardrails = _guardrails(facts, config, elapsed)
    decision, reasons = _decide(facts, config, guardrails, elapsed, clock_behind=now < facts.promoted_at)
    return WatchAssessment(
        decision=decision,
        reasons=reasons,
        at=now,
        elapsed_hours=elapsed,
        remaining_hours=max(config.watch_hours - elapsed, 0.0),
        guardrails=tuple(watched.result for watched in guardrails),
        concurrent=facts.control is not None,
        parts=len(facts.earlier) + 1,
        renews=decision is WatchDecision.KEEP and _next_part_is_due(facts, config, guardrails, now),
    )


def _next_part_is_due(
    facts: WatchFacts, config: ABTestConfig, guardrails: tuple[WatchedGuardrail, ...], now: float
) -> bool:
    if facts.control is None or len(facts.earlier) + 1 >= MOST_PARTS:
        return False
    began_at = facts.promoted_at if facts.part_began_at is None else facts.part_began_at
    if (now - began_at) / 3600 < config.watch_hours / MOST_PARTS or facts.after.requests < _PART_REQUESTS:
        return False
    failures = [guardrail for guardrail in guardrails if guardrail.result.name in _FAILURES]
    return all(failing.concurrent and not failing.leans_to_harm for failing in failures)


def _guardrails(facts: WatchFacts, config: ABTestConfig, elapsed_hours: float) -> tuple[WatchedGuardrail, ...]:
    compared = Compared(
        after=facts.after.moments,
        control=None if facts.control is None else facts.control.moments,
        earlier=tuple(PartMoments(part.control.moments, part.after.moments) for part in facts.earlier),
        before=None if facts.before is None else facts.before.moments,
        holdback_share=facts.holdback_share,
        passed=elapsed_hours / config.watch_hours if config.watch_hours > 0 else 1.0,
    )
    return watched(compared, config)


def _decide(
    facts: WatchFacts,
    config: ABTestConfig,
    guardrails: tuple[WatchedGuardrail, ...],
    elapsed_hours: float,
    *,
    clock_behind: bool,
) -> tuple[WatchDecision, tuple[str, ...]]:
    broken = tuple(_since(g.result) for g in guardrails if g.result.state is GuardrailState.ROLL_BACK)
    if broken and facts.old_champion_healthy:
        return WatchDecision.RETURN, broken
    if broken:
        health = "does not answer" if facts.old_champion_healthy is False else "was not checked"
        return WatchDecision.HALT, (*broken, f"The old champion {health}, so traffic stays where it is.")
    if clock_behind and config.watch_hours > 0:
        return WatchDecision.KEEP, (
            "The clock is behind the time of the promotion: no time counts until it is right. If it was wrong then "
            "and is right now, ab_test_config.watch_hours = 0 ends the window.",
        )
    if elapsed_hours < config.watch_hours:
        left = f"{duration(config.watch_hours - elapsed_hours)} of the watch window to go."
        return WatchDecision.KEEP, (left, *_compared_with(facts))
    if facts.requests < config.min_samples_per_version:
        seen, needed = facts.requests, config.min_samples_per_version
        return WatchDecision.KEEP, (
            f"Only {counted(seen, 'request')} since the promotion, {many(needed)} needed before the window can end.",
        )
    longest = _LONGEST * config.watch_hours
    leaning = tuple(_since(g.result) for g in guardrails if g.leans_to_harm)
    if leaning and elapsed_hours < longest:
        left = duration(longest - elapsed_hours)
        return WatchDecision.KEEP, (*leaning, f"Until that is proven or gone the watch goes on, for {left} at most.")
    if facts.before is None and facts.control is None:
        return WatchDecision.FINISH, ("The watch window is over; there were no earlier numbers to compare with.",)
    return WatchDecision.FINISH, ("The watch window is over and no guardrail broke.",)


def _since(result: GuardrailResult) -> str:
    return f"Since the promotion: {result.named_reason}."


def _compared_with(facts: WatchFacts) -> tuple[str, ...]:
    if facts.control is not None:
        held = f"{share(facts.holdback_share)} of the users stay on the old champion until then, to compare with"
        return (f"{held} ({many(facts.control_requests or 0)} of their requests so far).",)
    if facts.before is None:
        return ("There are no earlier numbers to compare with.",)
    return (
        "No users stay on the old champion, so these hours are compared with those before the promotion. That is "
        "weaker: a busier hour reads as harm, so latency is not judged.",
    )
