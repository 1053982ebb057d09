"""Telemetry as a part of the controller: the settings' receiver gets what is stored, and waits for what is not."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.registry import CollectorRegistry

from proxy.app.exporting import TelemetryOut
from proxy.clock import ManualClock
from proxy.config import load_config, parse_config, public_document
from proxy.config.model import TelemetryConfig
from proxy.config.programs import OtlpTarget, otlp_target
from proxy.errors import ConfigError
from proxy.spool import SpoolReader
from proxy.status import ReplicaStatus
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from proxy.tasks import cancel_and_wait, spawn
from proxy.telemetry.service import LEASE
from tests.harness.exchanges import exchange
from tests.harness.otlp import attributes, receiving
from tests.harness.tables import sqlite_with_tables


def another(**changes: Any) -> ReplicaStatus:
    said: dict[str, Any] = {
        "id": "other", "this": False, "host": "b", "version": "1", "started_at": 0.0, "seen_s_ago": 1.0, "alive": True,
        "leader": False, "public": None, "admin": None, "routes_version": 1, "pending_bytes": 10, "lag_s": 500.0,
        "clock_ahead_s": 0.0,
    }  # fmt: skip
    return ReplicaStatus(**said | changes)


async def test_the_receiver_of_the_settings_gets_what_every_replica_has_stored(tmp_path: Path) -> None:
    clock, registry = ManualClock(), CollectorRegistry()
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=clock)
    replicas = [another()]
    async with receiving() as receiver:
        config = parse_config({
            "champion": {"url": "https://api.anthropic.com", "name": "claude"},
            "telemetry": {"otlp_endpoint": receiver.url, "otlp_headers": "authorization=Basic%20abc,x-team=red"},
        })  # fmt: skip
        out = TelemetryOut(config, registry, clock, SpoolReader(tmp_path / "spool"), lambda: replicas)
        running = spawn(out.run(store, "me"), name="telemetry under test")
        try:
            async with asyncio.timeout(60):
                while await store.leases.get(LEASE) is None:
                    await asyncio.sleep(0.01)
            made = exchange(int(clock.now() * 1e6), random.Random(1), kind="messages", model_id=0, duration_us=5)
            await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(made,)))
            clock.advance(300)
            assert not receiver.asked, "the other replica has older ones in its spool"
            replicas[0] = another(alive=False)
            await receiver.until(lambda r: bool(r.spans))
        finally:
            await cancel_and_wait([running])
    await store.close()
    found = attributes(receiver.spans[0])
    assert found["gen_ai.provider.name"] == "anthropic"
    assert (found["ratchet.model"], found["server.address"]) == ("claude", "api.anthropic.com")
    assert (receiver.headers[0]["authorization"], receiver.headers[0]["x-team"]) == ("Basic abc", "red")
    assert receiver.resources[0]["service.instance.id"] == "me"
    assert registry.get_sample_value("ratchet_telemetry_failures_total") == 0


async def test_without_the_extra_nothing_but_telemetry_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)  # as Python marks what is not there
    config = parse_config({"telemetry": {"otlp_endpoint": "http://127.0.0.1:4318"}})
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=ManualClock())
    caplog.set_level(logging.ERROR)
    out = TelemetryOut(config, CollectorRegistry(), ManualClock(), SpoolReader(tmp_path), lambda: ())
    async with asyncio.timeout(60):
        await out.run(store, "me")
    await store.close()
    assert "install the extra: pip install 'ratchet-proxy[otel]'" in caplog.text
    with pytest.raises(ConfigError, match="are not installed"):
        otlp_target(config.telemetry)


def test_the_packages_are_looked_for_without_being_loaded() -> None:
    """In a process of its own, in which nobody has loaded a part of them."""
    script = (
        "import sys; from proxy.config.programs import otlp_target; from proxy.config.model import TelemetryConfig; "
        "print(otlp_target(TelemetryConfig(otlp_endpoint='http://a:1')).endpoint, 'opentelemetry.sdk' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["http://a:1", "False"], run.stderr


def test_switched_off_it_shows_nothing_and_looks_at_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    TelemetryOut(parse_config({}), registry, ManualClock(), SpoolReader(Path()), lambda: ())
    assert not list(registry.collect())
    assert otlp_target(TelemetryConfig(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None


def test_the_environment_counts_where_the_setting_says_so() -> None:
    said = TelemetryConfig(otlp_endpoint="env")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://col:4318", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%2Cb"}
    assert otlp_target(said, environ) == OtlpTarget(endpoint="http://col:4318", headers={"api-key": "a,b"})
    own = otlp_target(replace(said, otlp_headers="x=1"), environ)
    assert own is not None
    assert own.headers == {"x": "1"}
    named = otlp_target(replace(said, otlp_endpoint="http://b:1"), environ)
    assert named == OtlpTarget(endpoint="http://b:1", headers={})
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT is not set"):
        otlp_target(said, {})
    with pytest.raises(ConfigError, match='OTEL_EXPORTER_OTLP_ENDPOINT "col:4318" is not'):
        otlp_target(said, {"OTEL_EXPORTER_OTLP_ENDPOINT": "col:4318"})
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS is not name=value"):
        otlp_target(said, environ | {"OTEL_EXPORTER_OTLP_HEADERS": "Bearer sk-123"})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"otlp_endpoint": "collector:4317"}, "telemetry.otlp_endpoint: 'collector:4317' is not the URL"),
        ({"otlp_headers": "Bearer sk-123"}, "telemetry.otlp_headers: is not name=value,name=value"),
        ({"otlp_signals": ["metrics"]}, "telemetry.otlp_signals"),
        ({"otlp_sample": 1.5}, "telemetry.otlp_sample: 1.5 is too large"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config({"telemetry": changes})
    assert complaint in str(raised.value).replace('"', "'")
    assert "sk-123" not in str(raised.value)


def test_headers_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization=Basic%20cGs=\n")
    (tmp_path / "ratchet.toml").write_text(
        f'[telemetry]\notlp_endpoint = "http://a:1"\notlp_headers_file = "{tmp_path}/headers"\n'
    )
    config = load_config(tmp_path / "ratchet.toml")
    target = otlp_target(config.telemetry)
    assert target is not None
    assert target.headers == {"Authorization": "Basic cGs="}
    assert "cGs" not in str(public_document(config)) + repr(config) + repr(target)
