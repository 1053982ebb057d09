"""What a verdict rests on, in the words of status, history and console."""

from __future__ import annotations

import math

from policies.assessment import Carried, FeedbackRate, SampleRatio
from policies.estimates import EffectEstimate
from policies.measurements import Measurements, futility_alpha, harm_alpha
from policies.wording import confidence, many, number, odds, percent, signed_percent

__all__ = [
    "estimate_in_words",
    "feedback_rate_in_words",
    "futility_in_words",
    "gain_in_words",
    "harm_in_words",
    "left_in_words",
    "mismatch_in_words",
    "past_in_words",
    "strongest_in_words",
]


def left_in_words(carried: Carried) -> str:
    if carried.theta is None or carried.log_e_promote is None:
        return "there is nothing to compare"
    return f"the best estimate is {signed_percent(carried.theta)} ({odds(carried.log_e_promote)})"


def strongest_in_words(carried: Carried) -> str:
    named = ", ".join(f"{carrier.unit} ({percent(carrier.share)})" for carrier in carried.strongest)
    if not named:
        return "None of them favours the challenger."
    return f"Most influential, with their share of the influence: {named}."


def gain_in_words(look: Measurements, effect: EffectEstimate) -> str:
    config = look.config
    sure = confidence(config.alpha)
    claim = "is not worse"
    if config.evidence == "strict":
        claim = f"is at least {percent(config.promotion_threshold)} better"
    return (
        f"At least {sure} sure that the challenger {claim}; best estimate {signed_percent(effect.theta)} "
        f"({odds(look.log_e_promote)}, {number(1 / config.alpha)} needed)."
    )


def estimate_in_words(look: Measurements) -> str:
    if look.effect is None:
        return "No estimate of the gain yet."
    words = f"Best estimate {signed_percent(look.effect.theta)}"
    if not math.isfinite(look.lower):
        return f"{words}, without a bound yet."
    low, high = signed_percent(look.lower), signed_percent(look.upper)
    sure = confidence(look.config.alpha)
    return f"{words}; at least {sure} sure that it is above {low}, and as sure that it is below {high}."


def past_in_words(look: Measurements) -> tuple[str, ...]:
    """How far the estimate rests on what its users did before the test."""
    past = look.past
    if past is None:
        return ()
    if not past.saved:
        return ("The users' past (ab_test_config.cuped) takes nothing off: too few of them were here before the test.",)
    return (
        f"The users' past is taken off (ab_test_config.cuped): without that the best estimate would be "
        f"{signed_percent(past.theta_plain)}; {percent(max(past.saved, 0.0))} of its variance is saved.",
    )


def harm_in_words(look: Measurements, harm: EffectEstimate) -> str:
    what = "on the weighted metrics together" if harm == look.effect else "on the metrics measured in both arms so far"
    return (
        f"At least {confidence(harm_alpha(look.config))} sure that the challenger is worse {what}; "
        f"best estimate {signed_percent(harm.theta)} ({odds(look.log_e_harm)})."
    )


def futility_in_words(look: Measurements, effect: EffectEstimate) -> str:
    config = look.config
    sure = confidence(futility_alpha(config, look.composite))
    return (
        f"At least {sure} sure that the true gain is below the threshold of "
        f"{percent(config.promotion_threshold)}; best estimate {signed_percent(effect.theta)}."
    )


def mismatch_in_words(ratio: SampleRatio) -> str:
    total = ratio.champion_users + ratio.challenger_users
    return (
        f"Sample ratio mismatch: {many(ratio.challenger_users)} of {many(total)} users are in the challenger's arm, "
        f"{percent(ratio.expected_share)} expected. The arms are not comparable; look for lost or doubled records, "
        "then begin afresh (`ratchet share` with the same share or a lower one)."
    )


def feedback_rate_in_words(rate: FeedbackRate) -> str:
    champion, challenger = percent(rate.champion or 0.0), percent(rate.challenger or 0.0)
    return (
        f"The challenger's users vote on {challenger} of their requests, the champion's on {champion}: their positive "
        "rates are not comparable. Find out why, or set ab_test_config.feedback_weight = 0."
    )
