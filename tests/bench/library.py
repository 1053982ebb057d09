"""What the library costs an application: CPU seconds of the import, CPU milliseconds of a logged call.

    python -m tests.bench.library [calls]

All threads count, and what is written later, too: the time is taken after everything is stored.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proxy import UsageLogger

_IMPORT = """
import time
before = time.process_time()
from proxy import ABTestConfig, ContinuousLearningLoop, DataGeneratorConfig, LoopConfig, TriggerConfig, UsageLogger
print(time.process_time() - before)
"""


def import_s(runs: int = 5) -> float:
    """CPU seconds, the least of some runs."""
    took = [subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True) for _ in range(runs)]
    return min(float(one.stdout) for one in took)


def log_ms(calls: int) -> dict[str, float]:
    """CPU milliseconds per call: until `log` comes back, and with the storing of it."""
    with tempfile.TemporaryDirectory() as folder, UsageLogger(Path(folder) / "usage.db") as usage:
        usage.log("opens the log", "r", "m")
        usage.get_statistics()
        own, before = time.thread_time(), time.process_time()
        for number in range(calls):
            usage.log(f"What is {number}?", f"{number} is a number. " * 8, "m", latency_ms=3, user=f"u{number % 50}")
        own_s = time.thread_time() - own
        assert usage.get_statistics()["total"] == calls + 1
        return {
            "caller": round(own_s * 1000 / calls, 4),
            "whole": round((time.process_time() - before) * 1000 / calls, 4),
        }


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(json.dumps({"import_cpu_s": round(import_s(), 3), "log_cpu_ms": log_ms(calls), "calls": calls}, indent=2))


if __name__ == "__main__":
    main()
