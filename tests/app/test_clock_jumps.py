"""Somebody sets the clock: it is counted by direction, small corrections are not, and it is said without flooding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.app import clock_jumps
from proxy.app.clock_jumps import watch_clock
from proxy.clock import JumpWatch, ManualClock
from proxy.tasks import cancel_and_wait, spawn


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6))))
def test_a_jump_is_what_wall_time_went_on_too_much_or_too_little(steps: Iterable[tuple[float, float]]) -> None:
    clock = ManualClock()
    watch = JumpWatch(clock)
    for passed_s, set_s in steps:
        clock.advance(passed_s)
        clock.jump(set_s)
        if abs(abs(set_s) - 1.0) > 1e-3:
            assert watch.look() == pytest.approx(set_s if abs(set_s) > 1 else 0.0, abs=1e-3)
        else:
            watch.look()


async def test_a_clock_that_is_a_day_ahead_for_a_second_is_counted_in_both_directions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clock_jumps, "_EVERY_S", 0.001)
    clock, counted = ManualClock(), asyncio.Queue[str]()
    watching = spawn(watch_clock(counted.put_nowait, clock), name="watch the clock")
    await asyncio.sleep(0)  # it has its first look
    for _ in range(3):
        for seconds, direction in ((86_400.0, "forward"), (-86_400.0, "back")):
            clock.jump(seconds)
            assert await asyncio.wait_for(counted.get(), 60) == direction
    clock.jump(0.5)
    clock.jump(-20)
    assert await asyncio.wait_for(counted.get(), 60) == "back"
    await cancel_and_wait([watching])
    lines = [record.getMessage() for record in caplog.records if "clock was set" in record.getMessage()]
    assert len(lines) == 2, "a line a minute for each direction"
    assert "set forward by 86400.0 s" in lines[0]
