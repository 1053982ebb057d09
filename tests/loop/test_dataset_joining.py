"""Conversations that go on from an answer at the provider, joined from the log: real records in the real store."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from policies.conversation import Conversation
from policies.records import Outcome, Sample, StickySource
from policies.selection import DataGeneratorConfig
from proxy.clock import ManualClock
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.dataset.joining import Joining
from proxy.loop.dataset.reading import read
from proxy.store.reading.earlier import Earlier
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, RecordFlag
from tests.harness.conversations import shown
from tests.harness.exchanges import exchange, vote
from tests.harness.tables import sqlite_with_tables

T0 = 1_700_000_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=ManualClock(T0 / 1e6 + 3600))
    yield opened
    await opened.close()


def said(n: int, *, after: int | None = None, output: Any = None, request: Any = None, **changes: Any) -> NewRecord:
    """Answer `resp_n`, which goes on from `resp_after`."""
    asked = {"input": f"question {n}"} | (request or {})
    if after is not None:
        asked["previous_response_id"] = f"resp_{after:08d}"
    words = [{"type": "message", "content": [{"type": "output_text", "text": f"answer {n}"}]}]
    answer = {"id": f"resp_{n:08d}", "status": "completed", "output": output or words}
    body = BodyPayload(
        method="POST", target="/v1/responses", request_headers={"content-type": "application/json"},
        response_headers={"content-type": "application/json"}, request=orjson.dumps(asked),
        response=orjson.dumps(answer), query=f"question {n}", response_text=f"answer {n}",
    )  # fmt: skip
    fields = {"kind": "responses", "user_hash": 1, "body": body, "aliases": (answer["id"],), "quality": 1.0}
    return exchange(T0 + n * 1_000_000, random.Random(n), **fields | changes)


async def log(store: Store, *records: NewRecord) -> None:
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=records))


class Counting:
    """The store, with a count of the answers that were looked up."""

    def __init__(self, store: Store) -> None:
        self._store, self.looked_up = store, 0

    async def earlier(self, provider_ids: Sequence[str]) -> dict[str, tuple[Earlier, ...]]:
        self.looked_up += len(provider_ids)
        return await self._store.samples.earlier(provider_ids)

    async def name_users(self, record_ids: Sequence[str]) -> set[str]:
        return await self._store.samples.name_users(record_ids)


async def read_all(store: Store, source: object) -> list[Sample]:
    """All samples, newest first, as a build reads them."""
    samples = [sample async for sample in store.samples.iter(newest_first=True)]
    joining, joined = Joining(source), []
    for start in range(0, len(samples), 7):
        joined += await joining.join(samples[start : start + 7])
    return [read(sample) for sample in joined]


async def newest(store: Store, *records: NewRecord) -> Conversation:
    await log(store, *records)
    return (await read_all(store, store.samples))[0].said


async def test_a_chain_is_one_conversation(store: Store) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "warm"}
    tools = [{"type": "function", "name": "weather"}]
    joined = await newest(
        store,
        said(1, request={"instructions": "Be long.", "tools": [{"type": "function", "name": "old"}]}),
        said(2, after=1, output=[call], request={"tools": tools}),
        said(3, after=2, request={"input": [result, {"role": "user", "content": "So?"}],
                                  "instructions": "Be brief.", "tools": tools}),
    )  # fmt: skip
    assert shown(joined) == {
        "turns": [
            "system: Be brief.", "user: question 1", "assistant: answer 1", "user: question 2",
            {"assistant": "", "calls": ["c1 weather {}"]}, {"tool": "warm", "of": "c1", "name": "weather"}, "user: So?",
        ],
        "answer": "assistant: answer 3",
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "before",
    [
        None,
        {"flags": RecordFlag.TRUNCATED_REQUEST},
        {"flags": RecordFlag.UNREAD},
        {"outcome": Outcome.INCOMPLETE},
        {"status": 500},
        {"user_hash": 2},
        {"body": None},
        {"request": {"conversation": "conv_1"}},
        {"request": {"input": [{"type": "hologram"}]}},
        {"after": 0},
    ],
    ids=str,
)
async def test_a_part_that_is_not_at_hand_is_elsewhere(store: Store, before: dict[str, Any] | None) -> None:
    records = [] if before is None else [said(1, **before)]
    joined = await newest(store, *records, said(2, after=1))
    assert shown(joined) == {
        "turns": ["user: question 2"], "answer": "assistant: answer 2", "lacks": "context_elsewhere",
        "after": "resp_00000001",
    }  # fmt: skip


async def test_who_asked_not_to_be_trained_on_is_not_through_a_later_turn(store: Store) -> None:
    await log(store, said(1, flags=RecordFlag.NO_TRAIN), said(2, after=1), said(3, after=2))
    assert [sample.trainable for sample in await read_all(store, store.samples)] == [False, False]


async def test_a_deleted_user_takes_the_context_along(store: Store) -> None:
    await log(store, said(1), said(2, after=1, user_hash=None))
    await store.deletion.delete_user(1)
    assert (await read_all(store, store.samples))[0].said.lacks == "context_elsewhere"


async def test_keys_that_stand_in_for_a_user_do_not_part_a_conversation(store: Store) -> None:
    guessed = {"key_source": StickySource.FIRST_MESSAGE}
    joined = await newest(store, said(1, user_hash=7, **guessed), said(2, after=1, user_hash=8, **guessed))
    assert joined.lacks is None
    named = await newest(store, said(3, user_hash=7, **guessed), said(4, after=3, user_hash=8))
    assert named.lacks == "context_elsewhere"
    taken = await newest(store, said(5, user_hash=7), said(6, after=5, user_hash=8, **guessed))
    assert taken.lacks == "context_elsewhere"


async def test_a_stranger_who_claims_the_name_is_passed_over(store: Store) -> None:
    claim = exchange(T0 + 1_500_000, random.Random(5), user_hash=1, aliases=("resp_00000001",))
    other = said(9, aliases=("resp_00000001",))
    joined = await newest(store, said(1), replace(claim, kind="chat"), other, said(10, after=1))
    assert joined.lacks is None
    assert [turn.text for turn in joined.turns] == ["question 1", "answer 1", "question 10"]


async def test_nobody_goes_on_from_what_came_later(store: Store) -> None:
    """A server that gives one id to everything: each goes on from the one before it."""
    one_id = b"resp_00000001"

    def same(n: int, **changes: Any) -> NewRecord:
        record = said(n, aliases=(one_id.decode(),), **changes)
        assert record.body is not None
        response = record.body.response.replace(b"resp_%08d" % n, one_id)
        return replace(record, body=replace(record.body, response=response))

    joined = await newest(store, same(1), same(2, after=1), same(3, after=1))
    assert [turn.text for turn in joined.turns] == ["question 1", "answer 1", "question 2", "answer 2", "question 3"]
    alone = await newest(store, said(4, after=4))
    assert alone.lacks == "context_elsewhere"


async def test_what_an_earlier_part_lacks_the_whole_lacks(store: Store) -> None:
    picture = {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}
    assert (await newest(store, said(1, request={"input": [picture]}), said(2, after=1))).lacks == "multimodal"


async def test_an_earlier_answer_that_was_no_call_is_context_and_not_taught(store: Store) -> None:
    tools = {"tools": [{"type": "function", "name": "weather"}]}
    text = [{"type": "message", "content": '{"name": "weather", "arguments": {}}'}]
    silent = [{"type": "reasoning", "summary": []}]
    joined = await newest(store, said(1, request=tools, output=text), said(2, after=1, output=silent), said(3, after=2))
    assert joined.lacks is None
    assert [turn.taught for turn in joined.turns] == [True, False, True, True]


async def test_an_answer_that_goes_on_from_nothing_is_read_once(store: Store) -> None:
    alone = said(1, request={"previous_response_id": None})
    assert (await newest(store, alone)).lacks is None
    other = said(2, after=1, request={"conversation": "c"})
    assert (await newest(store, other)).lacks == "context_elsewhere"


async def test_a_chain_costs_a_look_up_a_part_and_ends_at_a_hundred(store: Store) -> None:
    chain = [said(1), *(said(n, after=n - 1) for n in range(2, 131))]
    await log(store, *chain)
    source = Counting(store)
    samples = await read_all(store, source)
    assert source.looked_up == 129
    assert [sample.said.lacks is None for sample in samples] == [False] * 29 + [True] * 101
    assert len(samples[29].said.turns) == 201


async def test_what_is_remembered_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.loop.dataset.joining._KEPT_BYTES", 2000)
    await log(store, said(1), *(said(n, after=n - 1) for n in range(2, 21)))
    source = Counting(store)
    samples = await read_all(store, source)
    assert all(sample.said.lacks is None for sample in samples)
    assert source.looked_up > 19


async def test_an_archive_looks_nothing_up(store: Store) -> None:
    await log(store, said(1), said(2, after=1))
    assert (await read_all(store, object()))[0].said.lacks == "context_elsewhere"


async def test_the_training_file_has_it(store: Store, tmp_path: Path) -> None:
    await log(store, said(1), said(2, after=1), said(4, after=3))
    builder = StoreDatasetBuilder(store.samples, DataGeneratorConfig(holdout_share=0.0), tmp_path)
    preview = await builder.preview(until_s=T0 / 1e6 + 3600)
    assert preview.dropped == {"context_elsewhere": 1}
    words = [message["content"] for message in preview.lines[0]["messages"]]
    assert words == ["question 1", "answer 1", "question 2", "answer 2"]


async def test_what_was_disliked_is_known_by_the_question_of_an_earlier_part(store: Store, tmp_path: Path) -> None:
    """A request that brings nothing but a tool's result says nothing about what was asked."""
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "9"}
    chain = (said(1, output=[call]), said(2, after=1, request={"input": [result]}), said(3, after=2))
    mended = vote(chain[1].id, T0, random.Random(0), feedback=-1, correction="Nine.")
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=chain, votes=(mended,)))
    preview = await StoreDatasetBuilder(store.samples, DataGeneratorConfig(holdout_share=0.0), tmp_path).preview(
        until_s=T0 / 1e6 + 3600
    )
    words = [message["content"] for message in preview.lines[0]["messages"]]
    assert words == ["question 1", "", "9", "Nine.", "question 3", "answer 3"]
