"""Benchmarks are run by hand, seldom: that they still run, and measure what they say, is seen here."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import pytest

from tests.bench import dataset
from tests.bench import ingest as ingesting
from tests.harness.exchanges import exchanges
from tests.harness.frames import of_record, packed
from tests.harness.pages import ROOT


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "bench").glob("*.py")), ids=lambda file: file.stem)
def test_each_can_be_loaded_and_says_how_to_run_it(file: Path) -> None:
    assert importlib.import_module(f"tests.bench.{file.stem}").__doc__


@pytest.mark.parametrize("kind", ["plain", "chat", "store"])
async def test_a_dataset_is_built(kind: str) -> None:
    found = await dataset.measure(300, 20, kind)
    assert 200 < found["kept"] <= 300


async def test_frames_are_stored(tmp_path: Path) -> None:
    count = 3 * ingesting.WARM_UP
    records = list(exchanges(count, start_us=int(time.time() * 1e6) - count * 1000))
    frames = [packed(ingesting.streamed(record) if n % 2 else of_record(record)) for n, record in enumerate(records)]
    cost = await ingesting.ingest(frames, tmp_path, ingesting.Database(f"sqlite:///{tmp_path}/x.db"))
    assert cost.bytes > 100
