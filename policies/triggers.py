"""When to retrain.

Any enabled trigger is enough; what users notice is named first, then volume, then the calendar. Three things hold a
retrain: the brakes (`policies.brakes`), the cool-down since the last one (and a back-off after failures), and too few
usable samples, which does not start a cool-down. A person's `ratchet trigger` is a command (`policies.commands`) and
asks none of this. Nothing fires on an empty history, and a clock that was set back counts as no time at all.

The quality drop needs two witnesses: the 24-hour mean is down by the threshold, and the change detector of `drop`
agrees. The mean alone fires falsely within a month nearly always at 30 scored requests a day, and half of the time at
100; the detector alone says that something changed, not that it matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from policies.brakes import Brake, month_full_until, stop_in_words
from policies.drop import DropDetector
from policies.intervals import Interval
from policies.wording import counted, duration, many, percent, score, share

__all__ = ["DropDetector", "Trigger", "TriggerConfig", "TriggerFacts", "TriggerProgress", "TriggerReport",
           "evaluate_triggers", "too_few_samples"]  # fmt: skip

_REASONS: Final = 4
"""Reasons for which samples were left out that a sentence names, at most."""
_SETTING: Final = {
    "own_share": " (generator_config.max_own_share: models trained here wrote them)",
    "correction_share": " (generator_config.max_correction_share)",
    "corrections_of_one": " (generator_config.max_corrections_per_user)",
    "user_cap": " (generator_config.max_samples_per_user)",
    "low_quality": " (generator_config.min_quality_score)",
    "unscored": " (generator_config.min_quality_score)",
    "no_feedback": " (generator_config.min_user_feedback)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerConfig:
    """When a retrain starts. Any enabled trigger is enough; the cool-down holds them all."""

    enable_sample_count: bool = True
    """Retrain when enough new quality samples have come in."""
    min_new_samples: Annotated[int, Interval("[1, inf)", "a count")] = 1000
    """New quality samples since the last dataset. A fine-tune on fewer rarely shows a gain."""
    min_quality_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.7
    """A record scored at least this (0 to 1) is a quality sample."""
    enable_scheduled: bool = True
    """Retrain on a schedule. The clock starts at installation, not at once."""
    schedule_interval_hours: Annotated[float, Interval("(0, inf)", "hours")] = 168.0
    """Hours between scheduled retrains: a week."""
    enable_quality_drop: bool = True
    """Retrain when quality has dropped and a change detector agrees."""
    quality_drop_threshold: Annotated[float, Interval("(0, 1]", "a share, 0 to 1")] = 0.1
    """Relative drop of the 24-hour mean against the frozen baseline that counts (0 to 1)."""
    enable_error_rate: bool = False
    """Retrain on many negative votes. Off: angry voters vote more, so opt in once votes are plenty."""
    negative_feedback_threshold: Annotated[float, Interval("(0, 1]", "a share, 0 to 1")] = 0.2
    """Share of negative votes in the last 24 hours that triggers (0 to 1)."""
    min_feedback_votes: Annotated[int, Interval("[1, inf)", "a count")] = 50
    """Votes needed in those 24 hours before their share means anything."""
    min_usable_samples: Annotated[int, Interval("[1, inf)", "a count")] = 100
    """Fewer samples than this after selection: hold and say so; the cool-down does not start."""
    cooldown_hours: Annotated[float, Interval("[0, inf)", "hours")] = 24.0
    """Hours between the starts of two retrains, whatever triggers them (manual ones excepted)."""
    failure_backoff_hours: Annotated[float, Interval("[0, inf)", "hours")] = 1.0
    """Wait after a failed retrain; doubles with each failure in a row, up to a day."""
    stop_after_rejections: Annotated[int, Interval("[0, inf)", "a count")] = 3
    """After so many challengers in a row that were not better, triggers start no training until a person says so
    (`ratchet trigger`, `ratchet resume`). One may lose by chance, three in a row show the recipe. 0: never."""
    max_runs_per_month: Annotated[int | None, Interval("[1, inf)", "a count")] = None
    """Trainings that triggers may start in 30 days; those of `ratchet trigger` do not count. None: no limit but the
    cool-down and `stop_after_rejections`, for only its owner knows what a training costs."""


_LONGEST_BACKOFF_HOURS: Final = 24.0


class Trigger(StrEnum):
    """Why a retrain starts; after MANUAL, which no evaluation gives, in the order in which one of several is named."""

    MANUAL = "manual"
    QUALITY_DROP = "quality_drop"
    SAMPLE_COUNT = "sample_count"
    NEGATIVE_FEEDBACK = "negative_feedback"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFacts:
    """What the triggers look at. Instants are Unix seconds; None is unknown, and what is unknown never fires."""

    installed_at: float
    """When this installation first ran: the schedule counts from here until the first retrain."""
    last_retrain_at: float | None = None
    """When the last retrain started; cool-down and schedule count from here."""
    new_quality_samples: int | None = None
    """Records scored at least min_quality_score since the last dataset."""
    usable_samples: int | None = None
    """How many samples selection can keep now: the count of the last preparation, or an upper bound from the store."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What the last preparation dropped, by reason."""
    quality_baseline: float | None = None
    """Frozen mean score at promotion or install."""
    quality_recent: float | None = None
    """Mean score of the last 24 hours."""
    detector: DropDetector | None = None
    positive_votes: int = 0
    negative_votes: int = 0
    """Effective votes of the last 24 hours."""
    failures_in_a_row: int = 0
    last_failure_at: float | None = None
    rejections_in_a_row: int = 0
    """Challengers from trainings that were not better, since the last that was, or since a person went on."""
    runs_at: tuple[float, ...] | None = None
    """When triggers have started trainings in the last 30 days, oldest first: the newest max_runs_per_month of them.
    Not asked for where there is no such limit."""
    experiment_running: bool = False
    """A challenger is being tested: the concurrent comparison decides about drops, not the detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerProgress:
    """How near one trigger is."""

    name: Trigger
    enabled: bool
    value: float | None
    target: float | None
    fraction: float
    """0 to 1; 1 when it is due."""
    due: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerReport:
    """The triggers at one look."""

    fired: Trigger | None
    """What starts a retrain now; None when nothing is due, or all of it is held."""
    progress: tuple[TriggerProgress, ...]
    hold: str | None
    """Why nothing may start now although something may be due; None where nothing is in the way."""
    hold_until: float | None
    """When the hold ends by the clock, Unix seconds; None when it does not end by itself."""
    brake: Brake | None = None
    """What keeps triggers from starting a training although nothing has failed; at `rejections` a person is asked."""
    schedule_at: float | None
    """When the schedule is due next, Unix seconds, in the past where it is overdue; None when it is off."""


def too_few_samples(usable: int, config: TriggerConfig, left_out: Mapping[str, int] | None = None) -> str | None:
    """Why a dataset of `usable` samples is not worth a training; None when it is. `left_out`: what it dropped, and why.

    Names the most frequent reasons with their settings, so that a loop that waits says what it waits for.
    """
    if usable >= config.min_usable_samples:
        return None
    needed = many(config.min_usable_samples)
    text = f"{counted(usable, 'usable sample')}, {needed} needed for a training that can show a gain"
    most = sorted((left_out or {}).items(), key=lambda item: (-item[1], item[0]))[:_REASONS]
    if not most:
        return text
    named = (f"{many(n)} {reason}{_SETTING.get(reason, '')}" for reason, n in most)
    return f"{text}; left out of the last dataset: {', '.join(named)}"


def evaluate_triggers(facts: TriggerFacts, config: TriggerConfig, now: float) -> TriggerReport:
    """Which trigger starts a retrain at `now` (Unix seconds), how near the others are, and what holds them."""
    progress = (
        _quality_drop(facts, config),
        _sample_count(facts, config),
        _negative_feedback(facts, config),
        _schedule(facts, config, now),
    )
    due = next((each.name for each in progress if each.due), None)
    hold, hold_until = _hold(facts, config, now)
    return TriggerReport(
        fired=due if hold is None else None,
        progress=progress,
        hold=hold,
        hold_until=hold_until,
        brake=_brake(facts, config, now),
        schedule_at=_schedule_due(facts, config) if config.enable_scheduled else None,
    )


def _hold(facts: TriggerFacts, config: TriggerConfig, now: float) -> tuple[str | None, float | None]:
    """Why nothing may start now, and until when the clock alone says so."""
    if stop := stop_in_words(facts.rejections_in_a_row, config.stop_after_rejections):
        return stop, None
    if facts.usable_samples is None:
        return "The usable samples have not been counted yet.", None
    if few := too_few_samples(facts.usable_samples, config, facts.left_out):
        return f"{few[0].upper()}{few[1:]}.", None
    if config.max_runs_per_month is not None and facts.runs_at is None:
        return "The trainings of the last 30 days have not been counted yet.", None
    rest = _longest_rest(facts, config, now)
    if rest is None or now >= rest.until:
        return None, None
    if now < rest.since:
        behind = duration((rest.since - now) / 3600)
        until = "no retrain starts until it is right (`ratchet trigger` does not wait)"
        return f"The clock is {behind} behind the last retrain: {until}.", rest.until
    return f"{rest.why}: {duration((rest.until - now) / 3600)} to go.", rest.until


def _brake(facts: TriggerFacts, config: TriggerConfig, now: float) -> Brake | None:
    if stop_in_words(facts.rejections_in_a_row, config.stop_after_rejections):
        return Brake.REJECTIONS
    return None if _month(facts, config, now) is None else Brake.MONTH


class _Rest(NamedTuple):
    until: float
    since: float
    why: str


def _longest_rest(facts: TriggerFacts, config: TriggerConfig, now: float) -> _Rest | None:
    """Whatever ends last: the cool-down after a retrain, the back-off after failures, or a month that is full."""
    month = _month(facts, config, now)
    rests: list[_Rest] = [] if month is None else [month]
    if facts.last_retrain_at is not None:
        until = facts.last_retrain_at + 3600 * config.cooldown_hours
        rests.append(_Rest(until, facts.last_retrain_at, "Cool-down after the last retrain"))
    if facts.last_failure_at is not None and facts.failures_in_a_row > 0:
        doublings = min(facts.failures_in_a_row - 1, 32)
        hours = min(config.failure_backoff_hours * 2.0**doublings, _LONGEST_BACKOFF_HOURS)
        why = f"Back-off after {facts.failures_in_a_row} failure{'s' if facts.failures_in_a_row > 1 else ''} in a row"
        rests.append(_Rest(facts.last_failure_at + 3600 * hours, facts.last_failure_at, why))
    return max(rests, default=None)


def _month(facts: TriggerFacts, config: TriggerConfig, now: float) -> _Rest | None:
    """A month in which triggers have started as many trainings as they may."""
    most, starts = config.max_runs_per_month, facts.runs_at
    until = None if most is None or starts is None else month_full_until(starts, most, now)
    if until is None or not starts:
        return None
    started = "a training" if most == 1 else f"{most} trainings"
    why = f"Triggers have started {started} in 30 days, as many as trigger_config.max_runs_per_month allows"
    return _Rest(until, starts[-1], f"{why} (`ratchet trigger` does not wait)")


def _sample_count(facts: TriggerFacts, config: TriggerConfig) -> TriggerProgress:
    new, target = facts.new_quality_samples, config.min_new_samples
    reason = (
        "New quality samples have not been counted yet."
        if new is None
        else f"{counted(new, 'new quality sample')}, {many(target)} needed."
    )
    # An empty history fires nothing, whatever the target says.
    return _toward(Trigger.SAMPLE_COUNT, config.enable_sample_count, new or None, max(target, 1), reason)


def _schedule(facts: TriggerFacts, config: TriggerConfig, now: float) -> TriggerProgress:
    since, target = _schedule_starts(facts), config.schedule_interval_hours
    hours = (now - since) / 3600
    what = "installation" if facts.last_retrain_at is None else "the last retrain"
    if hours < 0:
        reason = f"The clock is {duration(-hours)} behind {what}: no time counts until it is right."
    else:
        reason = f"{duration(hours)} since {what}, due after {duration(target)}."
    return _toward(Trigger.SCHEDULE, config.enable_scheduled, max(hours, 0.0), target, reason)


def _schedule_due(facts: TriggerFacts, config: TriggerConfig) -> float:
    return _schedule_starts(facts) + 3600 * config.schedule_interval_hours


def _schedule_starts(facts: TriggerFacts) -> float:
    return facts.installed_at if facts.last_retrain_at is None else facts.last_retrain_at


def _quality_drop(facts: TriggerFacts, config: TriggerConfig) -> TriggerProgress:
    name, enabled, target = Trigger.QUALITY_DROP, config.enable_quality_drop, config.quality_drop_threshold
    baseline, recent, detector = facts.quality_baseline, facts.quality_recent, facts.detector
    if not baseline or recent is None or detector is None:
        what = "baseline" if not baseline else "score in the last 24 hours" if recent is None else "change detector"
        return _toward(name, enabled, None, target, f"There is no {what} yet.")
    drop = 1.0 - recent / baseline
    if facts.experiment_running:
        return _toward(
            name, enabled, None, target, "Not used during an experiment: the comparison of the two models decides."
        )
    agrees = "agrees" if detector.alarm else "does not agree"
    lower = f"Quality {score(recent)} in 24 hours against {score(baseline)}, {percent(drop)} lower"
    reason = f"{lower}; the change detector {agrees}."
    progress = _toward(name, enabled, drop, target, reason)
    return progress if detector.alarm else replace(progress, due=False, fraction=min(progress.fraction, 0.99))


def _negative_feedback(facts: TriggerFacts, config: TriggerConfig) -> TriggerProgress:
    votes, target = facts.positive_votes + facts.negative_votes, config.negative_feedback_threshold
    rate = facts.negative_votes / votes if votes else None
    if rate is None or votes < config.min_feedback_votes:
        rate, reason = (
            None,
            f"{counted(votes, 'vote')} in 24 hours, {many(config.min_feedback_votes)} needed for a rate.",
        )
    else:
        reason = f"{share(rate)} of {many(votes)} votes in 24 hours are negative, {share(target)} needed."
    return _toward(Trigger.NEGATIVE_FEEDBACK, config.enable_error_rate, rate, target, reason)


def _toward(name: Trigger, enabled: bool, value: float | None, target: float, reason: str) -> TriggerProgress:
    """Progress of `value` toward `target`; what is unknown is not due."""
    reached = value is not None and value >= target
    fraction = 1.0 if reached else 0.0
    if value is not None and 0.0 < value < target:
        fraction = value / target
    return TriggerProgress(
        name=name,
        enabled=enabled,
        value=value,
        target=target,
        fraction=fraction,
        due=enabled and reached,
        reason=reason if enabled else f"Off. {reason}",
    )
