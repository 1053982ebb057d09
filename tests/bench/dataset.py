"""A dataset from a synthetic history: seconds, samples per second, peak memory. `python tests/bench/dataset.py 20000`.

One sample in ten repeats an earlier one with a word changed. The peak is that of the whole process (VmHWM), so that
SQLite's cache counts too; at constant memory it does not grow with the number of samples. `late_ms` is how much later
than due the event loop beside the build came round, in the middle and in the worst hundredth: what the controller's
other work notices of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.ports import DatasetRequest
from proxy.tasks import cancel_and_wait, spawn

WORDS = [f"word{n}" for n in range(20_000)]


class Synthetic:
    """`count` samples of `words` words each, newest first, made as they are read."""

    def __init__(self, count: int, words: int) -> None:
        self.count, self.words = count, words

    async def iter_samples(self, **_: Any) -> AsyncIterator[Sample]:
        """The store's method."""
        coin = random.Random(0)
        kept: list[str] = ["first"] * 1000
        for n in range(self.count, 0, -1):
            if n % 10 == 0:
                text = f"changed {coin.choice(kept)}"
            else:
                text = kept[n % 1000] = " ".join(coin.choices(WORDS, k=self.words))
            yield Sample(
                record_id=f"{1_700_000_000_000 + n:012x}{n:020x}",
                created_at=1_700_000_000 + n / 1000,
                user=n % (self.count // 20 + 1),
                query="Tell me about it",
                response=text,
                model="champion",
                quality=0.9,
            )

    async def iter_judged(self, **_: Any) -> AsyncIterator[Sample]:
        """The store's method: nobody voted."""
        nobody: tuple[Sample, ...] = ()
        for sample in nobody:
            yield sample


def peak_mib() -> float:
    """Most memory this process has ever held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def watch_lateness(late_ms: list[float]) -> None:
    """Come round every 10 ms, and note how late that is."""
    while True:
        due = time.perf_counter() + 0.01
        await asyncio.sleep(0.01)
        late_ms.append((time.perf_counter() - due) * 1000)


async def measure(count: int, words: int) -> dict[str, Any]:
    """Build once in a temporary folder."""
    late_ms: list[float] = []
    watching = spawn(watch_lateness(late_ms), name="lateness")
    before, start, used = peak_mib(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        build = StoreDatasetBuilder(Synthetic(count, words), DataGeneratorConfig(), Path(folder))
        manifest = await build.build(DatasetRequest(run_id="bench", until_s=2e9, config_fingerprint=""))
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - used
    await cancel_and_wait([watching])
    late_ms.sort()
    return {
        "samples": count,
        "words": words,
        "kept": manifest.samples + manifest.holdout_samples,
        "near_duplicates": manifest.dropped.get("near_duplicate", 0),
        "seconds": round(seconds, 1),
        "samples_per_s": round(count / seconds),
        "cpu_us_per_sample": round(cpu_s / count * 1e6),
        "late_ms": [round(late_ms[int(len(late_ms) * part)], 1) for part in (0.5, 0.99)],
        "peak_growth_mib": round(peak_mib() - before, 1),
    }


if __name__ == "__main__":
    counted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(json.dumps(asyncio.run(measure(counted, int(sys.argv[2]) if len(sys.argv) > 2 else 150))))
