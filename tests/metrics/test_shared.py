"""Shared counters: what a worker counted is there for another process, even after a kill and a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.metrics.gateway import stats_files
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
    first.close()
    second = SharedCounters(tmp_path / "w", (*NAMES, "new_total"))
    second.add("requests_total")
    assert read_counters(tmp_path / "w")["requests_total"] == 6
    assert read_counters(tmp_path / "w")["in_flight"] == 0
    second.close()


def test_what_a_predecessor_counts_while_it_drains_is_counted(tmp_path: Path) -> None:
    """After `kill -9` of a supervisor, or a reload, two processes have the same number for a while."""
    path = tmp_path / "worker-0.stats"
    first = SharedCounters(path, NAMES)
    first.add("requests_total", 5)
    second = SharedCounters(path, (*NAMES, "new_total"))
    third = SharedCounters(path, NAMES)
    for counters, more in ((first, 1), (second, 10), (third, 100)):
        counters.add("requests_total", more)
        counters.add("in_flight", more)
    assert sum_counters(stats_files(tmp_path))["requests_total"] == 116
    assert sum_counters(stats_files(tmp_path))["in_flight"] == 111
    first.close()
    third.close()
    assert sum_counters(stats_files(tmp_path))["in_flight"] == 10, "what was open in processes that have ended is gone"
    fourth = SharedCounters(path, NAMES)
    fourth.add("requests_total", 1000)
    assert sum_counters(stats_files(tmp_path))["requests_total"] == 1116
    assert len(stats_files(tmp_path)) == 3, "files of processes that have ended are used again"
    for counters in (second, fourth):
        counters.close()


def test_counts_from_before_there_was_room_are_shown_later(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    earlier = tmp_path / "worker-0.stats"
    before = SharedCounters(earlier, NAMES)
    before.add("requests_total", 7)
    before.close()
    counters = SharedCounters(folder / "worker-0.stats", NAMES)  # no such folder: as good as a full disk
    counters.add("requests_total", 2)
    counters.show()
    assert sum_counters(stats_files(folder)) == {}
    folder.mkdir()
    earlier.rename(folder / "worker-0.stats")
    for _ in range(2):
        counters.add("requests_total")
        counters.set("in_flight", 3)
        counters.show()
    assert sum_counters(stats_files(folder))["requests_total"] == 7 + 4
    assert sum_counters(stats_files(folder))["in_flight"] == 3
    counters.add("requests_total")
    counters.close()
    assert sum_counters(stats_files(folder))["requests_total"] == 7 + 5


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
