"""What the controller puts on /metrics: traffic, the workers' counters, spool, store, processes, build."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.app.counters import COUNTER_TEXTS
from proxy.app.paths import DataDir
from proxy.clock import Clock
from proxy.config.model import TelemetryConfig
from proxy.metrics.gateway import GatewayCollector, stats_files
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolUsage
from proxy.version import __version__, build

__all__ = ["ControllerMetrics"]


class ControllerMetrics:
    """The registry of one controller, and the numbers that it sets itself."""

    def __init__(
        self, data: DataDir, config: TelemetryConfig, clock: Clock, *, spool_max_bytes: int | None = None
    ) -> None:
        """`spool_max_bytes`: the spool's cap, where it is to be shown."""
        self.registry = CollectorRegistry()
        self.traffic = TrafficMetrics(self.registry, otel_names=config.otel_names)
        self._clock = clock
        self.registry.register(GatewayCollector(lambda: stats_files(data.run), COUNTER_TEXTS))
        self.registry.register(_ProcessCollector(data.run))
        info = Gauge(
            "ratchet_build_info",
            "1, with the version as a label, and whether the hot path is compiled or pure Python.",
            ["version", "python", "build"],
            registry=self.registry,
        )
        info.labels(__version__, platform.python_version(), build()).set(1)
        self._store_up = self._gauge(
            "ratchet_store_up", "1 while the store takes what happens; 0 after a failed write until one succeeds."
        )
        self._replaced = Counter(
            "ratchet_store_replaced", "Times that the database was set up anew: its files were gone, or its tables.",
            registry=self.registry,
        )  # fmt: skip
        self._store_bytes = self._gauge("ratchet_store_bytes", "Size of the store on disk.")
        self._store_records = self._gauge("ratchet_store_records", "Records in the store, estimated.")
        self._spool_bytes = self._gauge(
            "ratchet_spool_bytes", "Bytes in the spool of this host, with what is stored and only kept."
        )
        self._pending = self._gauge("ratchet_spool_pending_bytes", "Bytes in the spool that are not stored yet.")
        self._oldest = self._gauge("ratchet_spool_oldest_seconds", "Age of the oldest record that is not stored yet.")
        if spool_max_bytes is not None:
            self._gauge("ratchet_spool_max_bytes", "Cap of the spool (spool.max_bytes).").set(spool_max_bytes)
        self._clock_ahead = self._gauge(
            "ratchet_clock_ahead_seconds", "By how much this host's clock is corrected: it is ahead of the database's."
        )
        self._jumps = Counter(
            "ratchet_clock_jumps", "How often this host's clock was set by more than a second, by direction.",
            ["direction"], registry=self.registry,
        )  # fmt: skip
        for direction in ("forward", "back"):
            self._jumps.labels(direction)
        self._refused = Counter(
            "ratchet_admin_tokens_refused", "Wrong tokens at the admin port, by whether they were told to wait.",
            ["reason"], registry=self.registry,
        )  # fmt: skip
        for reason in ("wrong", "too_many"):
            self._refused.labels(reason)
        self._writers = self._gauge("ratchet_spool_writers", "Processes, dead ones included, with a spool to read.")

    def refused_token(self, reason: Literal["wrong", "too_many"]) -> None:
        """A wrong token came to the admin port."""
        self._refused.labels(reason).inc()

    def clock_jumped(self, direction: Literal["forward", "back"]) -> None:
        """This host's clock was set."""
        self._jumps.labels(direction).inc()

    def set_store_up(self, up: bool) -> None:
        """Whether the store takes what happens."""
        self._store_up.set(up)

    def store_replaced(self) -> None:
        """Its files or its tables were gone, and are there again."""
        self._replaced.inc()

    def set_store_size(self, size_bytes: int, records: int) -> None:
        """How large the store is."""
        self._store_bytes.set(size_bytes)
        self._store_records.set(records)

    def set_clock(self, ahead_s: float) -> None:
        """How far this host's clock is ahead of the one that counts."""
        self._clock_ahead.set(ahead_s)

    def set_spool(self, usage: SpoolUsage) -> None:
        """What the spool holds."""
        self._spool_bytes.set(usage.bytes)
        self._pending.set(usage.pending_bytes)
        self._oldest.set(max(0.0, self._clock.now() - usage.oldest_at) if usage.oldest_at is not None else 0.0)
        self._writers.set(usage.writers)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the format that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


class _ProcessCollector(Collector):
    """CPU time, memory and age of every process of this install, from the pid files and /proc."""

    def __init__(self, run_dir: Path) -> None:
        self._run = run_dir
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._booted_at = _booted_at()

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        cpu = CounterMetricFamily("ratchet_process_cpu_seconds", "CPU time of a process.", labels=["process"])
        memory = GaugeMetricFamily(
            "ratchet_process_resident_memory_bytes", "Resident memory of a process.", labels=["process"]
        )
        started = GaugeMetricFamily(
            "ratchet_process_start_time_seconds", "Unix time at which a process was started.", labels=["process"]
        )
        for path in sorted(self._run.glob("*.pid")):
            try:
                # the fields behind the command's name, which may itself hold spaces and brackets
                fields = Path(f"/proc/{int(path.read_text())}/stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue
            cpu.add_metric([path.stem], (int(fields[11]) + int(fields[12])) * self._tick_s)
            started.add_metric([path.stem], self._booted_at + int(fields[19]) * self._tick_s)
            memory.add_metric([path.stem], int(fields[21]) * resource.getpagesize())
        yield cpu
        yield memory
        yield started


def _booted_at() -> float:
    """Unix time at which this machine was started; 0 where /proc does not tell."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
