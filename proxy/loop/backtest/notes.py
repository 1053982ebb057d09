"""What cannot be known of a test on paper, and what its answer rests on, in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

from policies import wording
from policies.lifecycle import Event
from policies.plan import LoopRules
from policies.ramp import canary_share, planned_shares
from proxy.loop.backtest.happened import Happened
from proxy.loop.backtest.paper import PaperEpoch, PaperTest

__all__ = ["notes_on"]


def notes_on(test: PaperTest, rules: LoopRules, story: Happened, *, past_read_again: bool = False) -> list[str]:
    """In the order of time. `past_read_again`: the users' past is not the one that was frozen then."""
    notes = [*_of_the_first_share(test, rules, story), *_of_the_ramp(test, rules)]
    if any(epoch.slow_threshold_s is None for epoch in test.epochs):
        notes.append("the champion's p95 latency was not known then, nor is it now")
    if past_read_again:
        notes.append("the users' past is that of the records that are still stored")
    stored, counted = sum(e.stored_requests for e in test.epochs), sum(e.counted_requests for e in test.epochs)
    if stored < counted:
        notes.append(f"only {stored:,} of {counted:,} requests are still stored (retention, deleted users)")
    if test.decision is None and story.ended_at is not None:
        notes.append("its data ended with the test: what later traffic would have shown is not known")
    elif test.decision is not None and (test.really is None or test.really.action != test.decision.action):
        notes.append("what came after that did not happen, so nothing is known of it")
    return notes


def _of_the_first_share(test: PaperTest, rules: LoopRules, story: Happened) -> list[str]:
    if not rules.enable_ab_testing:
        return ["without A/B testing (enable_ab_testing = false) there would have been no test"]
    if not test.epochs:
        return []
    users, real = story.users_a_day, test.epochs[0].share
    canary = None if users is None else canary_share(users, rules.ab_test.initial_challenger_traffic)
    wanted = planned_shares(rules.ab_test, canary)[0]
    return [] if math.isclose(wanted, real) else [_not_given(wanted, real)]


def _of_the_ramp(test: PaperTest, rules: LoopRules) -> list[str]:
    """Where the share would have risen at another time, to another share, or not at all."""
    every_s = min(rules.check_interval_s, rules.busy_interval_s)
    notes = []
    for epoch, following in pairwise(test.epochs):
        real = following if following.begun_by == Event.STAGE_REACHED.value else None
        notes += _of_a_stage(epoch, real, every_s)
    if test.epochs:
        notes += _of_a_stage(test.epochs[-1], None, every_s)
    return notes


def _of_a_stage(epoch: PaperEpoch, real: PaperEpoch | None, every_s: float) -> list[str]:
    """`real`: the stage that the ramp went on to in earnest; None: it did not, or had not yet when all was decided."""
    rise = epoch.would_rise
    if rise is None:
        if real is None:
            return []
        here, there = wording.share(epoch.share), wording.share(real.share)
        return [f"the share would have stayed at {here} on {_time(real.started_at)}, when it rose to {there}"]
    apart_s = epoch.ended_at - rise.at
    if apart_s <= every_s and (real is None or math.isclose(rise.share, real.share)):
        return []
    earlier = f", {wording.duration(apart_s / 3600)} earlier" if real is not None and apart_s > every_s else ""
    said = f"the share would have risen to {wording.share(rise.share)} on {_time(rise.at)}{earlier}"
    if real is not None and math.isclose(rise.share, real.share):
        return [f"{said}; until it did, {wording.share(epoch.share)} of the users were asked"]
    return [said, _not_given(rise.share, epoch.share if real is None else real.share)]


def _not_given(wanted: float, real: float) -> str:
    return f"a share of {wording.share(wanted)} cannot be replayed: {wording.share(real)} of the users were asked"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
