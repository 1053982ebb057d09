"""NVIDIA's data flywheel as an export format: the form that its validator checks, from a real store."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.selection import DataGeneratorConfig
from proxy.clock import ManualClock
from proxy.loop.dataset import StoreDatasetBuilder, flywheel, flywheel_config
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.store.store import Store
from proxy.store.values import BodyPayload, IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote

T0 = 1_700_000_000_000_000
TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}
CALL = {"id": "call-1", "type": "function", "function": {"name": "price", "arguments": '{"of": "nails"}'}}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock=ManualClock(T0 / 1e6 + 3600))
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
    await store.apply(IngestBatch(writer="w", segment=1, offset=1, records=records, votes=votes))
    config = flywheel_config(DataGeneratorConfig(holdout_share=0.0, format_type="dpo", include_existing_data=True))
    builder = StoreDatasetBuilder(store, config, folder, line_format=flywheel(client_id="shop", workload_id="support"))
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
