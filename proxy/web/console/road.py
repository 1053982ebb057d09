"""The road of a challenger: checked, shadowed, tested, watched; what each step found, when, and where to read more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from policies import wording
from policies.actions import TAGS, FinishWatch, HaltWatch, ReturnTraffic, SetShare
from policies.assessment import Verdict
from policies.experiment_terms import ABTestConfig
from policies.rows import Check, CheckKind, Experiment
from policies.vocabulary import VERDICTS
from proxy.status import Status
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry
from proxy.web.checks.documents import verdict_of_check
from proxy.web.console.checks import report_of
from proxy.web.console.watched import end_of_watch, running_watch
from proxy.web.console.wording import check_verdict

__all__ = ["RoadStep", "road_of"]

_CHECKS: Final = 50
_PASSED_OVER: Final = "A person ended it and went on to the test."
_WATCH_ENDS: Final = {
    TAGS[FinishWatch]: ("done", "Watched", "The watch window is over; the new champion stays."),
    TAGS[ReturnTraffic]: ("failed", "Undone", "All users are on the old champion again."),
    TAGS[HaltWatch]: ("failed", "Stopped", "A guardrail broke, but the old champion did not answer."),
}
_FAILED: Final = ("reject", "no_answer", "cancelled", "lost")
_OPEN: Final = ("undecided", "hold", "passed_over")
_LOST: Final = ("roll_back", "withdrawn", "reject", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadStep:
    """One step."""

    name: str
    state: Literal["done", "open", "failed", "now", "next", "off"]
    """`open`: it has ended, and has shown nothing."""
    verdict: str = ""
    """In a word or two."""
    sentence: str = ""
    at_s: float | None = None
    """When it began, Unix seconds; of a step that ended the road, when it ended."""
    link: str | None = None
    answers: str | None = None
    """Where the compared answers can be read side by side."""


async def road_of(
    store: Store, status: Status, rules: ABTestConfig, challenger_id: int, experiment: Experiment | None
) -> list[RoadStep]:
    """The steps of a challenger, and of the experiment that it had; all of them, also those to come."""
    until_us = None if experiment is None else experiment.started_us
    found = [
        check
        for check in await store.checks.list(challenger_id, _CHECKS)
        if until_us is None or check.started_us <= until_us
    ]
    gate, shadow = (
        next((one for one in found if one.kind is kind), None) for kind in (CheckKind.GATE, CheckKind.SHADOW)
    )
    ended = any(check is not None and check.verdict in _FAILED for check in (gate, shadow))
    steps = [_checked("Check", gate, status, ended=ended or experiment is not None)]
    if shadow is not None or (rules.shadow_share and experiment is None):
        steps.append(_checked("Shadow", shadow, status, ended=ended or experiment is not None))
    else:
        steps.append(RoadStep(name="Shadow", state="off", sentence="No copies of requests were sent to it."))
    steps.append(await _tested(store, status, experiment, ended=ended))
    steps.append(await _watched(store, status, experiment, ended=ended))
    return steps


def _checked(name: str, check: Check | None, status: Status, *, ended: bool) -> RoadStep:
    if check is None:
        sentence = "It was not checked before its test." if ended else ""
        return RoadStep(name=name, state="off" if ended else "next", sentence=sentence)
    reasons: Sequence[Any] = report_of(check)["reasons"]
    running = check.ended_us is None
    if running and status.check is not None and status.check.id == check.id and status.check.reasons:
        reasons = status.check.reasons
    found = verdict_of_check(check)
    sentence = str(reasons[0]) if reasons else _PASSED_OVER if found == "passed_over" else ""
    return RoadStep(
        name=name,
        state="now" if running else "failed" if found in _FAILED else "open" if found in _OPEN else "done",
        verdict=check_verdict(found),
        sentence=_capital(sentence),
        at_s=check.started_us / 1e6,
        link=f"/checks/{check.id}",
        answers=f"/checks/{check.id}/side-by-side",
    )


async def _tested(store: Store, status: Status, experiment: Experiment | None, *, ended: bool) -> RoadStep:
    """The test, with its stages: every share that the challenger had."""
    if experiment is None:
        return RoadStep(name="Test", state="off" if ended else "next")
    running = status.experiment is not None and status.experiment.id == experiment.id
    kept = status.experiment.assessment if running and status.experiment is not None else None
    sentences = [await _shares(store, experiment)]
    if kept is not None and kept.verdict is Verdict.CONTINUE and kept.next_stage is not None:
        sentences.append(f"Next: {wording.share(kept.next_stage.share)}.")
    if experiment.tested_epoch > 1:
        sentences.append(f"Epoch {experiment.tested_epoch}.")
    verdict = experiment.verdict or (kept.verdict.value if kept is not None else "continue")
    return RoadStep(
        name="Test",
        state="now" if experiment.ended_us is None else "failed" if experiment.verdict in _LOST else "done",
        verdict=VERDICTS.get(verdict, verdict),
        sentence=" ".join(sentences).strip(),
        at_s=experiment.started_us / 1e6,
        link=f"/experiment/{experiment.id}",
    )


async def _shares(store: Store, experiment: Experiment) -> str:
    """The shares that the challenger had, of what its row knows, or the journal where an earlier version wrote that."""
    stages = [wording.share(stage.share) for stage in experiment.stages if not stage.watch and stage.share > 0.0]
    if len(stages) < 2:
        changes = await store.journal.acted((TAGS[SetShare],), experiment.started_us, experiment.ended_us)
        changed = [share for entry in changes if (share := _share_of(entry, experiment)) is not None]
        stages = changed or stages
        if not changed:
            return f"{stages[0]} of the users." if stages else ""
    return f"Shares of the users: {', then '.join(stages)}."


def _share_of(entry: JournalEntry, experiment: Experiment) -> str | None:
    """The share that a change gave to the challenger of this experiment."""
    action = entry.inputs.get("action")
    share = action.get("share") if isinstance(action, dict) else None
    return wording.share(share) if entry.experiment_id == experiment.id and isinstance(share, int | float) else None


async def _watched(store: Store, status: Status, experiment: Experiment | None, *, ended: bool) -> RoadStep:
    """What became of it once it had all users."""
    if experiment is None or experiment.ended_us is None:
        return RoadStep(name="Watch", state="off" if ended else "next")
    if experiment.verdict not in ("promote", "returned"):
        return RoadStep(name="Watch", state="off")
    watch, end = running_watch(status, experiment), await end_of_watch(store, experiment)
    if end is None:
        if watch is None:
            return RoadStep(name="Watch", state="next")
        return RoadStep(name="Watch", state="now", verdict="Running", sentence=" ".join(watch.reasons))
    state, verdict, sentence = _WATCH_ENDS[end.action]
    return RoadStep(
        name="Watch",
        state="failed" if state == "failed" else "done",
        verdict=verdict,
        sentence=sentence,
        at_s=end.at_us / 1e6,
        link=f"/history/{end.seq}",
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
