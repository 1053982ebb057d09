"""Shared counters: what a worker counted is there for another process, even after a kill and a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.metrics.shared import SharedCounters, is_counter, read_counters, sum_counters

NAMES = ("in_flight", "requests_total", 'dropped_total{reason="disk_full"}')


def test_counts_are_seen_through_the_file(tmp_path: Path) -> None:
    counters = SharedCounters(tmp_path / "w", NAMES)
    counters.add("requests_total")
    counters.add("requests_total", 2)
    counters.set("in_flight", 7)
    counters.values[counters.slot("in_flight")] -= 1
    assert read_counters(tmp_path / "w") == dict(zip(NAMES, (6.0, 3.0, 0.0), strict=True))
    counters.close()


def test_a_restart_carries_counters_on_and_begins_gauges_at_zero(tmp_path: Path) -> None:
    first = SharedCounters(tmp_path / "w", NAMES)
    first.add("requests_total", 5)
    first.add("in_flight", 5)
    second = SharedCounters(tmp_path / "w", (*NAMES, "new_total"))
    second.add("requests_total")
    first.add("requests_total", 100)  # a straggler of the old process harms nobody
    assert read_counters(tmp_path / "w")["requests_total"] == 6
    assert read_counters(tmp_path / "w")["in_flight"] == 0
    first.close()
    second.close()


def test_a_killed_workers_counts_stay(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from proxy.metrics.shared import SharedCounters
counters = SharedCounters(Path(sys.argv[1]), ("requests_total",))
for _ in range(1000):
    counters.add("requests_total")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "w")], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert read_counters(tmp_path / "w") == {"requests_total": 1000.0}


def test_sums_run_over_the_workers_and_past_unreadable_files(tmp_path: Path) -> None:
    workers = [SharedCounters(tmp_path / str(n), NAMES) for n in range(3)]
    for n, counters in enumerate(workers):
        counters.add("requests_total", n)
        counters.close()
    (tmp_path / "junk").write_bytes(b"junk")
    total = sum_counters([*(tmp_path / str(n) for n in range(3)), tmp_path / "junk", tmp_path / "absent"])
    assert total["requests_total"] == 3


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"RCOUNT1\n" + b"\xff" * 8, b"RCOUNT1\n\x02" + b"\0" * 7 + b'["'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match="not a file of shared counters"):
        read_counters(tmp_path / "f")


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        SharedCounters(tmp_path / "w", ("a", "a"))
    counters = SharedCounters(tmp_path / "w", NAMES)
    with pytest.raises(KeyError):
        counters.add("undeclared")
    counters.close()
    assert [is_counter(name) for name in NAMES] == [False, True, True]
