"""Timestamps of the loop's state that lie ahead of the clock, and the state without them.

A host whose clock is a day ahead dates what it does a day ahead. Once the clock is right nothing would count for a day:
no sample is newer than the last dataset, no schedule is due, no wait is over. So whatever tells when something
happened, and lies ahead of now, happened now at the latest. Unix seconds throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from policies.state import LoopState, Retry

_T = TypeVar("_T")


def not_ahead(state: LoopState, now: float, longest_wait_s: float) -> LoopState:
    """`state` with nothing that happened after `now` (Unix seconds), and no wait that is longer than any that is meant:
    `longest_wait_s`, and none that was counted from such a time."""
    ahead_s = seconds_ahead(state, now)
    past = {name: now for name, at in timestamps(state) if at > now}
    retries = tuple(_sooner(retry, min(retry.at - ahead_s, now + longest_wait_s)) for retry in state.retries)
    retiring = tuple(
        replace(
            model,
            due_at=min(model.due_at, max(now, model.due_at - ahead_s)),
            retry=model.retry and _sooner(model.retry, min(model.retry.at - ahead_s, now + longest_wait_s)),
        )
        for model in state.ledger.retiring
    )
    state = with_timestamps(state, past)
    return replace(state, retries=retries, ledger=replace(state.ledger, retiring=retiring))


def seconds_ahead(state: LoopState, now: float) -> float:
    """How far the clock was ahead, as far as `state` shows it."""
    return max([0.0, *(at - now for _, at in timestamps(state))])


def timestamps(state: Any, within: str = "") -> Iterator[tuple[str, float]]:
    """When something happened, by the dotted path of the field; what is to happen is in `retries` and `retiring`."""
    for field in fields(state):
        value, path = getattr(state, field.name), f"{within}{field.name}"
        if is_dataclass(value):
            yield from timestamps(value, f"{path}.")
        elif value is not None and field.name.endswith(("_at", "since")):
            yield path, value


def with_timestamps(state: _T, times: Mapping[str, float]) -> _T:
    """`state` with these timestamps, by their paths."""
    changed: dict[str, Any] = {}
    for path, at in times.items():
        name, _, inner = path.partition(".")
        part = changed.get(name, getattr(state, name))
        changed[name] = with_timestamps(part, {inner: at}) if inner else at
    return cast("_T", replace(cast("Any", state), **changed))


def _sooner(retry: Retry, at: float) -> Retry:
    return replace(retry, at=at) if at < retry.at else retry
