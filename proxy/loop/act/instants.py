"""Instants that a clock which was ahead has left in the loop's memory, and the way back without a person.

A host whose clock is a day ahead when Ratchet is installed, or a dataset is written, dates what it does a day ahead.
Once the clock is right nothing would count for a day: no sample is newer than the last dataset, no schedule is due, no
wait is over. So whatever lies ahead of now, and tells when something happened, happened now at the latest.

It may be the other way round: the clock was right, and is set back for a moment. Then what was brought back is put
where it was once the clock has jumped forward again: else a test would seem to have lasted as long as the jump was far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final, TypeVar, cast

from policies.rows import Experiment, Run
from policies.state import LoopState, Retry
from proxy.clock import Clock
from proxy.store.store import Store

__all__ = ["Instants", "Mended", "brought_back", "dated", "instants_of"]

_T = TypeVar("_T")
_TOLERANCE_S: Final = 1.0
"""Hosts that share a database agree to a tenth of a second, and clocks are adjusted all the time."""
_JUMP_S: Final = 60.0
"""The wall clock has jumped where it went further than the monotonic one by so much."""
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What is to be written, and why."""

    state: LoopState
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    reason: str


@dataclass(slots=True)
class _Brought:
    """What was changed, and by which clocks."""

    at: float
    """Unix seconds, to which all of it was dated."""
    monotonic: float
    happened: Mapping[str, float]
    """Fields of the state, as they were."""
    test: Experiment | None
    """As it was."""


class Instants:
    """Keeps the loop's instants in step with the clock, over its jumps to and fro in the life of this process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._brought: _Brought | None = None

    async def mended(self, state: LoopState, now: float, longest_wait_s: float) -> Mended | None:
        """What has to be written at `now` (Unix seconds); None where that is nothing. Raises TemporaryError."""
        experiment_id = getattr(state.phase, "experiment_id", None)
        test = None if experiment_id is None else await self._store.experiments.get(experiment_id)
        if (put_back := self._put_back(state, test, now)) is not None:
            return put_back
        mended = await _mended(self._store, state, test, now, longest_wait_s)
        if mended is not None:
            self._remember(state, test if mended.experiments else None, now)
        return mended

    def _remember(self, state: LoopState, test: Experiment | None, now: float) -> None:
        """As all was before the clock went back, be it in several steps."""
        happened = {name: at for name, at in instants_of(state) if at > now}
        if (earlier := self._brought) is not None:
            happened = {name: earlier.happened.get(name, at) if at == earlier.at else at
                        for name, at in happened.items()}  # fmt: skip
            if test is not None and earlier.test is not None and earlier.test.id == test.id:
                test = earlier.test
        self._brought = _Brought(now, self._clock.monotonic(), happened, test)

    def _put_back(self, state: LoopState, test: Experiment | None, now: float) -> Mended | None:
        """What was brought back and is still as it was left, where the clock has jumped forward since."""
        brought = self._brought
        if brought is None:
            return None
        jumped_s = (now - brought.at) - (self._clock.monotonic() - brought.monotonic)
        if jumped_s < _JUMP_S:
            return None
        present = dict(instants_of(state))
        again = {name: min(at, now) for name, at in brought.happened.items() if present.get(name) == brought.at}
        was, earlier = brought.test, None
        if was is not None and test is not None and test.id == was.id:
            earlier = _as_before(test, was, int(brought.at * 1e6), int(now * 1e6))
        left = any(at > now for at in brought.happened.values())  # it has jumped a part of the way
        self._brought = replace(brought, at=now, monotonic=self._clock.monotonic()) if left else None
        if not again and earlier is None:
            return None
        return Mended(
            state=dated(state, again),
            experiments=() if earlier is None else (earlier,),
            reason=f"this host's clock had gone back and jumped forward by {_duration(jumped_s)}: what was dated anew "
            "meanwhile is dated as before",
        )


def brought_back(state: LoopState, now: float, longest_wait_s: float) -> LoopState:
    """`state` with nothing that happened after `now` (Unix seconds), and no wait that is longer than any that is meant:
    `longest_wait_s`, and none that was counted from such an instant."""
    ahead_s = _ahead_s(state, now)
    past = {name: now for name, at in instants_of(state) if at > now}
    retries = tuple(_sooner(retry, min(retry.at - ahead_s, now + longest_wait_s)) for retry in state.retries)
    retiring = tuple(
        replace(
            model,
            due_at=min(model.due_at, max(now, model.due_at - ahead_s)),
            retry=model.retry and _sooner(model.retry, min(model.retry.at - ahead_s, now + longest_wait_s)),
        )
        for model in state.ledger.retiring
    )
    state = dated(state, past)
    return replace(state, retries=retries, ledger=replace(state.ledger, retiring=retiring))


async def _mended(
    store: Store, state: LoopState, test: Experiment | None, now: float, longest_wait_s: float
) -> Mended | None:
    """What has to be written so that nothing is dated ahead of `now`; None where nothing is. Raises TemporaryError."""
    now_us = int(now * 1e6)
    brought = brought_back(state, now, longest_wait_s)
    run_id = None if brought == state else getattr(state.phase, "run_id", None)
    run = None if run_id is None else await store.runs.get(run_id)
    test_ahead_s = 0.0 if test is None else max(test.started_us, test.epoch_started_us) / 1e6 - now
    ahead_s = max(_ahead_s(state, now), test_ahead_s)
    if ahead_s <= _TOLERANCE_S and _same_waits(brought, state):
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
    return max([0.0, *(at - now for _, at in instants_of(state))])


def instants_of(state: Any, within: str = "") -> Iterator[tuple[str, float]]:
    """When something happened, by the dotted path of the field; what is to happen is in `retries` and `retiring`."""
    for field in fields(state):
        value, path = getattr(state, field.name), f"{within}{field.name}"
        if is_dataclass(value):
            yield from instants_of(value, f"{path}.")
        elif value is not None and field.name.endswith(("_at", "since")):
            yield path, value


def dated(state: _T, instants: Mapping[str, float]) -> _T:
    """`state` with these instants, by their paths."""
    changed: dict[str, Any] = {}
    for path, at in instants.items():
        name, _, inner = path.partition(".")
        part = changed.get(name, getattr(state, name))
        changed[name] = dated(part, {inner: at}) if inner else at
    return cast("_T", replace(cast("Any", state), **changed))


def _same_waits(one: LoopState, other: LoopState) -> bool:
    return one.all_retries == other.all_retries


def _sooner(retry: Retry, at: float) -> Retry:
    return replace(retry, at=at) if at < retry.at else retry


def _begun(test: Experiment, now_us: int) -> Experiment:
    return replace(test, started_us=min(test.started_us, now_us), epoch_started_us=min(test.epoch_started_us, now_us))


def _as_before(test: Experiment, was: Experiment, dated_us: int, now_us: int) -> Experiment | None:
    """`test` with the instants of before where they are still those that it was given; None where nothing changes."""
    started_us, epoch_us = test.started_us, test.epoch_started_us
    changed = replace(
        test,
        started_us=min(was.started_us, now_us) if started_us == dated_us else started_us,
        epoch_started_us=min(was.epoch_started_us, now_us) if epoch_us == dated_us else epoch_us,
    )
    return None if changed == test else changed


def _duration(seconds: float) -> str:
    if seconds >= _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _MINUTE_S:.1f} min" if seconds >= _MINUTE_S else f"{seconds:.1f} s"
