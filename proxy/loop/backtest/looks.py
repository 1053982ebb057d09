"""A look on paper: when the loop looks, what it would have seen, and the verdicts in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.actions import tag_of
from policies.plan import LoopRules, Plan
from policies.snapshot import ModelView
from proxy.loop.backtest.happened import Happened
from proxy.loop.backtest.paper import PaperVerdict

__all__ = ["Verdicts", "look_times", "model_then"]


@dataclass(slots=True)
class Verdicts:
    """Each verdict, at its first look, and at the first one at which something came of it."""

    found: list[PaperVerdict] = field(default_factory=list)

    def note(self, verdict: str, decided: Plan, now: float, *, acts: bool) -> None:
        """What a look at `now` said. `acts`: something follows from it."""
        action = tag_of(decided.action) if acts and decided.action is not None else None
        if any((one.verdict, one.action) == (verdict, action) for one in self.found):
            return
        self.found.append(PaperVerdict(at=now, verdict=verdict, action=action, reasons=decided.reasons))


def look_times(since: float, until: float, rules: LoopRules) -> list[float]:
    """When the loop looks while a challenger has users; the last look is at the end of the data."""
    every = min(rules.check_interval_s, rules.busy_interval_s)
    return [*(since + every * n for n in range(1, int((until - since) / every) + 1)), until]


def model_then(story: Happened, model_id: int, name: str, now: float) -> ModelView:
    """The model as it was at `now`: healthy where nothing else was written down."""
    silence = story.silence(model_id, now)
    return ModelView(
        id=model_id,
        name=name,
        ready=True,
        healthy=True if silence is None else silence.healthy,
        unhealthy_since=None if silence is None else silence.since,
    )
