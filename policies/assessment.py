"""What a look at an experiment finds; `experiment.evaluate` makes it from the facts and the terms.

Values only. An `Assessment` is stored with every decision, so it is JSON-ready and says None where a number is unknown
or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.carriers import Carrier
from policies.cuped import PastEffect
from policies.estimates import Metric, MetricMean
from policies.guardrails import GuardrailResult
from policies.rectified import RectifiedQuality

__all__ = [
    "Assessment",
    "Carried",
    "Eta",
    "FeedbackRate",
    "MetricComparison",
    "NextStage",
    "QualityMeasure",
    "SampleRatio",
    "StageResult",
    "TagEffect",
    "Verdict",
]


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
