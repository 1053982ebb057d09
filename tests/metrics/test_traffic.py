"""/metrics: what the records say, under bounded labels, in a form that promtool accepts."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from policies.kinds import Kind
from policies.records import Arm, Outcome, StickySource
from proxy.metrics.cells import Distribution
from proxy.metrics.families import CounterFamily
from proxy.metrics.gateway import GatewayCollector, stats_files
from proxy.metrics.shared import SharedCounters
from proxy.metrics.traffic import TrafficMetrics
from proxy.store.tables.values import JoinedVote, NewRecord, RecordFlag
from proxy.wire.extract import KINDS
from tests.harness.require import need


def record(**changes: object) -> NewRecord:
    facts: dict[str, object] = {
        "id": "0" * 32, "user_hash": 1, "key_source": StickySource.BODY, "arm": Arm.CHAMPION, "served_by": Arm.CHAMPION,
        "model_id": 1, "kind": "chat", "status": 200, "duration_us": 1_500_000, "upstream_us": 1_400_000,
        "ttfb_us": 300_000, "ttft_us": 700_000, "own_us": 150, "request_bytes": 10, "response_bytes": 20,
        "prompt_tokens": 5, "completion_tokens": 7, "quality": 0.95,
    }  # fmt: skip
    return NewRecord(**(facts | changes))  # type: ignore[arg-type]


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = [v for (n, ls), v in samples(registry).items() if n == name and frozenset(labels.items()) <= ls]
    assert len(found) == 1, (name, labels, found)
    return found[0]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_record_is_counted_by_arm_model_status_and_outcome(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    metrics.set_models({1: "base", 2: "tuned"})
    metrics.observe(record())
    metrics.observe(record())
    metrics.observe(record(arm=Arm.CHALLENGER, flags=RecordFlag.FALLBACK, status=502, outcome=Outcome.UPSTREAM_ERROR))
    metrics.observe(record(arm=Arm.CHALLENGER, status=404, outcome=Outcome.REFUSED))  # the champion, asked, did, too
    ok = {"arm": "champion", "model": "base", "status": "200", "outcome": "ok"}
    assert value(registry, "ratchet_requests_total", **ok) == 2
    assert value(registry, "ratchet_requests_total", arm="challenger", model="base", status="502",
                 outcome="upstream_error") == 1  # fmt: skip
    assert value(registry, "ratchet_fallbacks_total") == 1
    assert value(registry, "ratchet_tokens_total", arm="champion", type="completion") == 14
    assert value(registry, "ratchet_body_bytes_total", arm="champion", direction="response") == 40
    assert value(registry, "ratchet_sticky_key_source_total", source="body") == 4


def test_durations_fall_into_the_right_buckets(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    metrics.observe(record())
    name = "ratchet_request_duration_seconds"
    assert value(registry, f"{name}_bucket", le="1.0") == 0
    assert value(registry, f"{name}_bucket", le="2.5") == 1
    assert value(registry, f"{name}_bucket", le="+Inf") == value(registry, f"{name}_count") == 1
    assert value(registry, f"{name}_sum") == pytest.approx(1.5)
    assert value(registry, "ratchet_overhead_seconds_bucket", le="0.0002") == 1
    assert value(registry, "ratchet_time_to_first_byte_seconds_sum") == pytest.approx(0.3)
    assert value(registry, "ratchet_time_to_first_token_seconds_sum") == pytest.approx(0.7)
    assert value(registry, "ratchet_time_to_first_token_seconds_bucket", le="0.5") == 0
    assert value(registry, "ratchet_quality_score_ratio_bucket", le="0.9") == 0


def test_a_value_on_a_bound_belongs_below_it() -> None:
    distribution = Distribution((1.0, 2.0))
    for v in (0.5, 1.0, 1.5, 2.0, 9.0):
        distribution.observe(v)
    assert distribution.counts == [2, 2, 1]


def test_unknown_values_are_not_observed_as_zero(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    metrics.observe(record(ttfb_us=None, ttft_us=None, quality=None, prompt_tokens=None, completion_tokens=None))
    assert value(registry, "ratchet_time_to_first_byte_seconds_count") == 0
    assert value(registry, "ratchet_time_to_first_token_seconds_count") == 0
    for kind in ("prompt", "completion", "cache_read", "cache_write", "reasoning"):
        assert value(registry, "ratchet_tokens_total", type=kind) == 0
    assert value(registry, "ratchet_quality_score_ratio_count") == 0


def test_no_client_can_make_labels(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    for n in range(1000):
        metrics.observe(record(model_id=n, kind=f"scanner-{n}", status=n))
    found = samples(registry)
    labels = {pair for _, pairs in found for pair in pairs}
    assert {v for k, v in labels if k == "model"} == {"unknown"}
    assert {v for k, v in labels if k == "kind"} <= set(KINDS)
    assert len([1 for name, _ in found if name == "ratchet_requests_total"]) < 75


def test_a_new_models_table_names_what_follows(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    metrics.observe(record())
    metrics.set_models({1: "base"})
    metrics.observe(record())
    assert value(registry, "ratchet_requests_total", model="unknown") == 1
    assert value(registry, "ratchet_requests_total", model="base") == 1


def test_votes_are_counted_by_what_they_say(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    votes = [JoinedVote(feedback=f, retracted=False, counts=True) for f in (1, 1, -1, 0, None)]
    votes += [JoinedVote(feedback=None, retracted=True, counts=True)]
    metrics.observe_votes([*votes, JoinedVote(feedback=1, retracted=False, counts=False)])
    expected = {"positive": 2, "negative": 1, "neutral": 1, "none": 1, "retracted": 1, "uncounted": 1}
    assert {f: value(registry, "ratchet_feedback_total", feedback=f) for f in expected} == expected


def test_tokens_of_caches_and_reasoning_are_counted_as_parts(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry)
    metrics.observe(record(cache_read_tokens=3, cache_write_tokens=1, reasoning_tokens=4))
    expected = {"prompt": 5, "completion": 7, "cache_read": 3, "cache_write": 1, "reasoning": 4}
    assert {kind: value(registry, "ratchet_tokens_total", type=kind) for kind in expected} == expected


NO_ANSWERS = [outcome for outcome in Outcome if outcome.failed or outcome.refused]


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.label)
def test_what_is_no_answer_never_looks_like_a_quick_one(registry: CollectorRegistry, outcome: Outcome) -> None:
    """Whatever its status: an error inside a 200, too."""
    metrics = TrafficMetrics(registry, otel_names=True)
    metrics.observe(record(outcome=outcome))
    by_outcome = value(registry, "ratchet_request_duration_seconds_count", outcome=outcome.label)
    assert by_outcome == value(registry, "ratchet_requests_total", outcome=outcome.label) == 1
    good = value(registry, "ratchet_request_duration_seconds_count", outcome="ok")
    assert good == value(registry, "gen_ai_server_request_duration_seconds_count", error_type="") == (outcome == 0)
    timed = 0 if outcome in NO_ANSWERS else 1
    ours = ("ratchet_upstream_seconds", "ratchet_time_to_first_byte_seconds", "ratchet_time_to_first_token_seconds")
    for name in (*ours, "gen_ai_server_time_to_first_token_seconds"):
        assert value(registry, f"{name}_count") == timed, name
    assert value(registry, "gen_ai_client_token_usage_count", gen_ai_token_type="output") == timed


def test_genai_names_stand_beside_ours_when_asked_for(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry, otel_names=True)
    metrics.set_models({1: "base"})
    metrics.observe(record())
    metrics.observe(record(kind="kserve"))
    chat = {"gen_ai_operation_name": "chat", "gen_ai_response_model": "base"}
    assert value(registry, "gen_ai_server_request_duration_seconds_count", **chat, error_type="") == 1
    assert value(registry, "gen_ai_server_time_to_first_token_seconds_count", **chat) == 1
    assert value(registry, "gen_ai_server_time_to_first_token_seconds_bucket", **chat, le="0.5") == 0
    assert value(registry, "gen_ai_client_token_usage_sum", **chat, gen_ai_token_type="input") == 5
    assert value(registry, "gen_ai_client_inference_operation_input_tokens_sum", **chat) == 5
    assert value(registry, "gen_ai_client_inference_operation_output_tokens_count", **chat) == 1
    plain = CollectorRegistry()
    TrafficMetrics(plain)
    assert "gen_ai" not in generate_latest(plain).decode()


@pytest.mark.parametrize(
    ("changes", "error_type"),
    [
        ({"status": 200, "outcome": Outcome.UPSTREAM_ERROR}, "upstream_error"),
        ({"status": 200, "outcome": Outcome.INCOMPLETE}, "incomplete"),
        ({"status": 200, "outcome": Outcome.CLIENT_DISCONNECT}, "client_disconnect"),
        ({"status": 0, "outcome": Outcome.CLIENT_DISCONNECT}, "client_disconnect"),
        ({"status": 504, "outcome": Outcome.TIMEOUT}, "5xx"),
        ({"status": 503, "outcome": Outcome.UPSTREAM_ERROR}, "5xx"),
        ({"status": 404, "outcome": Outcome.REFUSED}, "4xx"),
        ({"status": 999, "outcome": Outcome.UPSTREAM_ERROR}, "upstream_error"),
    ],
)
def test_genai_error_types_are_few(registry: CollectorRegistry, changes: dict[str, object], error_type: str) -> None:
    metrics = TrafficMetrics(registry, otel_names=True)
    metrics.observe(record(**changes))
    assert value(registry, "gen_ai_server_request_duration_seconds_count", error_type=error_type) == 1
    assert value(registry, "gen_ai_server_request_duration_seconds_count", error_type="") == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_has_its_own_label_and_its_operation(registry: CollectorRegistry, kind: Kind) -> None:
    metrics = TrafficMetrics(registry, otel_names=True)
    metrics.observe(record(kind=kind.name))
    assert value(registry, "ratchet_request_duration_seconds_count", kind=kind.name) == 1
    operations = {dict(labels).get("gen_ai_operation_name") for _, labels in samples(registry)} - {None}
    assert operations == ({kind.operation} if kind.operation else set())


def test_the_workers_counters_are_summed_and_labelled(registry: CollectorRegistry, tmp_path: Path) -> None:
    names = ("in_flight", "requests_total", 'not_recorded_total{reason="full"}', 'not_recorded_total{reason="path"}')
    workers = [SharedCounters(tmp_path / f"worker-{n}.stats", names) for n in range(2)]
    for n, counters in enumerate(workers, 1):
        counters.set("in_flight", n)
        counters.add('not_recorded_total{reason="full"}', n)
    registry.register(GatewayCollector(lambda: stats_files(tmp_path), {"in_flight": "Open requests."}))
    assert value(registry, "ratchet_gateway_in_flight") == 3
    assert value(registry, "ratchet_gateway_not_recorded_total", reason="full") == 3
    assert value(registry, "ratchet_gateway_not_recorded_total", reason="path") == 0
    assert "# HELP ratchet_gateway_in_flight Open requests." in generate_latest(registry).decode()
    for counters in workers:
        counters.close()


def test_promtool_accepts_it(registry: CollectorRegistry, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    need("promtool", promtool is not None)
    assert promtool is not None
    metrics = TrafficMetrics(registry, otel_names=True)
    metrics.observe(record())
    metrics.observe_votes([JoinedVote(feedback=1, retracted=False, counts=True)])
    counters = SharedCounters(tmp_path / "worker-0.stats", ("in_flight", "requests_total"))
    registry.register(GatewayCollector(lambda: stats_files(tmp_path), {}))
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    counters.close()


def test_observing_a_record_is_cheap(registry: CollectorRegistry) -> None:
    metrics = TrafficMetrics(registry, otel_names=True)
    one = record()
    metrics.observe(one)
    best = min(_cpu_s(metrics, one) for _ in range(10))
    assert best / 500 < 50e-6, "ten times the 5 µs it takes on an idle core"


def _cpu_s(metrics: TrafficMetrics, one: NewRecord) -> float:
    started = time.process_time()
    for _ in range(500):
        metrics.observe(one)
    return time.process_time() - started


def test_a_counter_without_labels_shows_at_zero(registry: CollectorRegistry) -> None:
    CounterFamily(registry, "ratchet_example", "An example.").cell()
    assert value(registry, "ratchet_example_total") == 0
