"""What the journal says of an experiment: its epochs, its end, pauses, its judge, and the models' health.

Entries are read one after the other and only these facts are kept of them. A model's health is known where somebody
looked and wrote it down: an entry that says "silent since then" says so of all the time in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policies.facts import JudgeFacts
from policies.lifecycle import Event, Phase
from policies.rows import Experiment
from policies.vocabulary import HOLD
from proxy.loop.backtest.paper import PaperEpoch, RealDecision
from proxy.loop.codec import from_json
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry

__all__ = ["Happened", "Silence", "what_happened"]

_TESTING: Final = (Phase.TESTING.value, Phase.PROMOTING.value)
"""Phases in which the challenger has its share of the users."""
_WATCHING: Final = Phase.WATCHING.value
_STAGES: Final = (Event.STAGE_REACHED.value, Event.SHARE_CHANGED.value)
_ROLES: Final = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True)
class Silence:
    """A model was not seen healthy in that time (Unix seconds)."""

    since: float
    until: float
    healthy: bool | None
    """False: it did not answer; None: it could not be asked."""


@dataclass(slots=True, kw_only=True)
class Happened:
    """What the journal says of an experiment."""

    epochs: list[PaperEpoch] = field(default_factory=list)
    users_a_day: float | None = None
    """As known when it began."""
    history_days: float | None = None
    """How much of the users' past it was adjusted by, if at all; None where that was not written down."""
    decided: RealDecision | None = None
    ended_at: float | None = None
    """When the test ended, Unix seconds; None: it still runs."""
    promoted_at: float | None = None
    released_at: float | None = None
    """When the users that were held back were given to the new champion, before the watch ended."""
    watch_ended: RealDecision | None = None
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """From when to when, Unix seconds."""
    silences: dict[int, list[Silence]] = field(default_factory=dict)
    """By model."""
    judges: list[tuple[float, JudgeFacts | None]] = field(default_factory=list)
    """The judge, and whether it counted, since when (Unix seconds) that was known."""
    _paused_since: float | None = None

    def tell(self, entry: JournalEntry) -> None:
        """The next thing that was done while it ran, or was decided not to be."""
        at, outcome = float(entry.inputs.get("now", entry.at_us / 1e6)), entry.outcome or {}
        self._note_snapshot(entry.inputs.get("snapshot", {}), at)
        if not self.epochs:
            self.history_days = entry.inputs.get("rules", {}).get("ab_test", {}).get("history_days")
        if entry.action == HOLD:
            return
        self._note_pause(outcome.get("event"), at)
        phase = outcome.get("phase", {})
        was, becomes = phase.get("from"), phase.get("to")
        if self.ended_at is None:
            self._tell_test(entry, outcome, at, was, becomes)
        elif was == _WATCHING != becomes:
            self.watch_ended = _decided(entry, at)
        elif outcome.get("event") == Event.CONTROL_RELEASED.value:
            self.released_at = at

    @property
    def watching(self) -> bool:
        """Promoted, and the watch goes on."""
        return self.promoted_at is not None and self.watch_ended is None

    @property
    def over(self) -> bool:
        """Nothing of what comes concerns it."""
        return self.ended_at is not None and not self.watching

    def close(self, until: float) -> None:
        """The journal ends here."""
        if self.ended_at is None:
            self._end_epoch(until)
        if self._paused_since is not None:
            self.pauses.append((self._paused_since, until))
            self._paused_since = None

    def paused(self, now: float) -> bool:
        """Whether a person had paused the loop."""
        return any(since <= now < until for since, until in self.pauses)

    def silence(self, model_id: int, now: float) -> Silence | None:
        """The time around `now` in which the model is known not to have been healthy."""
        return next((one for one in self.silences.get(model_id, ()) if one.since <= now <= one.until), None)

    def judge(self, now: float) -> JudgeFacts | None:
        """As it was at `now`; before the first decision that was written down, as that one says."""
        known = [judge for at, judge in self.judges if at <= now]
        return known[-1] if known else self.judges[0][1] if self.judges else None

    def _tell_test(self, entry: JournalEntry, outcome: Mapping[str, Any], at: float, was: Any, becomes: Any) -> None:
        if "epoch" in outcome and was != _WATCHING:  # a part of the watch: its promotion was dated ahead
            self._end_epoch(at)
            self.epochs.append(self._epoch(entry, outcome, at))
        if self.decided is None and was == Phase.TESTING.value != becomes:
            self.decided = _decided(entry, at)
        if was in _TESTING and becomes not in _TESTING:
            self.ended_at = at
            self._end_epoch(at)
            self.promoted_at = at if becomes == _WATCHING else None

    def _epoch(self, entry: JournalEntry, outcome: Mapping[str, Any], at: float) -> PaperEpoch:
        before, event = self.epochs[-1] if self.epochs else None, str(outcome.get("event", ""))
        return PaperEpoch(
            epoch=outcome["epoch"],
            share=outcome["share"],
            slow_threshold_s=outcome["slow_threshold_s"],
            started_at=at,
            ended_at=at,
            begun_by=event,
            by_hand=event == Event.SHARE_CHANGED.value
            or (event == Event.TERMS_CHANGED.value and before is not None and before.by_hand),
            goes_on=event in _STAGES and before is not None and outcome["share"] > before.share,
        )

    def _end_epoch(self, at: float) -> None:
        if self.epochs:
            self.epochs[-1] = replace(self.epochs[-1], ended_at=at)

    def _note_snapshot(self, snapshot: Mapping[str, Any], at: float) -> None:
        if not self.epochs:
            self.users_a_day = snapshot.get("users_a_day")
            self._paused_since = at if snapshot.get("paused") else None
        facts = (snapshot.get("experiment") or {}).get("facts", {})
        if "judge" in facts:
            judge = facts["judge"]
            self.judges.append((at, None if judge is None else from_json(JudgeFacts, judge)))
        for role in _ROLES:
            model = snapshot.get(role)
            if model is not None and (since := model.get("unhealthy_since")) is not None:
                self.silences.setdefault(model["id"], []).append(Silence(since, at, model.get("healthy")))

    def _note_pause(self, event: Any, at: float) -> None:
        if event == Event.PAUSED.value and self._paused_since is None:
            self._paused_since = at
        elif event == Event.RESUMED.value and self._paused_since is not None:
            self.pauses.append((self._paused_since, at))
            self._paused_since = None


async def what_happened(store: Store, rows: Sequence[Experiment], until: float) -> dict[int, Happened]:
    """By experiment. One experiment runs at a time, so what is done meanwhile is done to it."""
    stories = {row.id: Happened() for row in rows}
    if not rows:
        return stories
    first = min(row.started_us for row in rows) / 1e6
    running: Happened | None = None
    async for entry in store.journal.done(round((first - 1) * 1e6), round((until + 1) * 1e6)):
        begun = (entry.outcome or {}).get("experiment_id")
        running = running if begun is None else stories.get(begun)
        if running is not None and not running.over:
            running.tell(entry)
    for story in stories.values():
        story.close(until)
    return stories


def _decided(entry: JournalEntry, at: float) -> RealDecision:
    return RealDecision(at=at, action=entry.action, who=entry.who, why=entry.why)
