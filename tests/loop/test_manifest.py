"""The manifest: counts that add up for every history and format, what it says of the lines, and older ones."""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conversation import Conversation, Lack, Turn
from policies.formats import FormatType
from policies.records import Arm, Sample
from policies.selection import DataGeneratorConfig, DropReason
from proxy.errors import TemporaryError
from proxy.loop.dataset import StoreDatasetBuilder, flywheel
from proxy.loop.dataset.writer import read_manifest
from proxy.loop.ports import Manifest
from proxy.store.tables.values import StoreSize
from tests.loop.test_dataset import EVERYTHING, REQUEST, History, builder, sample

MODELS = {"base": 0, "one": 1, "two": 2}


def made(n: int, model: str, query: int, answer: str, change: Mapping[str, Any]) -> Sample:
    return sample(n, query=f"question {query}", response=answer, model=model, generation=MODELS[model], **change)


def conversation(lacks: Lack) -> Conversation:
    return replace(Conversation.plain("question", "answer"), lacks=lacks)


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([*MODELS]),
        st.integers(0, 5),
        st.sampled_from(["yes", "no", "a longer answer in so many words", " "]),
        st.fixed_dictionaries(
            {},
            optional={
                "user": st.integers(0, 3) | st.none(),
                "quality": st.sampled_from([None, 0.2, 0.9]),
                "feedback": st.sampled_from([None, -1.0, 0.0, 1.0]),
                "correction": st.sampled_from([None, "better", ""]),
                "trainable": st.booleans(),
                "conversation": st.sampled_from([None, *map(conversation, Lack)]),
                "arm": st.sampled_from(Arm),
            },
        ),
    ),
    max_size=25,
)
CONFIGS = st.builds(
    DataGeneratorConfig,
    format_type=st.sampled_from(get_args(FormatType)),
    deduplicate=st.booleans(),
    min_quality_score=st.sampled_from([None, 0.7]),
    min_user_feedback=st.sampled_from([None, 0, 1]),
    max_samples=st.none() | st.integers(1, 10),
    max_samples_per_user=st.none() | st.integers(1, 3),
    max_own_share=st.sampled_from([0.0, 0.3, 1.0]),
    max_correction_share=st.sampled_from([0.0, 0.2, 1.0]),
    max_corrections_per_user=st.none() | st.integers(1, 3),
    holdout_share=st.sampled_from([0.0, 0.5]),
    exclude=st.sampled_from([(), ("question 1",)]),
)


def used(manifest: Manifest) -> list[str]:
    """Ids of the records behind the lines of both files, as often as they are."""
    with (Path(manifest.data_path).parent / "lineage.csv").open(newline="") as file:
        return [row["record_id"] for row in csv.DictReader(file)]


@given(history=SAMPLES, config=CONFIGS, nvidia=st.booleans())
def test_every_record_is_used_or_dropped_for_one_reason(
    history: list[Any], config: DataGeneratorConfig, nvidia: bool
) -> None:
    samples = [made(n, *parts) for n, parts in enumerate(history)]
    line_format = flywheel(client_id="shop", workload_id="chat") if nvidia else None
    with tempfile.TemporaryDirectory() as folder:
        build = StoreDatasetBuilder(History(samples), config, Path(folder), line_format=line_format)
        manifest = asyncio.run(build.build(REQUEST))
        ids = used(manifest)
        size = Path(manifest.data_path).stat().st_size
    assert manifest.seen == manifest.records + sum(manifest.dropped.values())
    assert manifest.records == len(set(ids))
    assert manifest.samples == sum(manifest.authors.values()) == sum(manifest.models.values())
    assert sum(manifest.generations.values()) == manifest.samples - manifest.authors["person"]
    assert manifest.authors["own"] <= config.max_own_share * manifest.samples + 1e-6
    assert manifest.authors["person"] <= max(1, config.max_correction_share * manifest.samples + 1e-6)
    assert manifest.bytes == size
    assert {reason: min(n, 20) for reason, n in manifest.dropped.items()} == {
        reason: len(set(examples)) for reason, examples in manifest.examples.items()
    }
    assert not set(ids) & {record_id for examples in manifest.examples.values() for record_id in examples}


async def test_a_pair_of_answers_uses_two_records_or_drops_two(tmp_path: Path) -> None:
    history = [
        sample(1, query="Why?", response="So.", feedback=-1.0, model="one", generation=1),
        sample(2, query="Why?", response="Because of this.", feedback=1.0, model="two", generation=2),
    ]
    config = DataGeneratorConfig(format_type="dpo", holdout_share=0.0, max_own_share=1.0)
    manifest = await builder(history, config, tmp_path / "all").build(REQUEST)
    assert (manifest.seen, manifest.records, manifest.samples, manifest.liked) == (2, 2, 1, 1)
    assert manifest.models == {"two": 1}
    rows = (tmp_path / "all/run-1/lineage.csv").read_text().splitlines()[1:]
    assert [row.split(",")[3:] for row in rows] == [
        ["1", "one", "1", "own", "-1", ""],
        ["1", "two", "2", "own", "1", ""],
    ]
    manifest = await builder(history, replace(config, max_own_share=0.5), tmp_path / "none").build(REQUEST)
    assert (manifest.records, manifest.dropped) == (0, {"own_share": 2})


async def test_the_model_of_a_pair_is_the_one_that_was_liked(tmp_path: Path) -> None:
    history = [
        sample(1, query="Why?", response="Because of this.", feedback=1.0, model="one"),
        sample(2, query="Why?", response="So.", feedback=-1.0, model="two"),
    ]
    config = DataGeneratorConfig(format_type="dpo", holdout_share=0.0)
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    assert manifest.models == {"one": 1}


async def test_a_correction_in_kto_is_one_record_of_two_lines(tmp_path: Path) -> None:
    history = [sample(1, correction="Better.", generation=1)]
    config = DataGeneratorConfig(format_type="kto", holdout_share=0.0)
    manifest = await builder(history, config, tmp_path / "half").build(REQUEST)
    assert (manifest.records, manifest.samples) == (1, 2)
    assert manifest.authors == {"person": 1, "elsewhere": 0, "own": 1}
    manifest = await builder(history, replace(config, max_own_share=0.0), tmp_path / "none").build(REQUEST)
    assert (manifest.records, manifest.samples, manifest.dropped) == (1, 1, {})


async def test_the_numbers_of_lines_count_rehearsal_lines(tmp_path: Path) -> None:
    buffer = tmp_path / "buffer.jsonl"
    buffer.write_text("".join(json.dumps({"messages": [{"content": f"Old {n}."}]}) + "\n" for n in range(100)))
    config = DataGeneratorConfig(holdout_share=0.0, include_existing_data=True, existing_data_path=str(buffer))
    manifest = await builder([sample(n, user=None) for n in range(50)], config, tmp_path).build(REQUEST)
    lines = [json.loads(line) for line in Path(manifest.data_path).read_text().splitlines()]
    with (tmp_path / "run-1/lineage.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50
    assert len(lines) > 60
    for n, row in enumerate(rows):
        assert lines[int(row["line"]) - 1]["messages"][-1]["content"] == f"Number {n}."


async def test_names_of_models_with_commas_and_quotation_marks_stay_whole(tmp_path: Path) -> None:
    name = 'a "model", of two\nlines'
    await builder([sample(1, model=name, feedback=0.5)], EVERYTHING, tmp_path).build(REQUEST)
    with (tmp_path / "run-1/lineage.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["model"], row["vote"], row["author"], row["split"]) == (name, "0.5", "elsewhere", "train")


async def test_size_tokens_and_cost_are_said(tmp_path: Path) -> None:
    config = replace(EVERYTHING, cost_per_million_tokens=2.0)
    manifest = await builder([sample(1, query="q" * 500, response="a" * 300)], config, tmp_path).build(REQUEST)
    assert (manifest.tokens, manifest.tokens_by) == (200, "characters / 4")
    assert manifest.estimated_cost == pytest.approx(0.0004)
    assert manifest.bytes == Path(manifest.data_path).stat().st_size


async def test_without_its_library_or_file_a_tokenizer_is_said_to_be_missing(tmp_path: Path) -> None:
    config = replace(EVERYTHING, tokenizer=str(tmp_path / "nothing-here"))
    manifest = await builder([sample(1)], config, tmp_path).build(REQUEST)
    assert manifest.tokens_by.startswith("characters / 4, for ")
    assert manifest.tokens > 0


async def test_a_tokenizer_counts_where_there_is_one(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, **{word: at for at, word in enumerate(("What", "is", "1", "?", "Number", "."), start=1)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    manifest = await builder([sample(1)], replace(EVERYTHING, tokenizer=str(tmp_path)), tmp_path / "out").build(REQUEST)
    assert (manifest.tokens, manifest.tokens_by) == (7, f"tokenizer {tmp_path / 'tokenizer.json'}")


async def test_reasoning_is_counted_whether_it_is_kept_or_not(tmp_path: Path) -> None:
    def thought(n: int) -> Conversation:
        answer = Turn(role="assistant", content=f"Number {n}.", reasoning="Let me see." if n % 2 else None)
        return Conversation(turns=(Turn(role="user", content=f"What is {n}?"),), answer=answer)

    history = [sample(n, conversation=thought(n)) for n in range(5)]
    for kept in (False, True):
        config = replace(EVERYTHING, keep_reasoning=kept)
        manifest = await builder(history, config, tmp_path / str(kept)).build(REQUEST)
        assert manifest.reasoning == {"lines": 2, "kept": kept}


async def test_what_a_pattern_finds_in_system_prompt_or_question_is_excluded(tmp_path: Path) -> None:
    def asked(n: int, system: str, question: str) -> Sample:
        turns = (Turn(role="system", content=system), Turn(role="user", content=question))
        return sample(
            n, conversation=Conversation(turns=turns, answer=Turn(role="assistant", content="### Task: done"))
        )

    long = "x" * 100_000
    history = [
        asked(1, "### Task:\nGenerate a title", "chat"),
        asked(2, "You help.", f"{long} ### Task: tags"),
        asked(3, "You help.", "What is a task?"),
    ]
    config = replace(EVERYTHING, exclude=(r"^### Task:", r"### Task: \w+$"))
    manifest = await builder(history, config, tmp_path).build(REQUEST)
    assert manifest.dropped == {DropReason.EXCLUDED.value: 2}
    assert manifest.examples == {"excluded": (history[1].record_id, history[0].record_id)}


def test_a_manifest_of_an_older_version_is_still_read(tmp_path: Path) -> None:
    old = {
        "run_id": "run-1", "data_path": "data.jsonl", "holdout_path": None, "samples": 4, "holdout_samples": 0,
        "rehearsal_samples": 1, "seen": 9, "dropped": {"challenger_share": 2}, "sha256": "", "of_tomorrow": 1,
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest.samples, manifest.dropped, manifest.authors) == (4, {"challenger_share": 2}, {})
    assert manifest.ancestry == ""
    assert set(manifest.as_json()) == {field.name for field in fields(Manifest)}


# Room on the disk


class Counted(History):
    """A history that says that it is as long as this."""

    def __init__(self, samples: list[Sample], records: int) -> None:
        super().__init__(samples)
        self.records = records

    async def size(self) -> StoreSize:
        return StoreSize(records=self.records, bytes=0)


async def test_a_build_that_the_disk_can_not_hold_is_not_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    free = shutil.disk_usage(tmp_path).free
    samples = [sample(n, response="x" * 10_000) for n in range(200)]
    history = Counted(samples, records=free // 10_000)
    with pytest.raises(TemporaryError, match=rf"needs up to .* GB in {tmp_path}/run-1 .* GB free; make room there"):
        await StoreDatasetBuilder(history, EVERYTHING, tmp_path).build(REQUEST)
    assert not (tmp_path / "run-1/staging.db").exists()
    assert "of disk for about" in caplog.text
    bounded = replace(EVERYTHING, max_samples=100)
    assert (await StoreDatasetBuilder(history, bounded, tmp_path).build(REQUEST)).samples == 100


async def test_what_is_not_kept_needs_no_room(tmp_path: Path) -> None:
    samples = [sample(n, response="x" * 10_000, quality=0.1) for n in range(200)]
    history = Counted(samples, records=10**12)
    assert (await StoreDatasetBuilder(history, EVERYTHING, tmp_path).build(REQUEST)).samples == 0
    empty = Counted([], records=10**12)
    assert (await StoreDatasetBuilder(empty, EVERYTHING, tmp_path / "empty").build(REQUEST)).seen == 0
