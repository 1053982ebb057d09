"""All that a stranger can send at once, against a whole `ratchet serve`: how well others are served, what it costs.

    python -m tests.bench.hostile [rounds]

Three attackers send every hostile request and ask for every hostile answer of `tests/harness/hostile_bytes.py`, again
and again, while one client asks ordinary questions. Printed are that client's times, how far ingest is behind when the
attack ends, and the most memory that controller and worker ever had.

Targets: p99 250 ms, 5 s behind, controller 400 MiB; all of it within the 1 GiB of the Kubernetes example.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.acceptance.test_hostile_bytes import ask, attack, lag, memory_mib, serve_hostile, slowest
from tests.harness.serve import RatchetProcess


async def main(rounds: int) -> None:
    async with serve_hostile() as upstream:
        with tempfile.TemporaryDirectory() as folder:
            ratchet = RatchetProcess(Path(folder), champion=upstream.url)
            await asyncio.to_thread(ratchet.start)
            await asyncio.to_thread(ratchet.await_admin)
            calm = [await asyncio.to_thread(ask, ratchet, f"calm-request-{n}") for n in range(200)]
            before = memory_mib(ratchet.controller_pid, "VmHWM")

            def again() -> None:
                for _ in range(rounds):
                    attack(ratchet)

            attackers = [asyncio.create_task(asyncio.to_thread(again)) for _ in range(3)]
            took: list[float] = []
            while not all(task.done() for task in attackers):
                took.append(await asyncio.to_thread(ask, ratchet, f"meanwhile-{len(took)}"))
            await asyncio.gather(*attackers)
            behind = await asyncio.to_thread(lag, ratchet, "the-one-behind-them")
            print(f"calm        p50 {sorted(calm)[100] * 1e3:6.1f} ms  p99 {slowest(calm) * 1e3:6.1f} ms")
            print(f"under attack p50 {sorted(took)[len(took) // 2] * 1e3:5.1f} ms  p99 {slowest(took) * 1e3:6.1f} ms"
                  f"  of {len(took)} requests")  # fmt: skip
            print(f"ingest      {behind:.2f} s behind at the end")
            print(f"controller  {memory_mib(ratchet.controller_pid, 'VmHWM'):.0f} MiB ({before:.0f} before)")
            print(f"worker      {memory_mib(ratchet.worker_pids[0], 'VmHWM'):.0f} MiB")
            await asyncio.to_thread(ratchet.stop)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
