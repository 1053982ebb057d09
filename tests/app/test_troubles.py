"""What is wrong around a host is said once, stays until the opposite was seen, and reads the same everywhere."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from proxy.app.troubles import TOPICS, Troubles
from proxy.clock import ManualClock


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


def test_words_that_change_every_second_have_a_line_a_minute(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles(clock)
    for attempt in range(121):
        troubles.report("champion", f"attempt {attempt} failed")
        clock.advance(1)
    assert [record.message for record in caplog.records] == [f"champion: attempt {n} failed" for n in (0, 60, 120)]
    assert troubles.of("champion") == "attempt 120 failed"


def test_a_start_is_no_news(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(clock)
    troubles.report("store", "the store has not been opened yet", quiet=True)
    assert troubles.first == "the store has not been opened yet"
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
