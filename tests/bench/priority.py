"""Serving beside a controller that catches up, all of `ratchet serve` on one core: latency, and speed of catching up.

    python -m tests.bench.priority [rate] [rounds]        5,000 requests a second, 8 rounds: about 2 minutes

wrk and the model are on another core. 5,000 a second are about half of what one core can serve and store. Blocks of 2 s
take turns: in the first the controller is stopped, so that there is a latency without it and a backlog; then it goes on
and catches up, at the nice values in question (only root may go back to a lower one; else at the default alone). Ratios
compare blocks of the same round. *Stored per request* is above 1 where it catches up.

Aim: p99 with the controller at most 1.3 times the one without. Believe it on an idle machine only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from proxy.config.serving import ServerConfig
from proxy.config.storage import StoreConfig
from tests.bench.processes import STATIC, cpu_s, free_port, missing_tools, nginx
from tests.bench.report import around, markdown, ran_on
from tests.bench.wrk import wrk
from tests.harness.serve import RatchetProcess
from tests.harness.upstream import CHAT

RATE = 5_000
ROUNDS = 8
BLOCK_S = 2
WITHOUT = "no controller"
NICES = (10, 19)


def main(argv: list[str]) -> int:
    if missing := missing_tools():
        print(missing, file=sys.stderr)
        return 2
    rate = int(argv[0]) if argv else RATE
    rounds = int(argv[1]) if len(argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        print(measure(Path(directory), rate, rounds))
    print(ran_on())
    return 0


def measure(folder: Path, rate: int, rounds: int) -> str:
    """The table."""
    default = ServerConfig().controller_nice
    nices = NICES if os.geteuid() == 0 else (default,)
    settings = {
        "server": {"controller_nice": default},
        "store": {"ingest_interval_seconds": StoreConfig().ingest_interval_seconds},
    }
    model, core = free_port(), str(max(os.sched_getaffinity(0)))
    with nginx(folder, "model", model, model, STATIC.format(chat=CHAT.decode()), beside=True):
        ratchet = RatchetProcess(
            folder, champion=f"http://127.0.0.1:{model}", settings=settings, inside=["taskset", "-c", core]
        )
        ratchet.start().await_admin()
        try:
            wrk(folder, _port(ratchet), 2, rate=rate)
            blocks = [one_round(folder, ratchet, rate, nices) for _ in range(rounds)]
        finally:
            ratchet.stop(expect=None)
    return table(blocks)


def one_round(folder: Path, ratchet: RatchetProcess, rate: int, nices: Sequence[int]) -> dict[str, dict[str, float]]:
    """A block without the controller, and one with it for each nice value."""
    controller = ratchet.controller_pid
    found: dict[str, dict[str, float]] = {}
    for nice in nices:
        os.kill(controller, signal.SIGSTOP)
        try:
            without = wrk(folder, _port(ratchet), BLOCK_S, rate=rate)
        finally:
            os.kill(controller, signal.SIGCONT)
        found[WITHOUT] = without | {"ratio": 1.0}
        if len(nices) > 1:
            renice(controller, nice)
        stored, cpu = ratchet.metric("ratchet_ingest_records_total"), cpu_s(controller)
        beside = wrk(folder, _port(ratchet), BLOCK_S, rate=rate)
        beside["cpu_share"] = (cpu_s(controller) - cpu) / BLOCK_S
        beside["stored"] = (ratchet.metric("ratchet_ingest_records_total") - stored) / beside["requests"]
        beside["ratio"] = beside["p99_ms"] / without["p99_ms"]
        found[f"nice {nice}"] = beside
    return found


def renice(pid: int, nice: int) -> None:
    """All threads of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    head = ["the controller catches up on the same core", "requests a second", "p50 ms", "p99 ms",
            "p99 over without: median (rounds)", "its share of the core", "stored per request"]  # fmt: skip
    lines: list[list[object]] = []
    for name in rounds[0]:
        blocks = [found[name] for found in rounds]
        line: list[object] = [name, *(median(one[key] for one in blocks) for key in ("req_s", "p50_ms", "p99_ms"))]
        if name != WITHOUT:
            line.append(around([one["ratio"] for one in blocks]))
            line += [median(one[key] for one in blocks) for key in ("cpu_share", "stored")]
        lines.append(line + [""] * (len(head) - len(line)))
    return markdown(head, lines)


def _port(ratchet: RatchetProcess) -> int:
    return int(ratchet.base_url.rpartition(":")[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
