"""The loop's metrics, read from the snapshot and the plan themselves at each scrape.

A collector and not a set of gauges: what is unknown or over is absent, never a stale number, and `/metrics`
cannot disagree with `/status` or with the decision. Of several replicas only the leader tells of the loop. Every label
comes from a closed set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from policies.brakes import Brake
from policies.experiment import Assessment, Verdict
from policies.gate import GateVerdict
from policies.guardrails import GuardrailState
from policies.lifecycle import Phase
from policies.plan import Plan
from policies.snapshot import CheckView, Snapshot
from proxy.clock import Clock
from proxy.loop.dataset.selection_pass import Progress

__all__ = ["LoopMetrics"]

_HOUR_S: Final = 3600.0
_STAGES: Final = 20
"""Of a test, the latest; a person can raise its share more often than that."""
_Key = TypeVar("_Key", bound=tuple[str, ...])


@dataclass(frozen=True, slots=True)
class _Seen:
    snapshot: Snapshot
    plan: Plan
    at: float


class LoopMetrics(Collector):
    """Renders the latest look. Register it once; `set` it after each commit."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._seen: _Seen | None = None
        self._good_tick: float | None = None
        self._due_at = 0.0
        self._failures = 0
        self.building: Callable[[], Progress | None] = lambda: None
        """How far the dataset that is being prepared has come; asked at each scrape."""
        registry.register(self)

    def set(self, snapshot: Snapshot, plan: Plan) -> None:
        """Show this look of the leader; it also counts as a good tick."""
        self._seen = _Seen(snapshot, plan, self._clock.now())
        self._good_tick = self._clock.monotonic()
        self._due_at = max(self._seen.at, plan.wake_at)

    def standing_by(self, wake_at: float) -> None:
        """Another process leads and tells of the loop; a good tick of ours is to have seen that."""
        self._seen = None
        self._good_tick = self._clock.monotonic()
        self._due_at = wake_at

    def deposed(self) -> None:
        """The lease could not be renewed: what was seen may not be so any more."""
        self._seen = None

    def failed(self) -> None:
        """Count a tick that ended in an error."""
        self._failures += 1

    def collect(self) -> Iterable[Metric]:
        """All families of the latest look."""
        yield _counter("ratchet_loop_tick_failures", "Ticks that ended in an error.", self._failures)
        if self._good_tick is None:
            return
        age = self._clock.monotonic() - self._good_tick
        yield _gauge("ratchet_loop_seconds_since_tick", "Seconds since the last successful tick.", age)
        late = max(0.0, self._clock.now() - self._due_at)
        yield _gauge("ratchet_loop_overdue_seconds", "Seconds since the next tick was due.", late)
        yield _gauge("ratchet_loop_leader", "1 where this process holds the loop's lease.", self._seen is not None)
        if self._seen is None:
            return
        if (progress := self.building()) is not None:
            so_far = {("seen",): float(progress.seen), ("kept",): float(progress.kept)}
            help_ = "Records seen and kept of the dataset that is being prepared."
            yield _labelled("ratchet_loop_dataset_records", help_, ("state",), so_far)
        yield from _loop(self._seen)
        yield from _triggers(self._seen.plan)
        yield from _totals(self._seen.snapshot)
        yield from _check(self._seen.snapshot.check)
        if self._seen.plan.assessment is not None:
            yield from _experiment(self._seen.snapshot, self._seen.plan.assessment)
        yield from _stages(self._seen.plan.assessment)
        yield from _watch(self._seen)


def _loop(seen: _Seen) -> Iterator[Metric]:
    snapshot = seen.snapshot
    phases = {(phase.value,): float(phase is snapshot.phase) for phase in Phase}
    yield _labelled("ratchet_loop_phase", "1 for the phase that the loop is in.", ("phase",), phases)
    age = max(0.0, seen.at - snapshot.phase_since)
    yield _gauge("ratchet_loop_phase_seconds", "Time in this phase.", age)
    yield _gauge("ratchet_loop_paused", "1 while a person has paused the loop.", snapshot.paused)
    yield _gauge("ratchet_loop_commands_pending", "Commands that wait for the loop.", len(snapshot.commands))
    retries: dict[tuple[str, ...], float] = {}
    for retry in snapshot.retries:
        retries[retry.action,] = max(float(retry.attempts), retries.get((retry.action,), 0.0))
    help_ = "Consecutive failures of an action that is retried, the most of any of its targets."
    yield _labelled("ratchet_loop_retry_attempts", help_, ("action",), retries)
    if snapshot.run is not None and snapshot.run.progress is not None:
        yield _gauge("ratchet_training_progress", "Progress of the training (0 to 1).", snapshot.run.progress)


def _triggers(plan: Plan) -> Iterator[Metric]:
    enabled = [progress for progress in plan.triggers.progress if progress.enabled]
    fraction = {(one.name.value,): one.fraction for one in enabled}
    value = {(one.name.value,): one.value for one in enabled if one.value is not None}
    target = {(one.name.value,): one.target for one in enabled if one.target is not None}
    brakes = {(brake.value,): float(brake is plan.triggers.brake) for brake in Brake}
    yield _labelled("ratchet_trigger_brake", "1 while triggers may start no training.", ("brake",), brakes)
    yield _labelled("ratchet_trigger_progress", "Progress of a trigger; at 1 it fires.", ("trigger",), fraction)
    yield _labelled("ratchet_trigger_value", "Current value of a trigger.", ("trigger",), value)
    yield _labelled("ratchet_trigger_target", "The value at which a trigger fires.", ("trigger",), target)


def _totals(snapshot: Snapshot) -> Iterator[Metric]:
    totals = snapshot.totals
    yield _counter("ratchet_loop_datasets", "Datasets prepared.", totals.runs)
    yield _counter("ratchet_loop_retrains", "Trainings that returned a model.", totals.retrains)
    yield _counter("ratchet_loop_failed_retrains", "Retrains that failed.", totals.failed_retrains)
    yield _counter("ratchet_loop_promotions", "Challengers promoted.", totals.promotions)
    yield _counter("ratchet_loop_returns", "Promotions undone in the watch window.", totals.returns)
    yield _counter("ratchet_loop_rejections", "Challengers rejected because they could not win.", totals.rejections)
    in_a_row = snapshot.triggers.rejections_in_a_row
    yield _gauge("ratchet_loop_rejections_in_a_row", "Challengers that were not better, since one was.", in_a_row)
    rollbacks = CounterMetricFamily("ratchet_loop_rollbacks", "Challengers rolled back.", labels=("reason",))
    for reason, n in totals.rollbacks.items():
        rollbacks.add_metric((reason,), n)
    yield rollbacks


def _check(check: CheckView | None) -> Iterator[Metric]:
    if check is not None and check.progress is not None:
        yield _gauge("ratchet_check_progress", "Progress of the challenger's check (0 to 1).", check.progress)
    found = None if check is None else check.verdict
    verdicts = {(verdict.value,): float(verdict.value == found) for verdict in GateVerdict}
    yield _labelled("ratchet_check_verdict", "1 for the verdict of the challenger's check.", ("verdict",), verdicts)


def _experiment(snapshot: Snapshot, seen: Assessment) -> Iterator[Metric]:
    if snapshot.experiment is not None:
        yield _gauge("ratchet_experiment_share", "The challenger's share of users.", snapshot.experiment.facts.share)
    elapsed_s = seen.elapsed_hours * _HOUR_S
    yield _gauge("ratchet_experiment_elapsed_seconds", "Seconds since the evidence began.", elapsed_s)
    verdicts = {(verdict.value,): float(verdict is seen.verdict) for verdict in Verdict}
    yield _labelled("ratchet_experiment_verdict", "1 for the current verdict.", ("verdict",), verdicts)
    lift = {("estimate",): seen.theta, ("lower",): seen.lower, ("upper",): seen.upper}
    yield _labelled("ratchet_experiment_lift", "Weighted gain of the challenger and its bounds.", ("of",), lift)
    log_e = {("promote",): seen.log_e_promote, ("harm",): seen.log_e_harm, ("futility",): seen.log_e_futility}
    yield _labelled("ratchet_experiment_log_e", "Log e-values: evidence for a verdict.", ("side",), log_e)
    targets = {("promote",): seen.log_e_promote_target, ("harm",): seen.log_e_harm_target}
    yield _labelled("ratchet_experiment_log_e_target", "What the log e-values must reach.", ("side",), targets)
    if seen.effective_users is not None:
        yield _gauge("ratchet_experiment_effective_users", "Smallest over arms and metrics.", seen.effective_users)
    requests = {("champion",): float(seen.champion_requests), ("challenger",): float(seen.challenger_requests)}
    yield _labelled("ratchet_experiment_requests", "Requests that are evidence, of all stages.", ("arm",), requests)
    yield from _validity(seen)
    yield from _metrics(seen)


def _stages(seen: Assessment | None) -> Iterator[Metric]:
    """Each stage of the running test by itself, the first being 1; without a test no family has a value."""
    stages = () if seen is None else seen.stages
    numbered = [(str(at), stage) for at, stage in enumerate(stages, 1)][-_STAGES:]
    share = {(at,): stage.share for at, stage in numbered}
    yield _labelled("ratchet_experiment_stage_share", "The challenger's share of users in a stage.", ("stage",), share)
    part = {(at,): stage.part for at, stage in numbered}
    yield _labelled("ratchet_experiment_stage_part", "A stage's part in the estimated gain.", ("stage",), part)
    requests: dict[tuple[str, ...], float | None] = {}
    users: dict[tuple[str, ...], float | None] = {}
    lift: dict[tuple[str, ...], float | None] = {}
    for at, stage in numbered:
        requests |= {(at, "champion"): stage.champion_requests, (at, "challenger"): stage.challenger_requests}
        users |= {(at, "champion"): stage.champion_users, (at, "challenger"): stage.challenger_users}
        lift |= {(at, "estimate"): stage.theta, (at, "lower"): stage.lower, (at, "upper"): stage.upper}
    yield _labelled("ratchet_experiment_stage_requests", "Requests in a stage.", ("stage", "arm"), requests)
    yield _labelled("ratchet_experiment_stage_users", "Distinct users in a stage.", ("stage", "arm"), users)
    yield _labelled("ratchet_experiment_stage_lift", "Gain in a stage by itself.", ("stage", "of"), lift)
    following = None
    if seen is not None and seen.verdict is Verdict.CONTINUE and seen.next_stage is not None:
        following = seen.next_stage.share
    yield _labelled("ratchet_experiment_next_share", "The challenger's share in the next stage.", (), {(): following})


def _watch(seen: _Seen) -> Iterator[Metric]:
    """The new champion, and the old one where some users stay on it; without a watch no family has a value."""
    found, facts = seen.plan.watch, seen.snapshot.watch
    left = None if found is None else found.remaining_hours * _HOUR_S
    yield _labelled("ratchet_watch_remaining_seconds", "Seconds until the old champion retires.", (), {(): left})
    held = None if facts is None else facts.holdback_share if facts.control is not None else 0.0
    yield _labelled("ratchet_watch_holdback_share", "Share of users that stay on the old champion.", (), {(): held})
    requests = {} if facts is None else {("champion",): facts.requests, ("control",): facts.control_requests}
    yield _labelled("ratchet_watch_requests", "Requests since the promotion.", ("arm",), requests)
    users = {} if facts is None else {("champion",): facts.users, ("control",): facts.control_users}
    help_ = "Distinct users since the promotion, in the part of the watch that has most."
    yield _labelled("ratchet_watch_users", help_, ("arm",), users)
    parts = None if found is None else float(found.parts)
    yield _labelled("ratchet_watch_parts", "Parts of the watch so far.", (), {(): parts})
    rails = () if found is None else found.guardrails
    states = {(rail.name, state.value): float(state is rail.state) for rail in rails for state in GuardrailState}
    help_ = "1 for the current state of a guardrail in the watch."
    yield _labelled("ratchet_watch_guardrail", help_, ("guardrail", "state"), states)


def _validity(seen: Assessment) -> Iterator[Metric]:
    ratio = seen.sample_ratio
    users = {("champion",): float(ratio.champion_users), ("challenger",): float(ratio.challenger_users)}
    yield _labelled("ratchet_experiment_users", "Distinct users in this stage.", ("arm",), users)
    held = seen.carried is not None and seen.carried.holds
    yield _gauge("ratchet_experiment_few_clusters", "1 while a promotion waits: few clusters carry its evidence.", held)
    yield _gauge("ratchet_experiment_srm", "1 on a sample ratio mismatch.", ratio.mismatch)
    if ratio.log_bayes_factor is not None:
        yield _gauge("ratchet_experiment_srm_log_bayes_factor", "Evidence for a mismatch.", ratio.log_bayes_factor)
    if seen.eta is not None:
        hours = {("earliest",): seen.eta.earliest_hours, ("latest",): seen.eta.latest_hours}
        eta = {key: None if value is None else value * _HOUR_S for key, value in hours.items()}
        yield _labelled("ratchet_experiment_eta_seconds", "Seconds until a decision can be expected.", ("bound",), eta)


def _metrics(seen: Assessment) -> Iterator[Metric]:
    means: dict[tuple[str, ...], float | None] = {}
    for one in seen.metrics:
        means[one.metric.value, "champion"] = None if one.champion is None else one.champion.mean
        means[one.metric.value, "challenger"] = None if one.challenger is None else one.challenger.mean
    yield _labelled("ratchet_experiment_mean", "Mean per metric and arm, over users.", ("metric", "arm"), means)
    states = {
        (rail.name, state.value): float(state is rail.state) for rail in seen.guardrails for state in GuardrailState
    }
    yield _labelled(
        "ratchet_experiment_guardrail", "1 for the current state of a guardrail.", ("guardrail", "state"), states
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, labels: tuple[str, ...], values: Mapping[_Key, float | None]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family
