"""Instants that a clock which was ahead has left in the loop's memory, and the way back without a person.

A host whose clock is a day ahead when Ratchet is installed, or a dataset is written, dates what it does a day ahead.
Once the clock is right nothing would count for a day: no sample is newer than the last dataset, no schedule is due, no
wait is over. So whatever lies ahead of now, and tells when something happened, happened now at the latest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from policies.snapshot import Retry
from proxy.loop.state import LoopState
from proxy.store.control import Experiment, Run
from proxy.store.store import Store

__all__ = ["Mended", "brought_back", "mended_instants"]

_PAST: Final = tuple(field.name for field in fields(LoopState) if field.name.endswith(("_at", "_since")))
"""When something happened; what is to happen is in `retries` and `retiring`."""
_TOLERANCE_S: Final = 1.0
"""Hosts that share a database agree to a tenth of a second, and clocks are adjusted all the time."""
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What is to be written, and why."""

    state: LoopState
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    reason: str


def brought_back(state: LoopState, now: float, longest_wait_s: float) -> LoopState:
    """`state` with nothing that happened after `now` (Unix seconds), and no wait that is longer than any that is meant:
    `longest_wait_s`, and none that was counted from such an instant."""
    ahead_s = _ahead_s(state, now)
    past: dict[str, Any] = {name: now for name, at in _happened(state) if at > now}
    retries = tuple(_sooner(retry, min(retry.at - ahead_s, now + longest_wait_s)) for retry in state.retries)
    retiring = tuple(replace(model, due_at=min(model.due_at, max(now, model.due_at - ahead_s)))
                     for model in state.retiring)  # fmt: skip
    return replace(state, **past, retries=retries, retiring=retiring)


async def mended_instants(store: Store, state: LoopState, now: float, longest_wait_s: float) -> Mended | None:
    """What has to be written so that nothing is dated ahead of `now`; None where nothing is. Raises TemporaryError."""
    now_us = int(now * 1e6)
    brought = brought_back(state, now, longest_wait_s)
    test = None if state.experiment_id is None else await store.experiments.get(state.experiment_id)
    run = None if state.run_id is None or brought == state else await store.runs.get(state.run_id)
    test_ahead_s = 0.0 if test is None else max(test.started_us, test.epoch_started_us) / 1e6 - now
    ahead_s = max(_ahead_s(state, now), test_ahead_s)
    if ahead_s <= _TOLERANCE_S and brought.retries == state.retries:
        return None
    said = f"was {_duration(ahead_s)} ahead and" if ahead_s > 0.0 else "was ahead when a wait began, and"
    return Mended(
        state=brought,
        experiments=() if test is None or test_ahead_s <= 0.0 else (_begun(test, now_us),),
        runs=() if run is None or run.started_us <= now_us else (replace(run, started_us=now_us),),
        reason=f"this host's clock {said} is right again: what was dated ahead of now is dated now, and samples, "
        "schedule and waits count from here",
    )


def _ahead_s(state: LoopState, now: float) -> float:
    """How far the clock was ahead, as far as `state` shows it."""
    return max([0.0, *(at - now for _, at in _happened(state))])


def _happened(state: LoopState) -> Iterator[tuple[str, float]]:
    for name in _PAST:
        at: float | None = getattr(state, name)
        if at is not None:
            yield name, at


def _sooner(retry: Retry, at: float) -> Retry:
    return replace(retry, at=at) if at < retry.at else retry


def _begun(test: Experiment, now_us: int) -> Experiment:
    return replace(test, started_us=min(test.started_us, now_us), epoch_started_us=min(test.epoch_started_us, now_us))


def _duration(seconds: float) -> str:
    if seconds >= _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _MINUTE_S:.1f} min" if seconds >= _MINUTE_S else f"{seconds:.1f} s"
