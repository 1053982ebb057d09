"""The terms of an experiment: how a challenger is tested, promoted and watched. Settings, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from policies.estimates import Metric
from policies.guardrails import GuardrailConfig
from policies.intervals import Interval

__all__ = ["ABTestConfig", "Evidence", "SignalWeights"]

Evidence = Literal["default", "strict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalWeights:
    """Weights in the composite of what users show without rating an answer. A share of answers that were not accepted
    counts as the share of those that were, so that its base is near 1 and a relative change means something."""

    conversation: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of positive votes on whole conversations."""
    regenerated: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of answers that the user did not have made anew."""
    rephrased: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of answers after which the user neither asked the same in other words nor complained."""
    retried: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of answers that the client's SDK did not ask for again."""
    abandoned: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of answers that the client waited for."""
    copied: Annotated[float, Interval("[0, inf)", "a weight")] = 0.0
    """Of the share of answers that the user copied."""

    def by_metric(self) -> dict[Metric, float]:
        """Those above 0."""
        named = {
            Metric.CONVERSATION: self.conversation,
            Metric.REGENERATED: self.regenerated,
            Metric.REPHRASED: self.rephrased,
            Metric.RETRIED: self.retried,
            Metric.ABANDONED: self.abandoned,
            Metric.COPIED: self.copied,
        }
        return {metric: weight for metric, weight in named.items() if weight}


@dataclass(frozen=True, slots=True, kw_only=True)
class ABTestConfig:
    """How a challenger is tested, promoted and watched."""

    initial_challenger_traffic: Annotated[
        float, Interval("(0, 1)", "a share of users, 0 to 1; with no users in one arm there is nothing to compare")
    ] = 0.1
    """Share of users (0 to 1) that the challenger serves in the first stage that measures its gain."""
    stages: Annotated[tuple[float, ...], Interval("(0, 1)", "a share of users, 0 to 1")] = ()
    """Shares of users that the challenger's share rises through, as long as it does no harm; those below
    `initial_challenger_traffic` look at errors and latency only. Empty: a canary of 1 % (more where users are few, none
    where they are very few), then `initial_challenger_traffic`, then half of the users. A single number: that share,
    without a ramp."""
    holdback_share: Annotated[float, Interval("[0, 0.5]", "a share of users, 0 to 0.5")] = 0.1
    """Share of users that stay on the old champion after a promotion, until the watch ends, to compare with. 0: none;
    then the hours after the promotion are compared with those before it, which is weaker."""
    shadow_share: Annotated[float, Interval("[0, 1]", "a share of requests, 0 to 1")] = 0.0
    """Share of the live requests that a challenger gets a copy of between its check and its test; its answers go to
    nobody. 0: it is not shadowed."""
    shadow_hours: Annotated[float, Interval("(0, inf)", "hours")] = 1.0
    """How long it gets copies."""
    promotion_threshold: Annotated[float, Interval("[0, 1]", "a relative gain, 0.05 for 5 %")] = 0.05
    """Smallest estimated gain worth a change of model: δ (0.05 = 5 %)."""
    min_duration_hours: Annotated[float, Interval("[0, inf)", "hours")] = 48.0
    """No promotion sooner: weekday, time of day and novelty need to average out."""
    max_duration_hours: Annotated[float, Interval("(0, inf)", "hours")] = 720.0
    """After this the test is INCONCLUSIVE: the challenger keeps its share until somebody decides."""
    min_samples_per_version: Annotated[int, Interval("[1, inf)", "a count")] = 100
    """Requests per arm before a promotion."""
    min_effective_users: Annotated[float, Interval("[0, inf)", "a count")] = 10.0
    """Effective users per arm and metric before a promotion."""
    alpha: Annotated[float, Interval("(0, 0.5]", "a probability of error")] = 0.05
    """Chance of promoting a challenger that is no better, over any number of looks."""
    alpha_harm: Annotated[float, Interval("(0, 0.5]", "a probability of error")] = 0.05
    """Chance of rolling back a harmless challenger: composite, errors, refusals, latency share it as 7 : 5 : 5 : 3."""
    evidence: Evidence = "default"
    """`default`: sure that it is not worse, best estimate ≥ threshold. `strict`: sure that it is ≥ threshold."""
    quality_weight: Annotated[float, Interval("[0, inf)", "a weight")] = 0.5
    """Weight of the relative change in quality score in the composite."""
    feedback_weight: Annotated[float, Interval("[0, inf)", "a weight")] = 0.3
    """Weight of the relative change in the positive rate."""
    latency_weight: Annotated[float, Interval("[0, inf)", "a weight")] = 0.2
    """Weight of the relative change in latency; slower counts against."""
    signal_weights: SignalWeights = field(default_factory=SignalWeights)
    cuped: bool = False
    """Whether each user's own past, from before the test, takes out of the gain what was the user's and not the
    model's. Worth it where users come nearly every day; `ratchet power` says what it would save here."""
    history_days: Annotated[float, Interval("(0, 366]", "days")] = 28.0
    """How much of the users' past that is."""
    icc: Annotated[float, Interval("(0, 1]", "an intra-class correlation")] = 0.1
    """Intra-class correlation behind the soft cap: no user weighs more than 1/icc observations."""
    watch_hours: Annotated[float, Interval("[0, inf)", "hours")] = 24.0
    """After a promotion the old champion is kept warm for this long, and traffic goes back if guardrails break."""
    rejection_cooldown_hours: Annotated[float, Interval("[0, inf)", "hours")] = 0.0
    """Extra wait after a rejected or rolled-back challenger before the next retrain."""
    guardrails: GuardrailConfig = field(default_factory=GuardrailConfig)
