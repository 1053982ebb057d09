"""A dataset from a history: seconds, samples per second, peak memory. `python tests/bench/dataset.py 20000 150 chat`.

One sample in ten repeats an earlier one with a word changed. By default samples come as questions and answers; `chat`
makes them exchanges of chat completions as they are logged, with a system prompt, one in ten with a tool's call and
result; `store` writes these into a SQLite database first, and reads them from there. The peak is that of the whole
process (VmHWM), so that SQLite's cache counts too; at constant memory it does not grow with the number of samples.
The interpreter is set up as the controller sets it up; the CPU time is that of the process, less that of making the
samples.
`late_ms` is how much later than due the event loop beside the build came round, in the middle and in the worst
hundredth: what the controller's other work notices of it.
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

from policies.records import LoggedExchange, Sample, StickySource
from policies.selection import DataGeneratorConfig
from proxy.app.controller import SWITCH_S
from proxy.app.garbage import leave_batches
from proxy.clock import SystemClock
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.ports import DatasetRequest
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, RecordFlag
from proxy.tasks import cancel_and_wait, spawn

WORDS = [f"word{n}" for n in range(20_000)]


class Synthetic:
    """`count` samples of `words` words each, newest first, made as they are read."""

    def __init__(self, count: int, words: int, *, chat: bool) -> None:
        self.count, self.words, self.chat = count, words, chat

    async def iter(self, **_: Any) -> AsyncIterator[Sample]:
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
                exchange=exchange(n, text) if self.chat else LoggedExchange(),
                model="champion",
                quality=0.9,
            )

    async def judged(self, **_: Any) -> AsyncIterator[Sample]:
        """The store's method: nobody voted."""
        nobody: tuple[Sample, ...] = ()
        for sample in nobody:
            yield sample


def exchange(n: int, text: str) -> LoggedExchange:
    """A chat completion as it is logged; each tenth goes on from a tool's result."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Tell me about it"},
    ]
    request: dict[str, Any] = {"model": "m", "messages": messages}
    if n % 10 == 3:
        call = {"id": f"call_{n}", "type": "function", "function": {"name": "look_up", "arguments": f'{{"n": {n}}}'}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{n}", "content": f"found {n}"},
        ]
        request["tools"] = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    answer = {"id": f"chatcmpl-{n}", "object": "chat.completion", "model": "m", "choices": [choice]}
    return LoggedExchange(
        kind="chat",
        target="/v1/chat/completions",
        request=json.dumps(request).encode(),
        response=json.dumps(answer).encode(),
        request_type="application/json",
        response_type="application/json",
    )


async def stored(source: Synthetic, store: Store) -> None:
    """Write the samples as records."""
    model = await store.models.add("champion")
    waiting: list[NewRecord] = []
    batches = 0
    async for sample in source.iter():
        wire = sample.exchange
        body = BodyPayload(
            method="POST",
            target=wire.target,
            request_headers={"content-type": wire.request_type},
            response_headers={"content-type": wire.response_type},
            request=wire.request,
            response=wire.response,
            query=sample.query,
            response_text=sample.response,
        )
        waiting.append(
            NewRecord(
                id=sample.record_id,
                user_hash=sample.user,
                key_source=StickySource.HEADER,
                arm=sample.arm,
                served_by=sample.arm,
                model_id=model.id,
                flags=RecordFlag.SAMPLE,
                kind=wire.kind,
                method="POST",
                status=200,
                quality=sample.quality,
                body=body,
            )
        )
        if len(waiting) == 500:
            batches += 1
            await store.ingest.apply(IngestBatch(writer="bench", segment=1, offset=batches, records=tuple(waiting)))
            waiting = []
    await store.ingest.apply(IngestBatch(writer="bench", segment=1, offset=batches + 1, records=tuple(waiting)))


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


async def measure(count: int, words: int, kind: str) -> dict[str, Any]:
    """Build once in a temporary folder. `kind` is plain, chat or store."""
    with tempfile.TemporaryDirectory() as folder:
        source = Synthetic(count, words, chat=kind != "plain")
        making_us = await made(source)
        if kind == "store":
            making_us = 0
            store = await Store.open(f"sqlite:///{folder}/bench.db", clock=SystemClock())
            await stored(source, store)
            found = await timed(store.samples, count, Path(folder))
            await store.close()
        else:
            found = await timed(source, count, Path(folder))
    found["cpu_us_per_sample"] -= making_us
    return {"samples": count, "words": words, "kind": kind} | found


async def made(source: Synthetic) -> int:
    """CPU time that making a sample takes, in microseconds, of the first ten thousand."""
    some = Synthetic(min(source.count, 10_000), source.words, chat=source.chat)
    used = time.process_time()
    async for _ in some.iter():
        pass
    return round((time.process_time() - used) / some.count * 1e6)


async def timed(source: Any, count: int, folder: Path) -> dict[str, Any]:
    """One build of all that `source` has."""
    late_ms: list[float] = []
    watching = spawn(watch_lateness(late_ms), name="lateness")
    before, start, used = peak_mib(), time.perf_counter(), time.process_time()
    build = StoreDatasetBuilder(source, DataGeneratorConfig(), folder)
    manifest = await build.build(DatasetRequest(run_id="bench", until_s=2e9, config_fingerprint=""))
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - used
    await cancel_and_wait([watching])
    late_ms.sort()
    return {
        "kept": manifest.samples + manifest.holdout_samples,
        "near_duplicates": manifest.dropped.get("near_duplicate", 0),
        "seconds": round(seconds, 1),
        "samples_per_s": round(count / seconds),
        "cpu_us_per_sample": round(cpu_s / count * 1e6),
        "late_ms": [round(late_ms[int(len(late_ms) * part)], 1) for part in (0.5, 0.99)],
        "peak_growth_mib": round(peak_mib() - before, 1),
    }


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_S)
    leave_batches()
    counted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    long = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    print(json.dumps(asyncio.run(measure(counted, long, sys.argv[3] if len(sys.argv) > 3 else "plain"))))
