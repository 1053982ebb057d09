"""A dataset build needs the same memory for a long history as for a short one."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from policies.selection import DataGeneratorConfig
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.ports import DatasetRequest
from tests.loop.test_dataset import History, sample

WORDS = [f"word{n}" for n in range(300)]


class Endless(History):
    """Samples made as they are read."""

    def __init__(self, count: int) -> None:
        super().__init__([])
        self.count = count

    async def iter(self, **_: Any) -> Any:
        for n in range(self.count, 0, -1):
            words = random.Random(n).choices(WORDS, k=60)
            yield sample(n, user=n % 1000, query="Tell me", response=" ".join(words))


async def peak_bytes(count: int, folder: Path) -> int:
    """Most Python memory in use during a build; SQLite's cache, which has a fixed limit, is not Python's."""
    config = DataGeneratorConfig(format_type="completion")
    build = StoreDatasetBuilder(Endless(count), config, folder)
    tracemalloc.start()
    try:
        await build.build(DatasetRequest(run_id=f"run-{count}", until_s=2e9, config_fingerprint=""))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    await peak_bytes(300, tmp_path)  # fills the cache of words
    short, long = await peak_bytes(500, tmp_path), await peak_bytes(3_000, tmp_path)
    assert long < short + 1_000_000, "2,500 more samples kept in memory would be 2.5 MB"
