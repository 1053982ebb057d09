"""A dataset with all that the store knows: the real builder's files, the runs before it, the settings in force."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from policies.rows import Run
from policies.selection import DataGeneratorConfig
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.ports import DatasetRequest
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord
from proxy.web.datasets import DatasetReader
from tests.harness.install import Install

CONFIG = DataGeneratorConfig(holdout_share=0.0)
WORDS = ("tides", "glaciers", "violins", "comets", "bridges")


@pytest.fixture
async def store(install: Install) -> AsyncIterator[Store]:
    opened = await install.open_store()
    yield opened
    await opened.close()


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


def training(install: Install) -> Path:
    return install.root / "training"


async def log(install: Install, store: Store, segment: int, *words: str) -> list[NewRecord]:
    records = [install.record(user=word, query=f"What of {word}?", response=f"Much of {word}.") for word in words]
    await store.ingest.apply(IngestBatch(writer="w", segment=segment, offset=1, records=tuple(records)))
    return records


async def build(install: Install, store: Store, run: str, config: DataGeneratorConfig = CONFIG) -> None:
    """A dataset and its run, as the loop leaves them."""
    install.clock.advance(60)
    version = await store.configs.add(run, {"generator_config": {"min_quality_score": config.min_quality_score}})
    request = DatasetRequest(run_id=run, until_s=install.clock.now(), config_fingerprint=version.fingerprint)
    manifest = await StoreDatasetBuilder(store.samples, config, training(install)).build(request)
    lease = await store.leases.acquire("loop", "host", ttl_s=60)
    assert lease is not None
    started_us = int(install.clock.now() * 1e6)
    made = Run(id=run, state="trained", trigger="manual", started_us=started_us, manifest=manifest.as_json())
    await store.journal.transition(LoopTransaction(fence=lease.fence, runs=(made,)))


async def test_every_line_has_its_record_and_the_counts_add_up(install: Install, store: Store) -> None:
    await store.models.add("champion")
    records = await log(install, store, 1, *WORDS)
    await build(install, store, "run-1")
    reader = DatasetReader(training(install), store)
    document = await reader.document("run-1")
    assert (document["seen"], document["used"], document["left_out"]) == (5, 5, 0)
    assert (document["state"], document["former"], document["files"]["holdout"]) == ("trained", None, None)
    page = await reader.lines("run-1", "train", 1, 20)
    said = [(line["sources"][0]["record"], line["rows"][0]["text"]) for line in page["lines"]]
    assert said == [(record.id, f"What of {word}?") for record, word in zip(records, WORDS, strict=True)]


async def test_the_difference_has_records_counts_and_settings(install: Install, store: Store) -> None:
    await log(install, store, 1, *WORDS)
    await build(install, store, "run-1")
    [new] = await log(install, store, 2, "saffron")
    await build(install, store, "run-2", replace(CONFIG, min_quality_score=0.5))
    await log(install, store, 3, "fjords")
    await build(install, store, "run-3")
    reader = DatasetReader(training(install), store)
    found = await reader.difference("run-2")
    assert (found["former"], found["records"]) == ("run-1", {"new": 1, "gone": 0, "same": 5})
    assert found["examples"]["new"] == [{"record": new.id, "there": True, "words": "What of saffron?"}]
    assert found["settings"] == [{"name": "generator_config.min_quality_score", "former": 0.7, "later": 0.5}]
    assert {"name": "used", "former": 5, "later": 6} in found["counts"]
    assert (await reader.difference("run-1", "run-3"))["records"] == {"new": 0, "gone": 2, "same": 5}
    assert await reader.others("run-2") == ["run-3", "run-1"]
    with pytest.raises(LookupError, match="no dataset before"):
        await reader.difference("run-1")


async def test_what_was_deleted_is_not_shown_whatever_the_file_holds(install: Install, store: Store) -> None:
    await log(install, store, 1, *WORDS)
    await build(install, store, "run-1")
    await store.deletion.delete_user(install.keys.user_hash(b"comets"))
    reader = DatasetReader(training(install), store)
    assert "comets" in (training(install) / "run-1" / "data.jsonl").read_text()
    page = await reader.lines("run-1", "train", 1, 20)
    assert "comets" not in str(page)
    assert [line["number"] for line in page["lines"] if line["hidden"]] == [4]
    left = await reader.left("run-1", 20)
    assert [(source["there"], source["words"]) for source in left[:2]] == [(True, "What of bridges?"), (False, None)]


async def test_without_knowing_whose_a_line_is_no_text_is_shown(install: Install, store: Store) -> None:
    await log(install, store, 1, *WORDS)
    await build(install, store, "run-1")
    lineage = training(install) / "run-1" / "lineage.csv"
    rows = [",".join(row.split(",")[:3]) for row in lineage.read_text().splitlines()]
    lineage.write_text("\n".join(rows) + "\n")  # as version 0.1 wrote it
    page = await DatasetReader(training(install), store).lines("run-1", "train", 1, 20)
    assert {line["hidden"] for line in page["lines"]} == {"not shown: this dataset does not name the line's record"}
    assert not any(line["rows"] or line["rehearsal"] for line in page["lines"])
