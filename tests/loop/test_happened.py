"""What the journal says of an experiment, entry by entry: pauses, silences, the judge, stages, the watch."""

from __future__ import annotations

from typing import Any

from policies.facts import JudgeFacts
from policies.vocabulary import HOLD
from proxy.loop.backtest.happened import Happened, Silence
from proxy.loop.backtest.looks import model_then
from proxy.store.tables.control import JournalEntry, JournalState

OLD, NEW = 1, 2


def entry(at: float, action: str, outcome: dict[str, Any] | None = None, **snapshot: Any) -> JournalEntry:
    """One that was done, with what the loop saw."""
    seen = {"champion": {"id": OLD}, "challenger": {"id": NEW}, **snapshot}
    return JournalEntry(
        seq=int(at), at_us=round(at * 1e6), action=action, state=JournalState.DONE, run_id=None, experiment_id=1,
        who="ada", why="so", inputs={"now": at, "snapshot": seen}, outcome=outcome or {}, finished_us=None,
        config_id=0, fence=1,
    )  # fmt: skip


def epoch(number: int, share: float, event: str) -> dict[str, Any]:
    """The outcome of what begins an epoch."""
    return {"experiment_id": 1, "epoch": number, "share": share, "slow_threshold_s": 1.0, "event": event}


def moved(event: str, was: str, becomes: str) -> dict[str, Any]:
    """The outcome of a change of phase."""
    return {"event": event, "phase": {"from": was, "to": becomes}}


def told(*entries: JournalEntry, until: float = 1000.0) -> Happened:
    """An experiment that began at 100 s, after these."""
    story = Happened()
    for one in (entry(100.0, "StartExperiment", epoch(3, 0.1, "deployed"), users_a_day=400.0), *entries):
        story.tell(one)
    story.close(until)
    return story


def test_only_a_higher_share_is_a_further_stage() -> None:
    story = told(
        entry(200.0, "RaiseShare", epoch(4, 0.5, "stage_reached")),
        entry(300.0, "BeginEpoch", epoch(5, 0.5, "terms_changed")),
        entry(400.0, "SetShare", epoch(6, 0.6, "share_changed")),
        entry(500.0, "BeginEpoch", epoch(7, 0.6, "terms_changed")),
        entry(600.0, "SetShare", epoch(8, 0.2, "share_changed")),
    )
    assert [one.goes_on for one in story.epochs] == [False, True, False, True, False, False]
    assert [one.by_hand for one in story.epochs] == [False, False, False, True, True, True]
    assert [one.ended_at for one in story.epochs] == [200.0, 300.0, 400.0, 500.0, 600.0, 1000.0]
    assert story.users_a_day == 400.0


def test_a_pause_is_from_when_to_when() -> None:
    story = told(
        entry(200.0, "SetPaused", {"event": "paused"}),
        entry(250.0, "SetPaused", {"event": "paused"}),
        entry(300.0, "SetPaused", {"event": "resumed"}),
        entry(400.0, "SetPaused", {"event": "resumed"}),
        entry(900.0, "SetPaused", {"event": "paused"}),
    )
    assert story.pauses == [(200.0, 300.0), (900.0, 1000.0)]
    assert [story.paused(at) for at in (199.0, 200.0, 299.0, 300.0, 950.0)] == [False, True, True, False, True]


def test_a_loop_that_was_paused_before_still_is() -> None:
    story = Happened()
    story.tell(entry(100.0, "StartExperiment", epoch(3, 0.1, "deployed"), paused=True))
    story.tell(entry(150.0, "SetPaused", {"event": "resumed"}))
    story.close(1000.0)
    assert story.pauses == [(100.0, 150.0)]


def test_a_model_is_silent_as_long_as_is_written_down_and_healthy_everywhere_else() -> None:
    down = {"challenger": {"id": NEW, "healthy": False, "unhealthy_since": 180.0}}
    asked_in_vain = {"challenger": {"id": NEW, "healthy": None, "unhealthy_since": 180.0}}
    story = told(entry(200.0, HOLD, **down), entry(230.0, HOLD, **asked_in_vain), entry(400.0, HOLD))
    assert story.silences == {NEW: [Silence(180.0, 200.0, False), Silence(180.0, 230.0, None)]}
    seen = [model_then(story, NEW, "new", at) for at in (179.0, 190.0, 220.0, 231.0)]
    assert [model.healthy for model in seen] == [True, False, None, True]
    assert [model.unhealthy_since for model in seen] == [None, 180.0, 180.0, None]
    assert model_then(story, OLD, "old", 190.0).healthy


def test_the_judge_counts_from_when_that_was_known() -> None:
    def judged(*, counts: bool) -> dict[str, Any]:
        return {"facts": {"judge": {"scorer": "judge:m", "counts": counts, "trust": "rectified"}}}

    story = told(
        entry(200.0, HOLD, experiment=judged(counts=False)), entry(300.0, HOLD, experiment=judged(counts=True))
    )
    assert [story.judge(at) for at in (150.0, 250.0, 300.0)] == [
        JudgeFacts(scorer="judge:m", counts=counts) for counts in (False, False, True)
    ]
    assert told(entry(200.0, HOLD, experiment={"facts": {"judge": None}})).judge(300.0) is None
    assert told().judge(300.0) is None


def test_a_watch_ends_with_its_phase_and_nothing_comes_after_it() -> None:
    story = told(
        entry(200.0, "BeginPromotion", moved("won", "testing", "promoting")),
        entry(210.0, "Promote", moved("promoted", "promoting", "watching")),
        entry(300.0, "ReleaseControl", moved("control_released", "watching", "watching")),
    )
    assert (story.ended_at, story.promoted_at, story.released_at) == (210.0, 210.0, 300.0)
    assert story.watching
    story.tell(entry(400.0, "ReturnTraffic", moved("returned", "watching", "idle")))
    assert story.watch_ended is not None
    assert (story.watch_ended.at, story.watch_ended.action) == (400.0, "ReturnTraffic")
    assert story.over
    sent_back = told(entry(200.0, "RollBack", moved("rolled_back", "testing", "idle")))
    assert sent_back.over
    assert sent_back.promoted_at is None
