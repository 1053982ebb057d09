"""The watch of a promotion, for the experiment that it followed: the new champion beside the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.actions import TAGS, FinishWatch, HaltWatch, ReturnTraffic
from policies.records import Arm
from policies.rows import Experiment
from proxy.status import Status, WatchStatus
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry

__all__ = ["WATCH_ENDS", "PastWatch", "end_of_watch", "running_watch", "watch_of"]

WATCH_ENDS: Final = (TAGS[FinishWatch], TAGS[ReturnTraffic], TAGS[HaltWatch])
_SAME_S: Final = 1.0
"""An experiment ends in the moment in which its watch begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastWatch:
    """What both models did since the promotion, as `WatchStatus` has it."""

    requests: int
    users: int
    control_requests: int | None
    control_users: int | None
    holdback_share: float
    guardrails: tuple[Mapping[str, Any], ...] = ()


async def watch_of(store: Store, status: Status, experiment: Experiment | None) -> PastWatch | WatchStatus | None:
    """The watch that followed an experiment, over or not; None where there was none, or its version kept none."""
    if experiment is None or experiment.ended_us is None:
        return None
    if (running := running_watch(status, experiment)) is not None:
        return running
    stage = next((stage for stage in experiment.stages if stage.watch), None)
    if stage is None:
        return None
    parts = [await store.statistics.arms(experiment.id, epoch) for epoch in experiment.watch_epochs]
    new, old = [arms[Arm.CHAMPION] for arms in parts], [arms[Arm.CONTROL] for arms in parts]
    end = await end_of_watch(store, experiment)
    return PastWatch(
        requests=sum(arm.requests for arm in new),
        users=max(arm.users for arm in new),
        control_requests=sum(arm.requests for arm in old) if stage.share < 1.0 else None,
        control_users=max(arm.users for arm in old) if stage.share < 1.0 else None,
        holdback_share=1.0 - stage.share,
        guardrails=() if end is None else tuple((end.inputs.get("watch") or {}).get("guardrails", ())),
    )


def running_watch(status: Status, experiment: Experiment) -> WatchStatus | None:
    """The watch under way, where it is this experiment's."""
    watch = status.watch
    if watch is None or experiment.ended_us is None:
        return None
    promoted_at = watch.at - watch.elapsed_hours * 3600
    return watch if abs(promoted_at - experiment.ended_us / 1e6) < _SAME_S else None


async def end_of_watch(store: Store, experiment: Experiment) -> JournalEntry | None:
    """The decision that ended it; None while it runs."""
    if experiment.ended_us is None:
        return None
    found = await store.journal.acted(WATCH_ENDS, experiment.ended_us, limit=1)
    return found[0] if found and found[0].experiment_id == experiment.id else None
