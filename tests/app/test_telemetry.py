"""What the controller itself adds to /metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.app.counters import WORKER_COUNTERS
from proxy.app.paths import DataDir
from proxy.app.telemetry import ControllerMetrics
from proxy.clock import ManualClock
from proxy.config.model import TelemetryConfig
from proxy.metrics.shared import SharedCounters
from proxy.spool import SpoolUsage
from tests.harness.require import need


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.create()
    return made


def values(metrics: ControllerMetrics) -> dict[str, float]:
    text = metrics.render("")[0].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        "".join([sample.name, *(f"|{value}" for value in sample.labels.values())]): sample.value for sample in samples
    }


def test_spool_and_store_show_as_they_are(data: DataDir) -> None:
    clock = ManualClock()
    metrics = ControllerMetrics(data, TelemetryConfig(), clock, spool_max_bytes=1000)
    assert values(metrics)["ratchet_store_up"] == 0
    assert values(metrics)["ratchet_spool_max_bytes"] == 1000
    metrics.set_store_up(True)
    metrics.set_store_size(4096, 7)
    metrics.set_spool(SpoolUsage(bytes=100, pending_bytes=60, oldest_at=clock.now() - 12, writers=2))
    seen = values(metrics)
    assert (seen["ratchet_store_up"], seen["ratchet_store_bytes"], seen["ratchet_store_records"]) == (1, 4096, 7)
    assert (seen["ratchet_spool_bytes"], seen["ratchet_spool_pending_bytes"]) == (100, 60)
    assert seen["ratchet_spool_oldest_seconds"] == 12
    metrics.set_spool(SpoolUsage(bytes=0, pending_bytes=0, oldest_at=None, writers=0))
    assert values(metrics)["ratchet_spool_oldest_seconds"] == 0


def test_processes_show_while_they_live(data: DataDir) -> None:
    data.pid("worker-0").write_text(f"{os.getpid()}\n")
    data.pid("worker-1").write_text("not a number")
    gone = subprocess.Popen(["true"])
    gone.wait()
    data.pid("controller").write_text(f"{gone.pid}\n")
    seen = values(ControllerMetrics(data, TelemetryConfig(), ManualClock()))
    assert seen["ratchet_process_cpu_seconds_total|worker-0"] > 0
    assert seen["ratchet_process_resident_memory_bytes|worker-0"] > 1 << 20
    started = psutil.Process().create_time()
    assert seen["ratchet_process_start_time_seconds|worker-0"] == pytest.approx(started, abs=2)
    assert not any(name.endswith(("|controller", "|worker-1")) for name in seen)


def test_every_slot_of_a_worker_has_a_help_text_and_promtool_likes_it_all(data: DataDir) -> None:
    counters = SharedCounters(data.stats(0), WORKER_COUNTERS)
    body, content_type = ControllerMetrics(data, TelemetryConfig(otel_names=True), ManualClock()).render("")
    counters.close()
    assert content_type.startswith("text/plain")
    assert b"Sum over the workers." not in body
    promtool = shutil.which("promtool")
    need("promtool", promtool is not None)
    assert promtool is not None
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_openmetrics_is_served_to_who_asks(data: DataDir) -> None:
    metrics = ControllerMetrics(data, TelemetryConfig(), ManualClock())
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
