"""What the gain is made of in this experiment: which metrics weigh, and what measures quality.

The settings weigh quality, thumbs and latency. What stands for quality is found out here, best first: the application's
scores; where it gives none, a judge whose agreement with votes is proven, rectified by these votes, in the place of
quality *and* thumbs (the votes must not count twice); else the format check. That one sees defects only: where it finds
next to none it says nothing, its weight goes to nothing, and the gain is made of the other metrics. With thumbs a
promotion then rests on thumbs and latency; on latency alone there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.assessment import QualityMeasure
from policies.cuped import cuped_effect
from policies.estimates import EffectEstimate, Metric, Moments, metric_mean, observation_sd
from policies.experiment_terms import ABTestConfig
from policies.facts import ExperimentFacts
from policies.rectified import rectified_effect, rectified_quality
from policies.stages import Stages

__all__ = ["Composite", "composite_effect", "composite_of", "composite_weights", "judged_alone", "parts_of"]

_NO_DEFECTS: Final = 0.98
"""From this mean on a format check has no spread to speak of: about one answer in fifty has a defect, or fewer."""
_GIVEN: Final = 0.1
"""Below this share of scores that somebody gave, the quality scores are format checks with a few exceptions."""
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """The weights of one look."""

    measure: QualityMeasure
    weights: Mapping[Metric, float]
    """Signed; of the metrics that stand for themselves."""
    rectified: float = 0.0
    """Weight of Q (`policies.rectified`); 0: it is not part of it."""

    @property
    def metrics(self) -> list[Metric]:
        """All that have to be there."""
        plain = [metric for metric, weight in self.weights.items() if weight]
        return [*plain, Metric.POSITIVE, Metric.JUDGE, Metric.JUDGE_VOTED] if self.rectified else plain

    @property
    def uses_votes(self) -> bool:
        """Whether the arms' votes must be comparable."""
        return bool(self.rectified or self.weights.get(Metric.POSITIVE))


def composite_weights(config: ABTestConfig) -> dict[Metric, float]:
    """The signed weight of each metric, as the settings have it; slower counts against."""
    return {
        Metric.QUALITY: config.quality_weight,
        Metric.POSITIVE: config.feedback_weight,
        Metric.LATENCY: -config.latency_weight,
        **config.signal_weights.by_metric(),
    }


def composite_of(facts: ExperimentFacts, config: ABTestConfig) -> Composite:
    """What the gain is made of at this look."""
    weights, judge = composite_weights(config), facts.judge
    answers = config.quality_weight + config.feedback_weight
    if judge is not None and judge.counts and answers and _gives_no_scores(facts):
        if judge.trust == "unrectified" and config.quality_weight:
            standing = {Metric.JUDGE: config.quality_weight} | weights | {Metric.QUALITY: 0.0}
            return Composite(measure=QualityMeasure.JUDGE, weights=standing)
        rest = weights | {Metric.QUALITY: 0.0, Metric.POSITIVE: 0.0}
        return Composite(measure=QualityMeasure.RECTIFIED, weights=rest, rectified=answers)
    if _has_no_spread(facts):
        return Composite(measure=QualityMeasure.NOTHING, weights=weights | {Metric.QUALITY: 0.0})
    return Composite(measure=_measure(facts, config), weights=weights)


def composite_effect(composite: Composite, stages: Stages) -> EffectEstimate | None:
    """The gain with its standard error, less what the users' past explains where the stages have it; None where a part
    of it is missing in an arm."""
    if composite.rectified:
        return rectified_effect(stages, composite.rectified, composite.weights)
    return cuped_effect(stages, composite.weights)


def judged_alone(composite: Composite, stages: Stages) -> EffectEstimate | None:
    """The gain as the judge alone sees it, where votes rectify it: enough to reject, and nothing else."""
    if not composite.rectified:
        return None
    return cuped_effect(stages, {**composite.weights, Metric.JUDGE: composite.rectified})


def parts_of(composite: Composite, stages: Stages) -> dict[Metric, float]:
    """Each metric's weight as it is shown; of Q the votes have all, and the judge's two what λ leaves them."""
    shown = dict(composite.weights)
    if composite.rectified:
        found = rectified_quality(stages)
        trust = composite.rectified * (found.trust if found else 0.0)
        shown |= {Metric.POSITIVE: composite.rectified, Metric.JUDGE: trust, Metric.JUDGE_VOTED: -trust}
    return shown


def _arms(facts: ExperimentFacts) -> tuple[Moments, Moments]:
    """All records of both arms, whatever their stage: for what is said of scores as such, and no comparison."""
    return (
        sum((stage.champion.moments for stage in facts.earlier), facts.champion.moments),
        sum((stage.challenger.moments for stage in facts.earlier), facts.challenger.moments),
    )


def _measure(facts: ExperimentFacts, config: ABTestConfig) -> QualityMeasure:
    """Whose scores the records have."""
    if not config.quality_weight:
        return QualityMeasure.UNWEIGHED
    if _is_format_check(facts):
        return QualityMeasure.FORMAT_CHECK
    return QualityMeasure.WAITING if _has_no_scores(facts) else QualityMeasure.SCORES


def _has_no_scores(facts: ExperimentFacts) -> bool:
    return all(metric_mean(arm, Metric.QUALITY) is None for arm in _arms(facts))


def _gives_no_scores(facts: ExperimentFacts) -> bool:
    """Whether the application scores no answers of its own: there are format checks only, or no scores at all."""
    return _is_format_check(facts) or _has_no_scores(facts)


def _is_format_check(facts: ExperimentFacts) -> bool:
    """Whether next to all scores of both arms are format checks. Of scores that an older version has counted nobody
    noted who gave them: they count as they did."""
    given = [metric_mean(arm, Metric.GIVEN) for arm in _arms(facts)]
    return all(mean is not None and mean.mean < _GIVEN for mean in given)


def _has_no_spread(facts: ExperimentFacts) -> bool:
    """Whether the scores say nothing: format checks that find next to no defects in either arm, or one and the same
    score for every answer of both."""
    arms = _arms(facts)
    old, new = (metric_mean(arm, Metric.QUALITY) for arm in arms)
    if old is None or new is None:
        return False
    if _is_format_check(facts) and min(old.mean, new.mean) >= _NO_DEFECTS:
        return True
    spreads = [observation_sd(arm, Metric.QUALITY) for arm in arms]
    return abs(old.mean - new.mean) < _SAME and all(spread is not None and spread < _SAME for spread in spreads)
