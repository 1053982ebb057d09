"""Everything that one look at an experiment has measured, and how often each conclusion from it may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.assessment import Carried, FeedbackRate, NextStage, SampleRatio, TagEffect
from policies.composite import Composite
from policies.cuped import PastEffect
from policies.estimates import EffectEstimate
from policies.experiment_terms import ABTestConfig
from policies.facts import ExperimentFacts
from policies.guardrails import COMPOSITE_HARM_PART, GUARDRAILS, NAMED_HARM_PART, GuardrailResult
from policies.stages import Stages

__all__ = ["HARM_PARTS", "Measurements", "futility_alpha", "harm_alpha"]

HARM_PARTS: Final = {"composite": COMPOSITE_HARM_PART} | {
    name: kind.harm_part for name, kind in GUARDRAILS.items() if kind.harm_part is not None
}
"""How alpha_harm is split over what takes a challenger's users away; `guardrails.roll_back` adds to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Everything measured at one look, before it is judged."""

    facts: ExperimentFacts
    evidence: Stages
    config: ABTestConfig
    composite: Composite
    elapsed_hours: float
    effect: EffectEstimate | None
    harm_effect: EffectEstimate | None
    """The composite, or what is there of quality and thumbs while the composite is incomplete."""
    judged: EffectEstimate | None
    """The composite as the judge alone sees it; None where votes do not rectify one."""
    lower: float
    upper: float
    log_e_promote: float
    log_e_harm: float
    log_e_futility: float
    log_e_judged_futility: float
    past: PastEffect | None
    """What the users' past made of the estimate."""
    guardrails: tuple[GuardrailResult, ...]
    sample_ratio: SampleRatio
    feedback_rate: FeedbackRate
    carried: Carried | None
    tags: tuple[TagEffect, ...]
    next_stage: NextStage | None
    clock_behind_hours: float
    """How far `now` lies before the epoch's start: above 0 only when the clock was set back."""


def harm_alpha(config: ABTestConfig, trigger: str = "composite") -> float:
    """The part of alpha_harm that a key of HARM_PARTS has, or a guardrail that `roll_back` names; with all of them
    together it is never more than alpha_harm."""
    named = len(set(config.guardrails.roll_back))
    return HARM_PARTS.get(trigger, NAMED_HARM_PART) / (1.0 + NAMED_HARM_PART * named) * config.alpha_harm


def futility_alpha(config: ABTestConfig, composite: Composite) -> float:
    """The chance of rejecting a challenger that reaches the threshold; where a judge may do so by itself, each half."""
    return config.alpha / 2 if composite.rectified else config.alpha
