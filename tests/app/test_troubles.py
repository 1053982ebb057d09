"""What is wrong around a host is said once, stays until the opposite was seen, and reads the same everywhere."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry

from proxy.app.troubles import TOPICS, Troubles
from proxy.clock import ManualClock
from proxy.log_throttle import ThrottledLog


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_trouble_is_logged_once_and_its_end_with_how_long_it_took(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles(clock)
    for _ in range(5):
        troubles.report("store", "the disk is full")
        clock.advance(60)
    assert [record.message for record in caplog.records] == ["store: the disk is full"]
    troubles.over("store", "stores again")
    troubles.over("store", "stores again")
    assert [record.message for record in caplog.records[1:]] == ["store: stores again after 5 min"]


def test_what_belongs_to_a_start_is_not_logged_until_it_is_a_trouble(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles(clock)
    troubles.report("store", "it is not open yet", starting=True)
    assert troubles.status()["store"].starting
    assert not caplog.records
    troubles.report("store", "it cannot be reached")
    assert not troubles.status()["store"].starting
    assert [record.message for record in caplog.records] == ["store: it cannot be reached"]
    troubles.report("store", "it cannot be reached", starting=True)
    assert troubles.status()["store"].starting
    troubles.report("store", "it cannot be reached")
    assert not troubles.status()["store"].starting, "whatever it was before"


def test_words_that_change_every_second_have_a_line_a_minute(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles(clock)
    for attempt in range(121):
        troubles.report("champion", f"attempt {attempt} failed")
        clock.advance(1)
    assert [record.message for record in caplog.records] == [f"champion: attempt {n} failed" for n in (0, 60, 120)]
    assert troubles.of("champion") == "attempt 120 failed"


def test_what_comes_and_goes_has_a_line_a_minute_and_what_comes_back_later_is_news(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles, said = Troubles(clock), ThrottledLog(logging.getLogger("test"), clock)
    for _ in range(40):
        troubles.report("store", "the connection was lost")
        said.warning("ingest", "ingest waits")
        clock.advance(1)
        troubles.over("store")
        said.over("ingest")
        clock.advance(2)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 6, "in two minutes: two begin, two end, and two waits"
    clock.advance(10)
    troubles.report("store", "the connection was lost")
    said.warning("ingest", "ingest waits")
    assert len(caplog.records) == 8


def test_what_came_back_at_once_and_stays_is_said_soon(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(clock)
    troubles.report("store", "lost")
    troubles.over("store")
    for n in range(30):
        troubles.report("store", "lost")
        assert len(caplog.records) == (2 if n < 3 else 3)
        clock.advance(4)
    troubles.over("store")
    assert [record.message for record in caplog.records] == [
        "store: lost", "store: well again after 0 s", "store: lost", "store: well again after 2 min"
    ]  # fmt: skip


def test_a_start_is_no_news(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(clock)
    troubles.report("store", "the store is not open yet", quiet=True)
    assert troubles.first == "the store is not open yet"
    troubles.over("store")
    assert not caplog.records
    assert not troubles.known


def test_document_and_metric_say_the_same_and_since_when(clock: ManualClock) -> None:
    troubles, registry = Troubles(clock), CollectorRegistry()
    registry.register(troubles)
    began = clock.now()
    troubles.report("champion", "connection refused")
    clock.advance(7)
    troubles.report("store", "the disk is full")
    troubles.report("champion", "connection reset")
    assert troubles.document() == {
        "store": {"sentence": "the disk is full", "since": began + 7},
        "champion": {"sentence": "connection reset", "since": began},
    }
    assert troubles.first == "the disk is full"
    shown = {topic: registry.get_sample_value("ratchet_trouble", {"about": topic}) for topic in TOPICS}
    assert {topic for topic, value in shown.items() if value} == {"store", "champion"}
