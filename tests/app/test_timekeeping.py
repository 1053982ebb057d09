"""Hosts whose clocks differ go by the database's time, and one that agrees is left alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.app.timekeeping import Timekeeper, follow_time
from proxy.clock import AdjustedClock, ManualClock
from proxy.store.store import Store


class Host(AdjustedClock):
    """A host's clock; SQLite stands in for the shared database, whose clock is `database`."""

    def __init__(self, database: ManualClock, wrong_by_s: float) -> None:
        super().__init__()
        self._database = database
        self.wrong_by_s = wrong_by_s

    def unadjusted(self) -> float:  # type: ignore[override]
        return self._database.now() + self.wrong_by_s

    def now(self) -> float:
        return self.unadjusted() - self.ahead_s


@pytest.fixture
def database() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, database: ManualClock) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{tmp_path}/r.db", clock=database)
    yield store
    await store.close()


@pytest.mark.parametrize("wrong_by_s", [30.0, -30.0, 0.2, 86_400.0])
async def test_a_host_that_is_off_goes_by_the_databases_time(
    tmp_path: Path, store: Store, database: ManualClock, wrong_by_s: float
) -> None:
    host = Host(database, wrong_by_s)
    await Timekeeper(tmp_path / "clock.json", host).compare(store)
    assert host.now() == pytest.approx(database.now(), abs=0.001)
    worker, restarted = Host(database, wrong_by_s), Host(database, wrong_by_s)
    follow_time(tmp_path / "clock.json", worker)
    Timekeeper(tmp_path / "clock.json", restarted)
    assert worker.now() == restarted.now() == host.now(), "all of its processes agree, also before they ask"


async def test_a_host_that_agrees_is_left_alone(tmp_path: Path, store: Store, database: ManualClock) -> None:
    host = Host(database, 0.09)
    await Timekeeper(tmp_path / "clock.json", host).compare(store)
    assert host.ahead_s == 0
    assert not (tmp_path / "clock.json").exists()


async def test_a_clock_that_is_set_right_is_believed_again(
    tmp_path: Path, store: Store, database: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(database, 30.0)
    keeper = Timekeeper(tmp_path / "clock.json", host)
    for wrong_by_s in (30.0, 30.05, 29.95, 0.01):  # drift is no news
        host.wrong_by_s = wrong_by_s
        await keeper.compare(store)
    assert host.ahead_s == 0
    assert [record.message.split()[8] for record in caplog.records] == ["+30.0", "+0.0"]
    worker = Host(database, 0)
    worker.ahead_s = 30.0
    follow_time(tmp_path / "clock.json", worker)
    assert worker.ahead_s == 0


async def test_a_slow_answer_tells_no_time(tmp_path: Path, store: Store, database: ManualClock) -> None:
    class Slow(Host):
        def unadjusted(self) -> float:  # type: ignore[override]
            database.advance(3.0)  # between the two looks at its clock, the database takes as long to answer
            return super().unadjusted()

    host = Slow(database, 30.0)
    await Timekeeper(tmp_path / "clock.json", host).compare(store)
    assert host.ahead_s == 0


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"ahead_s": null}', '{"ahead_s": "x"}'])
def test_a_damaged_file_changes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "clock.json").write_text(content)
    clock = AdjustedClock()
    clock.ahead_s = 5.0
    follow_time(tmp_path / "clock.json", clock)
    assert clock.ahead_s == 5.0
    assert clock.unadjusted() - clock.now() == pytest.approx(5.0, abs=1.0)


async def test_alone_a_host_goes_by_its_own_clock(tmp_path: Path, store: Store) -> None:
    (tmp_path / "clock.json").write_text('{"ahead_s": 30.0}')
    clock = AdjustedClock()
    Timekeeper(tmp_path / "clock.json", clock).forget()
    assert clock.ahead_s == 0
    assert time.time() - 1 < clock.now() < time.time() + 1
    assert not (tmp_path / "clock.json").exists()
