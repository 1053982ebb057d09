"""Timestamps that a clock which was ahead has left in the loop's memory, and the way back without a person.

A host whose clock is a day ahead when Ratchet is installed, or a dataset is written, dates what it does a day ahead.
Once the clock is right nothing would count for a day: no sample is newer than the last dataset, no schedule is due, no
wait is over. So whatever lies ahead of now, and tells when something happened, happened now at the latest.

It may be the other way round: the clock was right, and is set back for a moment. Then what was brought back is put
where it was once the clock has jumped forward again: else a test would seem to have lasted as long as the jump was far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from policies.rows import Experiment, Run
from policies.state import LoopState
from policies.transition import not_ahead, seconds_ahead, timestamps, with_timestamps
from policies.wording import span
from proxy.clock import Clock
from proxy.store.store import Store

__all__ = ["ClockRepair", "Repair"]

_TOLERANCE_S: Final = 1.0
"""Hosts that share a database agree to a tenth of a second, and clocks are adjusted all the time."""
_JUMP_S: Final = 60.0
"""The wall clock has jumped where it went further than the monotonic one by so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What is to be written, and why."""

    state: LoopState
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    reason: str


@dataclass(slots=True)
class _Corrected:
    """What was changed last, and by which clocks."""

    at: float
    """Unix seconds, to which all of it was dated."""
    monotonic: float
    happened: Mapping[str, float]
    """Fields of the state, as they were."""
    test: Experiment | None
    """As it was."""


class ClockRepair:
    """Keeps the loop's timestamps in step with the clock, over its jumps to and fro in the life of this process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._corrected: _Corrected | None = None

    async def repair(self, state: LoopState, now: float, longest_wait_s: float) -> Repair | None:
        """What has to be written at `now` (Unix seconds); None where that is nothing. Raises TemporaryError."""
        experiment_id = getattr(state.phase, "experiment_id", None)
        test = None if experiment_id is None else await self._store.experiments.get(experiment_id)
        if (put_back := self._put_back(state, test, now)) is not None:
            return put_back
        found = await _repair(self._store, state, test, now, longest_wait_s)
        if found is not None:
            self._remember(state, test if found.experiments else None, now)
        return found

    def _remember(self, state: LoopState, test: Experiment | None, now: float) -> None:
        """As all was before the clock went back, be it in several steps."""
        happened = {name: at for name, at in timestamps(state) if at > now}
        if (earlier := self._corrected) is not None:
            happened = {name: earlier.happened.get(name, at) if at == earlier.at else at
                        for name, at in happened.items()}  # fmt: skip
            if test is not None and earlier.test is not None and earlier.test.id == test.id:
                test = earlier.test
        self._corrected = _Corrected(now, self._clock.monotonic(), happened, test)

    def _put_back(self, state: LoopState, test: Experiment | None, now: float) -> Repair | None:
        """What was dated back and is still as it was left, where the clock has jumped forward since."""
        corrected = self._corrected
        if corrected is None:
            return None
        jumped_s = (now - corrected.at) - (self._clock.monotonic() - corrected.monotonic)
        if jumped_s < _JUMP_S:
            return None
        present = dict(timestamps(state))
        again = {name: min(at, now) for name, at in corrected.happened.items() if present.get(name) == corrected.at}
        was, earlier = corrected.test, None
        if was is not None and test is not None and test.id == was.id:
            earlier = _as_before(test, was, int(corrected.at * 1e6), int(now * 1e6))
        left = any(at > now for at in corrected.happened.values())  # it has jumped a part of the way
        self._corrected = replace(corrected, at=now, monotonic=self._clock.monotonic()) if left else None
        if not again and earlier is None:
            return None
        return Repair(
            state=with_timestamps(state, again),
            experiments=() if earlier is None else (earlier,),
            reason=f"this host's clock had gone back and jumped forward by {span(jumped_s)}: what was dated anew "
            "meanwhile is dated as before",
        )


async def _repair(
    store: Store, state: LoopState, test: Experiment | None, now: float, longest_wait_s: float
) -> Repair | None:
    """What has to be written so that nothing is dated ahead of `now`; None where nothing is. Raises TemporaryError."""
    now_us = int(now * 1e6)
    corrected = not_ahead(state, now, longest_wait_s)
    run_id = None if corrected == state else getattr(state.phase, "run_id", None)
    run = None if run_id is None else await store.runs.get(run_id)
    test_ahead_s = 0.0 if test is None else max(test.started_us, test.epoch_started_us) / 1e6 - now
    ahead_s = max(seconds_ahead(state, now), test_ahead_s)
    if ahead_s <= _TOLERANCE_S and corrected.all_retries == state.all_retries:
        return None
    said = f"was {span(ahead_s)} ahead and" if ahead_s > 0.0 else "was ahead when a wait began, and"
    return Repair(
        state=corrected,
        experiments=() if test is None or test_ahead_s <= 0.0 else (_begun(test, now_us),),
        runs=() if run is None or run.started_us <= now_us else (replace(run, started_us=now_us),),
        reason=f"this host's clock {said} is right again: what was dated ahead of now is dated now, and samples, "
        "schedule and waits count from here",
    )


def _begun(test: Experiment, now_us: int) -> Experiment:
    stages = (replace(stage, started_us=min(stage.started_us, now_us)) for stage in test.stages)
    test = test.with_stages(stages)
    return replace(test, started_us=min(test.started_us, now_us), epoch_started_us=min(test.epoch_started_us, now_us))


def _as_before(test: Experiment, was: Experiment, dated_us: int, now_us: int) -> Experiment | None:
    """`test` with the timestamps of before where they are still those that it was given; None where nothing changes."""
    started_us, epoch_us = test.started_us, test.epoch_started_us
    before = {stage.epoch: stage.started_us for stage in was.stages}
    stages = (
        replace(stage, started_us=min(before.get(stage.epoch, dated_us), now_us))
        if stage.started_us == dated_us
        else stage
        for stage in test.stages
    )
    changed = replace(
        test.with_stages(stages),
        started_us=min(was.started_us, now_us) if started_us == dated_us else started_us,
        epoch_started_us=min(was.epoch_started_us, now_us) if epoch_us == dated_us else epoch_us,
    )
    return None if changed == test.with_stages(test.stages) else changed
