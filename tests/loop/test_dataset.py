"""The dataset builder: what a given history becomes, and that a crash, a repeat or a cancel does no harm."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.dataset import Progress, StoreDatasetBuilder
from proxy.loop.ports import DatasetRequest
from proxy.store.tables.keys import id_floor, id_time_us

T0 = 1_700_000_000
REQUEST = DatasetRequest(run_id="run-1", until_s=T0 + 1e6, config_fingerprint="f00d")
EVERYTHING = DataGeneratorConfig(deduplicate=False, holdout_share=0.0, max_samples_per_user=None)


def sample(n: int, **change: Any) -> Sample:
    """The record that arrived `n` seconds after T0, about a subject of its own."""
    fields: dict[str, Any] = {
        "record_id": f"{(T0 + n) * 1000:012x}{n:020x}",
        "created_at": float(T0 + n),
        "user": n,
        "query": f"What is {n}?",
        "response": f"Number {n}.",
        "model": "champion",
        "quality": 0.9,
    }
    return Sample(**(fields | change))


class History:
    """A list of samples behind the store's reading method."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.read = 0

    async def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 500,
    ) -> AsyncIterator[Sample]:
        assert newest_first
        for item in sorted(self.samples, key=lambda item: item.record_id, reverse=True):
            if before_id is None or item.record_id < before_id:
                self.read += 1
                yield item

    async def judged(self, *, before_id: str | None = None, chunk: int = 100) -> AsyncIterator[Sample]:
        for item in sorted(self.samples, key=lambda item: item.record_id, reverse=True):
            if before_id is None or item.record_id < before_id:
                yield item


def builder(samples: list[Sample], config: DataGeneratorConfig, folder: Path) -> StoreDatasetBuilder:
    return StoreDatasetBuilder(History(samples), config, folder)


def read(path: str | Path) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def answers(path: str | Path) -> list[str]:
    return [line["messages"][-1]["content"] for line in read(path)]


async def test_the_file_is_what_was_logged_oldest_first(tmp_path: Path) -> None:
    manifest = await builder([sample(2), sample(1), sample(3)], EVERYTHING, tmp_path).build(REQUEST)
    assert answers(manifest.data_path) == ["Number 1.", "Number 2.", "Number 3."]
    assert Path(manifest.data_path) == tmp_path / "run-1" / "data.jsonl"
    assert manifest.samples == manifest.seen == 3
    assert (manifest.first_record_id, manifest.last_record_id) == (sample(1).record_id, sample(3).record_id)
    assert manifest.sha256 == hashlib.sha256(Path(manifest.data_path).read_bytes()).hexdigest()
    assert manifest.models == {"champion": 3}
    assert manifest.holdout_path is None
    assert manifest.config_fingerprint == "f00d"
    assert json.loads((tmp_path / "run-1/manifest.json").read_text()) == manifest.as_json()


async def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    history = [
        sample(1),
        sample(2, quality=0.2),
        sample(3, quality=None),
        sample(4, trainable=False),
        sample(5, feedback=-1.0),
        sample(6, query="what is 1", response="number 1"),
        sample(7, query="What is 1?", response="number 1."),
        sample(8, response=" "),
    ]
    config = DataGeneratorConfig(holdout_share=0.0)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    assert manifest.dropped == {
        "empty": 1,
        "exact_duplicate": 1,
        "low_quality": 1,
        "near_duplicate": 1,
        "negative_feedback": 1,
        "not_trainable": 1,
        "unscored": 1,
    }
    assert manifest.samples + sum(manifest.dropped.values()) == manifest.seen == 8
    assert answers(manifest.data_path) == ["number 1."], "of a group of duplicates the newest stays"


async def test_records_after_the_request_do_not_change_the_dataset(tmp_path: Path) -> None:
    request = DatasetRequest(run_id="run-1", until_s=T0 + 2.0, config_fingerprint="")
    manifest = await builder([sample(1), sample(2), sample(3)], EVERYTHING, tmp_path).build(request)
    assert answers(manifest.data_path) == ["Number 1."]
    assert id_time_us(id_floor((T0 + 2) * 1_000_000)) == (T0 + 2) * 1_000_000


async def test_the_same_run_is_built_once(tmp_path: Path) -> None:
    first = await builder([sample(1)], EVERYTHING, tmp_path).build(REQUEST)
    again = await builder([sample(1), sample(2)], EVERYTHING, tmp_path).build(REQUEST)
    assert again == first


async def test_two_builds_of_the_same_history_are_byte_for_byte_equal(tmp_path: Path) -> None:
    history = [sample(n, user=n % 7, generation=n % 2) for n in range(300)]
    buffer = tmp_path / "buffer.jsonl"
    buffer.write_text("".join(json.dumps({"messages": [{"n": n}]}) + "\n" for n in range(500)))
    config = DataGeneratorConfig(include_existing_data=True, existing_data_path=str(buffer), max_samples=100)
    one = await builder(history, config, tmp_path / "a").build(REQUEST)
    other = await builder(history, config, tmp_path / "b").build(REQUEST)
    assert one.sha256 == other.sha256
    assert one.dropped == other.dropped


async def test_a_build_that_was_cut_short_starts_afresh(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    for name in ("data.jsonl", "data.jsonl.tmp", "holdout.jsonl", "staging.db"):
        (folder / name).write_bytes(b"torn")
    manifest = await builder([sample(1)], EVERYTHING, tmp_path).build(REQUEST)
    assert answers(manifest.data_path) == ["Number 1."]
    assert sorted(path.name for path in folder.iterdir()) == ["data.jsonl", "lineage.csv", "manifest.json"]


async def test_discard_keeps_manifest_and_lineage(tmp_path: Path) -> None:
    build = builder([sample(1)], EVERYTHING, tmp_path)
    await build.build(REQUEST)
    await build.discard("run-1")
    await build.discard("run-1")
    assert sorted(path.name for path in (tmp_path / "run-1").iterdir()) == ["lineage.csv", "manifest.json"]


async def test_the_holdout_shares_no_user_with_the_training_file(tmp_path: Path) -> None:
    history = [sample(n, user=n % 20) for n in range(200)]
    config = DataGeneratorConfig(deduplicate=False, holdout_share=0.3, max_samples_per_user=None)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    assert manifest.holdout_path is not None
    assert len(read(manifest.holdout_path)) == manifest.holdout_samples > 0
    assert manifest.samples + manifest.holdout_samples == 200
    rows = [line.split(",") for line in (tmp_path / "run-1/lineage.csv").read_text().splitlines()]
    assert rows[0][:3] == ["record_id", "user", "split"]
    users = {split: {row[1] for row in rows[1:] if row[2] == split} for split in ("train", "holdout")}
    assert users["train"] | users["holdout"] == {str(n) for n in range(20)}
    assert not users["train"] & users["holdout"]


async def test_heavy_users_challengers_and_old_samples_are_capped(tmp_path: Path) -> None:
    history = [sample(n, user=1) for n in range(10)]
    history += [sample(n, generation=1, model="challenger") for n in range(10, 20)]
    config = DataGeneratorConfig(deduplicate=False, holdout_share=0.0, max_samples_per_user=4, max_own_share=0.2)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    assert answers(manifest.data_path) == ["Number 6.", "Number 7.", "Number 8.", "Number 9.", "Number 19."]
    assert manifest.dropped == {"own_share": 9, "user_cap": 6}
    assert manifest.models == {"champion": 4, "challenger": 1}


async def test_with_a_maximum_the_build_stops_reading(tmp_path: Path) -> None:
    history = History([sample(n) for n in range(2000)])
    config = DataGeneratorConfig(deduplicate=False, holdout_share=0.0, max_samples=50)
    manifest = await StoreDatasetBuilder(history, config, tmp_path).build(REQUEST)
    assert answers(manifest.data_path) == [f"Number {n}." for n in range(1950, 2000)]
    assert history.read < 1000


async def test_preference_pairs_come_from_votes_and_corrections(tmp_path: Path) -> None:
    history = [
        sample(1, query="Why?", response="Because.", feedback=-1.0),
        sample(2, query="why?", response="For these reasons: …", feedback=1.0),
        sample(3, correction="Three."),
        sample(4, feedback=1.0),
    ]
    config = DataGeneratorConfig(format_type="dpo", holdout_share=0.0)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    pairs = [(line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in read(manifest.data_path)]
    assert pairs == [("For these reasons: …", "Because."), ("Three.", "Number 3.")]
    assert manifest.dropped == {"unpaired": 1}
    lineage = (tmp_path / "run-1/lineage.csv").read_text()
    assert all(sample(n).record_id in lineage for n in (1, 2, 3))
    assert sample(4).record_id not in lineage


async def test_the_rehearsal_buffer_is_really_in_the_file(tmp_path: Path) -> None:
    buffer = tmp_path / "buffer.jsonl"
    old = [json.dumps({"messages": [{"role": "assistant", "content": f"Old {n}."}]}) for n in range(100)]
    buffer.write_text("\n".join([*old, "{no json", json.dumps({"prompt": "x"}), "", ""]))
    config = DataGeneratorConfig(
        holdout_share=0.0, deduplicate=False, include_existing_data=True, existing_data_path=str(buffer)
    )
    manifest = await builder([sample(n) for n in range(70)], config, tmp_path).build(REQUEST)
    content = answers(manifest.data_path)
    old_ones = [answer for answer in content if answer.startswith("Old")]
    assert manifest.rehearsal_samples == len(old_ones) == len(set(old_ones)) == 30
    assert manifest.samples == len(content) == 100
    assert manifest.rehearsal_malformed == 2
    assert manifest.dropped == {}
    assert all(25 <= sum(a.startswith("Old") for a in content[at : at + 50]) * 2 <= 35 for at in (0, 50)), (
        "mixed evenly"
    )


async def test_a_short_rehearsal_buffer_is_used_up(tmp_path: Path) -> None:
    buffer = tmp_path / "buffer.jsonl"
    buffer.write_text('{"messages": [{"content": "Old."}]}\n')
    config = DataGeneratorConfig(holdout_share=0.0, include_existing_data=True, existing_data_path=str(buffer))
    manifest = await builder([sample(n) for n in range(9)], config, tmp_path).build(REQUEST)
    assert manifest.rehearsal_samples == 1


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        (None, None, "existing_data_path is not set"),
        ("buffer.jsonl", None, "there is no file"),
        ("buffer.jsonl", '{"prompt": "x"}\n', "no line of .* is in the format chatml"),
    ],
)
async def test_an_unusable_rehearsal_buffer_says_so(
    tmp_path: Path, path: str | None, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "buffer.jsonl").write_text(content)
    config = DataGeneratorConfig(include_existing_data=True, existing_data_path=path and str(tmp_path / path))
    with pytest.raises(PermanentError, match=says):
        await builder([sample(1)], config, tmp_path).build(REQUEST)


async def test_an_empty_history_gives_an_empty_dataset(tmp_path: Path) -> None:
    manifest = await builder([], EVERYTHING, tmp_path).build(REQUEST)
    assert manifest.samples == manifest.seen == 0
    assert manifest.first_record_id is None
    assert Path(manifest.data_path).read_bytes() == b""


async def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    manifest = await builder([sample(1, response="half \ud83d pair")], EVERYTHING, tmp_path).build(REQUEST)
    assert answers(manifest.data_path) == ["half ? pair"]


async def test_a_folder_that_can_not_be_written_is_a_temporary_error(tmp_path: Path) -> None:
    (tmp_path / "run-1").write_text("a file in the way")
    with pytest.raises(TemporaryError, match="run-1"):
        await builder([sample(1)], EVERYTHING, tmp_path).build(REQUEST)


@pytest.mark.parametrize("run_id", ["../escape", "", ".hidden", "a/b", "x" * 200])
async def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(PermanentError, match="run id"):
        await builder([], EVERYTHING, tmp_path).build(DatasetRequest(run_id=run_id, until_s=0.0, config_fingerprint=""))


async def test_progress_is_reported_while_reading(tmp_path: Path) -> None:
    reports: list[Progress] = []
    history = History([sample(n, quality=n % 2) for n in range(450)])
    await StoreDatasetBuilder(history, EVERYTHING, tmp_path, on_progress=reports.append).build(REQUEST)
    assert [report.seen for report in reports] == [200, 400, 450]
    assert reports[-1].kept == 225
    assert reports[-1].dropped == {"low_quality": 225}


async def test_a_cancelled_build_leaves_no_dataset(tmp_path: Path) -> None:
    started = asyncio.Event()
    history = History([sample(n) for n in range(5000)])
    build = StoreDatasetBuilder(history, EVERYTHING, tmp_path, on_progress=lambda _: started.set())
    task = asyncio.get_running_loop().create_task(build.build(REQUEST))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((tmp_path / "run-1").iterdir()) == []
    assert (await build.build(REQUEST)).samples == 5000


async def test_preview_shows_the_newest_and_writes_nothing(tmp_path: Path) -> None:
    history = [sample(n, quality=n % 2) for n in range(1000)]
    preview = await builder(history, EVERYTHING, tmp_path).preview(until_s=REQUEST.until_s, scan=100, show=2)
    assert (preview.seen, preview.kept, preview.dropped) == (100, 50, {"low_quality": 50})
    assert [line["messages"][-1]["content"] for line in preview.lines] == ["Number 999.", "Number 997."]
    assert list(tmp_path.iterdir()) == []
