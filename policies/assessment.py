"""What goes into a look at an experiment, the terms included, and what comes out of it.

Values only; `experiment.evaluate` goes from the one to the other. An `Assessment` is stored with every decision, so it
is JSON-ready and says None where a number is unknown or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from policies.carriers import Carrier, Carriers
from policies.cuped import PastEffect
from policies.estimates import DEFAULT_ICC, Metric, MetricMean, Moments
from policies.guardrails import GuardrailConfig, GuardrailResult
from policies.intervals import Interval
from policies.past import PastMoments
from policies.records import Arm
from policies.rectified import RectifiedQuality
from policies.stages import Stage, Stages

__all__ = ["ABTestConfig", "ArmStats", "Assessment", "Carried", "Eta", "Evidence", "ExperimentFacts", "FeedbackRate",
           "JudgeFacts", "MetricComparison", "NextStage", "QualityMeasure", "SampleRatio", "SignalWeights",
           "StageFacts", "StageResult",
           "TagEffect", "TagFacts", "Verdict"]  # fmt: skip

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


class QualityMeasure(StrEnum):
    """What stands for quality in an experiment."""

    SCORES = "scores"
    """The application's: found by pointer, or sent as feedback."""
    RECTIFIED = "rectified"
    """The judge's, rectified by votes; thumbs are part of it."""
    JUDGE = "judge"
    """The judge's as they are (`judge.trust = "unrectified"`)."""
    FORMAT_CHECK = "format_check"
    NOTHING = "nothing"
    """The format check finds no defects, and nobody else gives scores."""
    WAITING = "waiting"
    """No answer has a score yet."""
    UNWEIGHED = "unweighed"
    """Quality has no weight."""


class Verdict(StrEnum):
    """What to do with the challenger."""

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    """It harms: take its users away at once."""
    REJECT = "reject"
    """It cannot reach the threshold: free the slot."""
    CONTINUE = "continue"
    INCONCLUSIVE = "inconclusive"
    """The longest duration is over: it stays at its share until somebody decides."""
    INVALID = "invalid"
    """The arms are not comparable: hold and ask a human."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStats:
    """What one arm's users did in one epoch."""

    arm: Arm
    requests: int
    """Records of this arm, each counted once."""
    moments: Moments
    """Of the units of evidence: users, and clusters where nobody vouches for a user's name."""
    claimed_users: int = 0
    """Users whose names are only claimed; their clusters are units instead of them."""
    clusters: int = 0
    """Units that are clusters."""
    past: PastMoments | None = None
    """Of the units that were here before the experiment; None where their past is not used, or not read yet."""

    @property
    def users(self) -> int:
        """Sticky keys that were seen in this arm, by whatever name."""
        return self.moments.users - self.clusters + self.claimed_users


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFacts:
    """The judge, as far as decisions read it."""

    scorer: str
    """Kind, model and version of the rubric."""
    counts: bool
    """Its agreement with people's votes is proven (`policies.agreement`); else no decision reads its scores."""
    trust: Literal["rectified", "unrectified"] = "rectified"
    """`judge.trust`: whether votes rectify its scores before they may promote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFacts:
    """Both arms' records that have one tag."""

    champion: ArmStats
    challenger: ArmStats


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """One stage of an experiment: constant share, models and weights."""

    started_at: float
    """Unix seconds."""
    share: float
    """The challenger's share of the users."""
    champion: ArmStats
    challenger: ArmStats
    tags: Mapping[str, TagFacts] = field(default_factory=dict)
    """By tag, as `name=value`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """The evidence of one experiment: the stage that runs, and those of lower shares before it. Their rows are never
    pooled."""

    started_at: float
    """When the challenger first had users, Unix seconds; the longest duration counts from here."""
    epoch_started_at: float
    """When this stage began, Unix seconds."""
    share: float
    """The challenger's share of the users in this stage."""
    champion: ArmStats
    challenger: ArmStats
    slow_threshold_s: float | None
    """L95: the champion's 95th percentile of latency, frozen before the epoch; None when it was not known."""
    carriers: Carriers | None = None
    """Both arms without those that carry the evidence; None where nobody has looked, as is done before a promotion."""
    judge: JudgeFacts | None = None
    """None: there is none."""
    tags: Mapping[str, TagFacts] = field(default_factory=dict)
    """By tag, as `name=value`."""
    earlier: tuple[StageFacts, ...] = ()
    """Stages before this one, of lower shares; the shortest duration counts from the first."""
    planned: tuple[float, ...] = ()
    """Shares that the ramp still goes on to, rising."""
    set_by_hand: bool = False
    """A person has set the share: it stays there."""

    @property
    def stages(self) -> tuple[StageFacts, ...]:
        """In order of rising share; the last one runs."""
        current = StageFacts(
            started_at=self.epoch_started_at,
            share=self.share,
            champion=self.champion,
            challenger=self.challenger,
            tags=self.tags,
        )
        return (*self.earlier, current)

    @property
    def evidence_since(self) -> float:
        """When the first stage began, Unix seconds; the shortest duration counts from here."""
        return self.earlier[0].started_at if self.earlier else self.epoch_started_at

    @property
    def requests(self) -> tuple[int, int]:
        """Of the champion's and the challenger's arm, over all stages."""
        stages = self.stages
        return sum(stage.champion.requests for stage in stages), sum(stage.challenger.requests for stage in stages)

    def evidence(self, icc: float = DEFAULT_ICC) -> Stages:
        """What the gain is estimated from."""
        return Stages(tuple(_moments(s.share, s.champion, s.challenger) for s in self.stages), icc)

    def running(self) -> Stages:
        """The stage that runs, alone."""
        return Stages((_moments(self.share, self.champion, self.challenger),))

    def of_tag(self, tag: str, icc: float = DEFAULT_ICC) -> Stages:
        """The evidence in the records that have one tag."""
        found = ((stage.share, stage.tags[tag]) for stage in self.stages if tag in stage.tags)
        return Stages(tuple(_moments(share, of.champion, of.challenger) for share, of in found), icc)

    def requests_of_tag(self, tag: str) -> tuple[int, int]:
        """As `requests`, of those that have one tag."""
        found = [stage.tags[tag] for stage in self.stages if tag in stage.tags]
        return sum(of.champion.requests for of in found), sum(of.challenger.requests for of in found)


def _moments(share: float, champion: ArmStats, challenger: ArmStats) -> Stage:
    return Stage(
        share=share,
        champion=champion.moments,
        challenger=challenger.moments,
        champion_past=champion.past,
        challenger_past=challenger.past,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric in both arms. None: not observed."""

    metric: Metric
    weight: float
    """Signed weight in the composite; 0 for metrics that only guard. Where votes rectify the judge's scores, thumbs
    have the weight of both, and the judge's scores what λ leaves of it."""
    champion: MetricMean | None
    challenger: MetricMean | None
    change: float | None
    """Relative change of the mean, R₁/R₀ − 1; None when unknown or when R₀ is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Did the users split as configured?"""

    expected_share: float
    observed_share: float | None
    champion_users: int
    challenger_users: int
    log_bayes_factor: float | None
    mismatch: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRate:
    """Do both arms' users vote equally often? If not, their positive rates cannot be compared."""

    champion: float | None
    challenger: float | None
    """Share of requests with a vote."""
    log_e: float | None
    """Log e-value for a difference, either way."""
    differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Does the evidence for a promotion rest on a few units?"""

    holds: bool
    """The promotion waits for it: nobody vouches for those units."""
    theta: float | None
    log_e_promote: float | None
    """Without their votes; None where nothing is left to compare."""
    units: tuple[int, int]
    left_out: tuple[int, int]
    voters: tuple[int, int]
    """In the champion's and the challenger's arm: units that could be left out, those that were, those that vote."""
    strongest: tuple[Carrier, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """When a decision may be expected, in hours from now, if the true gain is `gain`."""

    gain: float
    earliest_hours: float
    """Information keeps growing in proportion to time."""
    latest_hours: float | None
    """Only the users seen so far come back; None: then it is never reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """One stage by itself."""

    share: float
    started_at: float
    """Unix seconds."""
    champion_requests: int
    challenger_requests: int
    champion_users: int
    challenger_users: int
    theta: float | None
    """Estimated weighted gain in this stage alone; None where a metric is missing in it."""
    lower: float | None
    upper: float | None
    """Bounds, each at 1 − alpha, of this stage by itself; None when infinite."""
    part: float
    """Its weight in the estimate of all stages, 0 to 1, as its requests give it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStage:
    """Where the ramp goes next."""

    share: float
    waits: tuple[str, ...]
    """What it waits for, in words; empty: the share may rise now."""
    in_hours: float
    """Until this stage has lasted long enough; 0: it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagEffect:
    """The effect in the records that have one tag."""

    tag: str
    """`name=value`."""
    share: float
    """Of the experiment's requests that have it, in both arms together."""
    champion_requests: int
    challenger_requests: int
    theta: float | None
    """Estimated weighted gain, of what is known of it; None where nothing is."""
    lower: float | None
    upper: float | None
    """Bounds, each at 1 − alpha, of this tag by itself; None when infinite."""
    counts: bool
    """It has enough of the traffic to block a promotion."""
    harm: str | None
    """What is proven to be worse, in words; None: nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One look: the verdict and everything it rests on. JSON-ready through `dataclasses.asdict`; None is unknown."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Plain English, most important first."""
    at: float
    """When the look was taken, Unix seconds."""
    elapsed_hours: float
    """Since the evidence began: since the first stage."""
    theta: float | None
    """Estimated weighted gain of the challenger (0.05 = 5 %)."""
    se: float | None
    lower: float | None
    upper: float | None
    """Always-valid one-sided bounds, each at 1 − alpha; None when infinite."""
    log_e_promote: float | None
    log_e_harm: float | None
    log_e_futility: float | None
    """Log e-values for: better than nothing, worse than nothing, below the threshold."""
    log_e_promote_target: float
    log_e_harm_target: float
    """What they must reach."""
    effective_users: float | None
    """The smallest over arms and weighted metrics."""
    champion_requests: int
    challenger_requests: int
    """Over all stages."""
    metrics: tuple[MetricComparison, ...]
    guardrails: tuple[GuardrailResult, ...]
    sample_ratio: SampleRatio
    feedback_rate: FeedbackRate
    eta: Eta | None
    carried: Carried | None = None
    """Who carries the evidence; None where it has not come to that."""
    quality: QualityMeasure = QualityMeasure.SCORES
    """What stands for quality; looks of before there was a difference say that scores do."""
    rectified: RectifiedQuality | None = None
    """Quality as votes and judge say it together; None where it is not part of the gain, or not known yet."""
    tags: tuple[TagEffect, ...] = ()
    """The tags with the most requests first."""
    stages: tuple[StageResult, ...] = ()
    """Each by itself, the one that runs last; looks of before there were any have none."""
    next_stage: NextStage | None = None
    """None: the share rises no further."""
    past: PastEffect | None = None
    """What the users' past made of the estimate; None where it is not used."""
