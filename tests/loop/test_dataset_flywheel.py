"""NVIDIA's data flywheel as an export format: the form that its validator checks, from a real store."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.json as pj
import pytest

from policies.selection import DataGeneratorConfig
from proxy.clock import ManualClock
from proxy.loop.dataset import StoreDatasetBuilder, flywheel, flywheel_config
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote
from tests.harness.tables import sqlite_with_tables

T0 = 1_700_000_000_000_000
TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}
CALL = {"id": "call-1", "type": "function", "function": {"name": "price", "arguments": '{"of": "nails"}'}}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=ManualClock(T0 / 1e6 + 3600))
    yield opened
    await opened.close()


def logged(n: int, **changes: Any) -> NewRecord:
    return exchange(T0 + n * 1_000_000, random.Random(n), **{"user_hash": n, "quality": 0.9} | changes)


def body_of(record: NewRecord, **changes: Any) -> BodyPayload:
    assert record.body is not None
    return replace(record.body, **changes)


async def export(store: Store, folder: Path, *news: NewRecord | NewVote) -> tuple[Manifest, list[dict[str, Any]]]:
    """The manifest and the lines, oldest first."""
    records = tuple(new for new in news if isinstance(new, NewRecord))
    votes = tuple(new for new in news if isinstance(new, NewVote))
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records, votes=votes))
    config = flywheel_config(DataGeneratorConfig(holdout_share=0.0, format_type="dpo", include_existing_data=True))
    builder = StoreDatasetBuilder(
        store.samples, config, folder, line_format=flywheel(client_id="shop", workload_id="support")
    )
    manifest = await builder.build(DatasetRequest(run_id="out", until_s=T0 / 1e6 + 3600, config_fingerprint=""))
    return manifest, [json.loads(line) for line in Path(manifest.data_path).read_text().splitlines()]


async def test_requests_and_answers_are_whole(store: Store, tmp_path: Path) -> None:
    plain, tooled = logged(1), logged(2)
    request = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Nails?"}], "tools": [TOOL]}).encode()
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    response = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()
    body = body_of(tooled, request=request, response=response, tags={"workload_id": "prices"})
    manifest, lines = await export(store, tmp_path, plain, replace(tooled, body=body))
    assert plain.body is not None
    assert lines == [
        {
            "timestamp": 1_700_000_001,
            "client_id": "shop",
            "workload_id": "support",
            "request": json.loads(plain.body.request),
            "response": json.loads(plain.body.response),
        },
        {
            "timestamp": 1_700_000_002,
            "client_id": "shop",
            "workload_id": "prices",
            "request": json.loads(request),
            "response": json.loads(response),
        },
    ]
    assert (manifest.samples, manifest.format_type) == (2, "nvidia")


async def test_the_same_rules_choose(store: Store, tmp_path: Path) -> None:
    """Votes, scores, opt-outs; and what has not the form is counted with its reason."""
    coin = random.Random(0)
    good, disliked, poor = logged(1), logged(2), logged(3, quality=0.1)
    secret, cut = logged(4, flags=RecordFlag.NO_TRAIN), logged(5, flags=RecordFlag.TRUNCATED_RESPONSE)
    other, odd = logged(6, kind="completions"), logged(7)
    odd = replace(odd, body=body_of(odd, response=b'{"choices": []}'))
    mended = logged(8, quality=0.1)
    manifest, lines = await export(
        store, tmp_path, good, disliked, poor, secret, cut, other, odd, mended,
        vote(disliked.id, T0, coin, feedback=-1), vote(mended.id, T0, coin, feedback=-1, correction="It is 7 pence."),
    )  # fmt: skip
    assert manifest.dropped == {"cut": 1, "low_quality": 1, "negative_feedback": 1, "not_a_chat": 2}
    assert [line["timestamp"] for line in lines] == [1_700_000_001, 1_700_000_008]
    [choice] = lines[1]["response"]["choices"]
    assert choice["message"] == {"role": "assistant", "content": "It is 7 pence."}
    assert all(line["request"]["messages"] and line["response"]["choices"] for line in lines)


def talk(n: int, *contents: Any) -> NewRecord:
    """User and model in turn, and an answer in words."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    record = logged(n)
    return replace(record, body=body_of(record, request=json.dumps({"model": "m", "messages": messages}).encode()))


@pytest.mark.parametrize(("words", "pictures"), [(3, 1), (1, 3)])
async def test_a_content_has_one_type_in_the_whole_file(
    store: Store, tmp_path: Path, words: int, pictures: int
) -> None:
    texts = [{"type": "text", "text": "Nails"}, {"type": "text", "text": " or so."}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    spoken = [talk(n, texts, texts, f"Price of nail {n}?") for n in range(words)]
    shown = [talk(10 + n, [picture, {"type": "text", "text": f"Nail {n}?"}]) for n in range(pictures)]
    manifest, lines = await export(store, tmp_path, *spoken, *shown)
    contents = [[message["content"] for message in line["request"]["messages"]] for line in lines]
    if words > pictures:
        assert manifest.dropped["multimodal"] == pictures
        assert all(told[:2] == ["Nails\n or so.", "Nails or so."] for told in contents)
    else:
        assert "multimodal" not in manifest.dropped
        assert all(isinstance(content, list) for told in contents for content in told)
    assert pj.read_json(manifest.data_path).num_rows == manifest.samples


async def test_a_correction_stands_in_later_history(store: Store, tmp_path: Path) -> None:
    asked = replace(talk(1, "Price of oak?"), user_hash=7)
    assert asked.body is not None
    answer = json.loads(asked.body.response)["choices"][0]["message"]["content"]
    later = replace(talk(2, "Price of oak?", f"<think>Hm.</think>{answer}", "And of elm?"), user_hash=7)
    mended = vote(asked.id, T0, random.Random(0), feedback=-1, correction="Oak is 7 pence.")
    _, lines = await export(store, tmp_path, asked, later, mended)
    told = [message["content"] for message in lines[-1]["request"]["messages"]]
    assert told == ["Price of oak?", "Oak is 7 pence.", "And of elm?"]


async def test_odd_requests_stop_no_export(store: Store, tmp_path: Path) -> None:
    odd = talk(1, ["Nails", {"type": "text", "text": "Price?"}])
    tools = talk(2, "Price of oak?")
    request = {"messages": [{"role": "user", "content": "Price of oak?"}], "tools": None}
    manifest, _ = await export(
        store, tmp_path, odd, replace(tools, body=body_of(tools, request=json.dumps(request).encode()))
    )
    assert manifest.records + sum(manifest.dropped.values()) == manifest.seen == 2
