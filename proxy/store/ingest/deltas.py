"""What one transaction adds to the sums: collected in memory while records and votes are applied, written at its end.

Sums per minute and hour take increments, so any number of controllers may add at once. User totals need the old
vector to change an arm's moments exactly, so those rows are read and locked (`statistics.py`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.estimates import METRICS
from policies.kinds import TASK
from policies.records import Arm, Outcome
from proxy.store.engine.dialect import upsert_sums
from proxy.store.ingest.facts import (
    RecordFacts,
    Recount,
    Rejudged,
    Signalled,
    Terms,
    Totals,
    VoteSummary,
    count_arrival,
    count_conversation,
    count_judgement,
    count_score,
    count_signals,
    count_votes,
    was_answered,
)
from proxy.store.ingest.tags import TagNames
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.schema import HOUR_S, MINUTE_S, SUMS, TEN_MINUTES_S, durations, quality_hours, traffic
from proxy.store.tables.values import NewRecord, RecordFlag

__all__ = ["UNSCORED", "Arrival", "Deltas", "Placed", "counted", "duration_bin", "duration_of_bin", "quality_bin"]

UNSCORED: Final = -1
"""Bin of samples without a score."""
_BINS_PER_DOUBLING: Final = 8
_FLOOR_US: Final = 100
_FALLBACK, _SAMPLE = int(RecordFlag.FALLBACK), int(RecordFlag.SAMPLE)
_WIDTH: Final = len(SUMS) + 2
(
    _N,
    _FALLBACKS,
    _DURATION,
    _PROMPT,
    _COMPLETION,
    _VOTED,
    _POSITIVE,
    _NEGATIVE,
    _NEUTRAL,
    _SCORED,
    _QUALITY,
    _TASKS,
) = range(_WIDTH)  # in the order of SUMS, and behind them the sum of scores, and how many were tasks

Key = tuple[int, ...]
ExperimentKey = tuple[int, int, Arm]
"""Experiment, epoch, arm."""
TagKey = tuple[int, int, Arm, str]
"""The same, and a tag as `name=value`."""
Arrival = tuple[NewRecord, RecordFlag]
"""A new record, and its flags as they are stored."""


def quality_bin(quality: float | None) -> int:
    """Hundredths of the score, rounded down; UNSCORED for None."""
    return UNSCORED if quality is None else min(100, max(0, math.floor(quality * 100 + 1e-9)))


def duration_bin(duration_us: int) -> int:
    """Bins grow by a ninth: 8 to the doubling, from 0.1 ms on."""
    if duration_us <= _FLOOR_US:
        return 0
    return 1 + math.floor(math.log2(duration_us / _FLOOR_US) * _BINS_PER_DOUBLING)


def duration_of_bin(number: int, fraction: float) -> float:
    """Seconds at `fraction` (0 to 1) of the bin's width."""
    return float(_FLOOR_US * 2.0 ** ((number - 1 + fraction) / _BINS_PER_DOUBLING) / 1e6)


class Placed(NamedTuple):
    """A vote on a conversation, where it counts from now on (`by` is 1), or counted until now (-1)."""

    record: RecordFacts
    """As far as that says where: experiment, epoch, arm, unit and tags of the conversation's last record."""
    value: int
    by: int


class Deltas:
    """Changes to the sums per minute and hour, and to users' totals, of one transaction."""

    def __init__(self) -> None:
        self._traffic: defaultdict[Key, list[float]] = defaultdict(lambda: [0] * _WIDTH)
        self._durations: defaultdict[Key, int] = defaultdict(int)
        self._quality: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.users: dict[ExperimentKey, dict[int, Totals]] = {}
        """Counts and sums to add, per unit of evidence: a user's key, or a cluster's."""
        self.tagged: dict[TagKey, dict[int, Totals]] = {}
        """The same by tag, of records that have any."""
        self.tag_requests: defaultdict[TagKey, int] = defaultdict(int)
        self.requests: defaultdict[ExperimentKey, int] = defaultdict(int)
        self.claimed_users: defaultdict[ExperimentKey, set[int]] = defaultdict(set)
        self.clusters: defaultdict[ExperimentKey, set[int]] = defaultdict(set)
        """Which of the units are clusters."""

    def arrived(self, record: NewRecord, flags: RecordFlag) -> None:
        """A new record, not yet voted on. A task is a request that took time and tokens, and nothing else."""
        at_s = id_time_us(record.id) // 1_000_000
        status, duration_us, quality = record.status, record.duration_us, record.quality
        bits: int = flags._value_
        outcome = record.outcome.with_status(status)
        sums = self._sums(at_s, record.arm, record.model_id, status, outcome)
        sums[_N] += 1
        sums[_FALLBACKS] += bits & _FALLBACK != 0
        sums[_DURATION] += duration_us
        sums[_PROMPT] += record.prompt_tokens or 0
        sums[_COMPLETION] += record.completion_tokens or 0
        if record.kind == TASK.name:
            sums[_TASKS] += 1
            return
        if quality is not None:
            sums[_SCORED] += 1
            sums[_QUALITY] += quality
        if was_answered(outcome, status, duration_us):
            number = duration_bin(duration_us)
            self._durations[at_s // MINUTE_S * MINUTE_S, int(record.arm), record.model_id, number] += 1
        if bits & _SAMPLE:
            self._quality[at_s // HOUR_S * HOUR_S, quality_bin(quality)] += 1

    def voted(self, record: RecordFacts, before: VoteSummary, after: VoteSummary) -> None:
        """The effective votes on a record changed."""
        if record.task:
            return
        sums = self._sums_of(record)
        sums[_VOTED] += (after.count > 0) - (before.count > 0)
        sums[_POSITIVE] += after.positive - before.positive
        sums[_NEGATIVE] += after.negative - before.negative
        sums[_NEUTRAL] += after.neutral - before.neutral

    def rescored(self, record: RecordFacts, quality: float | None) -> None:
        """The score that counts changed."""
        if quality == record.quality or record.task:
            return
        sums = self._sums_of(record)
        sums[_SCORED] += (quality is not None) - (record.quality is not None)
        sums[_QUALITY] += (quality or 0.0) - (record.quality or 0.0)
        if record.sample:
            hour = record.at_s // HOUR_S * HOUR_S
            self._quality[hour, quality_bin(quality)] += 1
            self._quality[hour, quality_bin(record.quality)] -= 1

    def forgotten(self, record: RecordFacts) -> None:
        """The record is deleted: it is no sample any more. What passed through the proxy remains counted."""
        if record.sample:
            self._quality[record.at_s // HOUR_S * HOUR_S, quality_bin(record.quality)] -= 1

    def unit(self, record: RecordFacts, key: ExperimentKey) -> Totals:
        """Counts and sums of the record's unit of evidence, to be added to in place."""
        if record.claimed:
            self.clusters[key].add(record.unit)
        return self.users.setdefault(key, {}).setdefault(record.unit, _no_totals())

    def units_by_tag(self, record: RecordFacts, key: ExperimentKey, names: TagNames) -> list[tuple[TagKey, Totals]]:
        """The same for each of the record's tags."""
        found = []
        for tag in names.of(record):
            tag_key = (*key, tag)
            found.append((tag_key, self.tagged.setdefault(tag_key, {}).setdefault(record.unit, _no_totals())))
        return found

    async def write(self, connection: AsyncConnection) -> None:
        """Add everything but the users' totals to the tables, in key order (two writers then never deadlock)."""
        sums = _by_step(((key, values) for key, values in self._traffic.items() if any(values)), HOUR_S)
        await upsert_sums(connection, traffic, _rows(traffic, sums))
        counts = _by_step(((key, [n]) for key, n in self._durations.items()), TEN_MINUTES_S, HOUR_S)
        await upsert_sums(connection, durations, _rows(durations, counts))
        changed: dict[Key, list[float]] = {key: [n] for key, n in self._quality.items() if n}
        await upsert_sums(connection, quality_hours, _rows(quality_hours, changed))

    def _sums_of(self, record: RecordFacts) -> list[float]:
        return self._sums(record.at_s, record.arm, record.model_id, record.status, record.outcome)

    def _sums(self, at_s: int, arm: Arm, model_id: int, status: int, outcome: Outcome) -> list[float]:
        # int: the hash of an enumeration's member is many times slower
        return self._traffic[at_s // MINUTE_S * MINUTE_S, int(arm), model_id, status // 100, int(outcome)]


def counted(
    arrivals: Iterable[Arrival],
    recounts: Iterable[Recount],
    terms: Mapping[int, Terms],
    judged: Iterable[Rejudged] = (),
    names: TagNames | None = None,
    *,
    signalled: Iterable[Signalled] = (),
    moved: Iterable[Placed] = (),
) -> Deltas:
    """What new records, records whose votes changed, and records that a judge has scored add to the sums; then records
    of which later ones reveal something, and votes on conversations that count elsewhere from now on. `terms` has
    those of the experiments that exist: a record of another counts in no experiment, nor does a task. `names` are the
    tags that are counted; None where no record has any."""
    deltas = Deltas()
    for record, flags in arrivals:
        deltas.arrived(record, flags)
        if record.experiment_id in terms and record.kind != TASK.name:
            _count_arrival(deltas, RecordFacts.of(record), terms, names)
    for change in recounts:
        facts = change.record
        deltas.voted(facts, change.before, change.after)
        deltas.rescored(facts, change.quality)
        for totals in _totals(deltas, facts, terms, names):
            count_votes(totals, change.before, change.after, facts)
            count_score(totals, facts.score, (change.quality, change.quality_source))
    for one in judged:
        for totals in _totals(deltas, one.record, terms, names):
            count_judgement(totals, one.votes, one.record.judged, one.score)
    for shown in signalled:
        for totals in _totals(deltas, shown.record, terms, names):
            count_signals(totals, shown.record.signals or 0, shown.signals)
    for vote in moved:
        for totals in _totals(deltas, vote.record, terms, names):
            count_conversation(totals, vote.value, vote.by)
    return deltas


def _count_arrival(deltas: Deltas, facts: RecordFacts, terms: Mapping[int, Terms], names: TagNames | None) -> None:
    assert facts.experiment_id is not None
    mine = terms[facts.experiment_id]
    key = (facts.experiment_id, facts.epoch, facts.arm)
    deltas.requests[key] += 1
    if facts.claimed:
        deltas.claimed_users[key].add(facts.user_key)
    count_arrival(deltas.unit(facts, key), facts, mine)
    if facts.tags and names is not None:
        for tag_key, totals in deltas.units_by_tag(facts, key, names):
            deltas.tag_requests[tag_key] += 1
            count_arrival(totals, facts, mine)


def _totals(
    deltas: Deltas, record: RecordFacts, terms: Mapping[int, Terms], names: TagNames | None
) -> Iterable[Totals]:
    """Wherever the record counts: in its arm, and in that by each of its tags."""
    if record.experiment_id not in terms or record.task or record.experiment_id is None:
        return
    key = (record.experiment_id, record.epoch, record.arm)
    yield deltas.unit(record, key)
    if record.tags and names is not None:
        yield from (totals for _, totals in deltas.units_by_tag(record, key, names))


def _no_totals() -> Totals:
    return [0.0] * len(METRICS), [0.0] * len(METRICS)


def _by_step(minutes: Iterable[tuple[Key, list[float]]], *longer: int) -> dict[Key, list[float]]:
    """The same sums by minute and by each of the longer steps, each under its step."""
    found: dict[Key, list[float]] = {}
    for (at_s, *rest), values in minutes:
        found[MINUTE_S, at_s, *rest] = values
        for step_s in longer:
            sums = found.setdefault((step_s, at_s // step_s * step_s, *rest), [0] * len(values))
            sums[:] = [a + b for a, b in zip(sums, values, strict=True)]
    return found


def _rows(table: sa.Table, values: Mapping[Key, Iterable[float]]) -> list[dict[str, float]]:
    names = [column.name for column in table.columns]
    return [dict(zip(names, (*key, *values[key]), strict=True)) for key in sorted(values)]
