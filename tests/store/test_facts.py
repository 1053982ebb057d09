"""What a record counts as: one outcome, from which errors, refusals, latency and samples all follow."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from policies.estimates import METRICS, Metric
from policies.records import Outcome
from proxy.store.ingest.facts import RecordFacts, Terms, count_arrival, flags_of
from proxy.store.tables.values import NewRecord, RecordFlag
from proxy.wire.extract import KINDS
from tests.harness.exchanges import exchange

ANSWER = exchange(1_700_000_000_000_000, random.Random(1), duration_us=3_000_000)
ANSWERED, FAILED, REFUSED, NEITHER = "answered", "failed", "refused", "neither"


def counted(record: NewRecord) -> dict[Metric, tuple[float, float]]:
    totals = ([0.0] * len(METRICS), [0.0] * len(METRICS))
    count_arrival(totals, RecordFacts.of(record), Terms(l95_s=2.0))
    return {metric: (totals[0][i], totals[1][i]) for i, metric in enumerate(METRICS)}


@pytest.mark.parametrize(
    ("outcome", "status", "fallback", "what"),
    [
        (Outcome.OK, 200, False, ANSWERED),
        (Outcome.OK, 304, False, ANSWERED),
        (Outcome.OK, 101, False, NEITHER),
        (Outcome.OK, 404, False, REFUSED),
        (Outcome.OK, 503, False, FAILED),
        (Outcome.CLIENT_DISCONNECT, 200, False, NEITHER),
        (Outcome.CLIENT_DISCONNECT, 0, False, NEITHER),
        (Outcome.UPSTREAM_ERROR, 200, False, FAILED),
        (Outcome.UPSTREAM_ERROR, 502, False, FAILED),
        (Outcome.TIMEOUT, 504, False, FAILED),
        (Outcome.TRUNCATED, 200, False, NEITHER),
        (Outcome.INCOMPLETE, 200, False, FAILED),
        (Outcome.REFUSED, 404, False, REFUSED),
        (Outcome.REFUSED, 429, False, REFUSED),
        (Outcome.REFUSED, 404, True, FAILED),
        (Outcome.UPSTREAM_ERROR, 502, True, FAILED),
    ],
)
def test_each_ending_counts_once_and_only_an_answer_has_a_latency(
    outcome: Outcome, status: int, fallback: bool, what: str
) -> None:
    flags = RecordFlag.FALLBACK if fallback else RecordFlag.NONE
    seen = counted(replace(ANSWER, outcome=outcome, status=status, flags=flags))
    assert seen[Metric.ERROR] == (1, what == FAILED)
    assert seen[Metric.REFUSED] == (1, what == REFUSED)
    assert seen[Metric.LATENCY] == ((1, 3.0) if what == ANSWERED else (0, 0))
    assert seen[Metric.SLOW] == ((1, 1) if what == ANSWERED else (0, 0))


def test_an_answer_of_the_champion_in_its_place_is_the_challengers_error() -> None:
    seen = counted(replace(ANSWER, flags=RecordFlag.FALLBACK))
    assert (seen[Metric.ERROR], seen[Metric.REFUSED]) == ((1, 1), (1, 0))


def test_every_outcome_is_told_apart() -> None:
    """A new one has to be thought of here."""
    told = {outcome: (outcome.failed, outcome.refused) for outcome in Outcome}
    assert {outcome for outcome, (failed, _) in told.items() if failed} == {
        Outcome.UPSTREAM_ERROR,
        Outcome.TIMEOUT,
        Outcome.INCOMPLETE,
    }
    assert {outcome for outcome, (_, refused) in told.items() if refused} == {Outcome.REFUSED}
    for outcome in Outcome:
        assert outcome.with_status(200) is outcome
        assert outcome is Outcome.OK or outcome.with_status(503) is outcome is outcome.with_status(404)


@pytest.mark.parametrize(
    ("change", "usable"),
    [
        ({}, True),
        *(({"outcome": outcome}, outcome is Outcome.OK) for outcome in Outcome),
        *(({"status": status}, status // 100 == 2) for status in (101, 200, 204, 304, 400, 404, 500, 503)),
        *(({"kind": kind.name}, kind.trainable) for kind in KINDS.values()),
        ({"kind": "a kind of tomorrow"}, False),
        ({"flags": RecordFlag.NO_TRAIN}, False),
        ({"flags": RecordFlag.UNREAD}, False),
        ({"flags": RecordFlag.STREAMED | RecordFlag.RESENT}, True),
        ({"flags": RecordFlag.SAMPLE | RecordFlag.UNREAD}, False),
        ({"body": None}, False),
    ],
)
def test_only_a_whole_answer_in_words_that_were_all_read_is_a_sample(change: dict[str, Any], usable: bool) -> None:
    record = replace(ANSWER, **change)
    flags = flags_of(record)
    assert bool(flags & RecordFlag.SAMPLE) is usable
    assert flags & ~RecordFlag.SAMPLE == record.flags & ~RecordFlag.SAMPLE
