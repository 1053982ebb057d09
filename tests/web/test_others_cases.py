"""What clients of other systems send, recorded or read in their sources, and what becomes of it (`cases/interop`)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness.ballots import TOKEN, Ballots, believed

CASES = Path(__file__).parents[1] / "cases/interop"
TRACE, OTHER = "3a0de37932e8b19746f20b22414f862f", "a" * 32
RUN = "3f0c7f6e-0000-4000-8000-000000000001"
PREFIXES = {
    "/api/public/": "/-/langfuse",
    "/api/v1/": "/-/langsmith",
    "/api/3.0/": "/-/mlflow",
    "/v1/feedback": "/-/portkey",
    "/v1/span_": "/-/phoenix",
    "/v1/request/": "/-/helicone",
    "/v1/threads/": "/-/assistant-ui",
}
"""Where a path of that system is ours."""
KEYS = {"authorization", "x-api-key", "x-portkey-api-key"}


def cases(name: str) -> dict[str, dict[str, Any]]:
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["case"]: case for case in map(json.loads, lines)}


@pytest.fixture
async def ballots(tmp_path: Path) -> AsyncIterator[Ballots]:
    async with Ballots(tmp_path, {"score_names": ["quality"]}).running() as ballots:
        yield ballots


async def send(ballots: Ballots, case: dict[str, Any]) -> Any:
    """Send it as it is, but for host and key; the answer's body, after its status was what the client wants."""
    path = case["path"]
    prefix = next(prefix for start, prefix in PREFIXES.items() if path.startswith(start))
    given = case["headers"].get("authorization", "")
    key = f"Basic {b64encode(f'pk:{TOKEN}'.encode()).decode()}" if given.startswith("Basic") else f"Bearer {TOKEN}"
    headers = {name: value for name, value in case["headers"].items() if name not in KEYS} | {"authorization": key}
    body = case.get("body")
    data = body if isinstance(body, str) else None if body is None else json.dumps(body)
    async with (
        aiohttp.ClientSession() as session,
        session.request(case["method"], f"{ballots.url}{prefix}{path}", data=data, headers=headers) as answer,
    ):
        wanted = case.get("response", {}).get("status", [200, 202])
        assert answer.status in ([*wanted] if isinstance(wanted, list) else [wanted]), await answer.text()
        return await answer.json()


async def test_langfuse(ballots: Ballots) -> None:
    case = cases("langfuse")
    record, other = await ballots.record(TRACE), await ballots.record(OTHER)
    assert await send(ballots, case["python sdk 5: scores as a list"]) == {"message": "Accepted"}
    view = await ballots.view(record)
    assert (view.row.feedback, view.row.quality) == (1, 0.8)
    assert [vote.comment for vote in view.votes] == ["Invented: clear answer", None]
    assert await send(ballots, case["one score"]) == {"id": "feedback-1"}
    assert await ballots.thumb(other) == 1
    await send(ballots, case["delete"])
    assert await ballots.thumb(other) is None
    answer = await send(ballots, case["js sdk 5: ingestion batch"])
    assert answer == case["js sdk 5: ingestion batch"]["response"]["body"]
    assert await ballots.thumb(other) == 1
    assert all(believed(vote) for vote in (await ballots.view(other)).votes)


async def test_librechat(ballots: Ballots) -> None:
    case = cases("librechat")
    turn = case["chat turn of a custom endpoint with headers templates"]["expect"]
    record = await ballots.record(*turn["alias"], user=turn["user"])
    up, down = case["thumb up"], case["thumb down replaces it (same id)"]
    assert await send(ballots, up) == up["response"]["body"]
    vote = await ballots.last_vote(record)
    assert (vote.source, vote.feedback) == (up["expect"]["source"], up["expect"]["feedback"])
    assert vote.tags["tag"] == "accurate_reliable"
    await send(ballots, down)
    assert await ballots.thumb(record) == down["expect"]["feedback"]
    await send(ballots, case["thumb cleared"] | {"response": {"status": 202}})
    assert await ballots.thumb(record) is None
    await send(ballots, up)
    assert await ballots.thumb(record) == 1, "cleared and given again under the same id"


async def test_langsmith(ballots: Ballots) -> None:
    case = cases("langsmith")
    record = await ballots.record(RUN)
    await send(ballots, case["create"])
    vote = await ballots.last_vote(record)
    assert (vote.feedback, vote.source, vote.comment, vote.correction) == (1, "u-1", "Invented: nice", "Bern")
    await send(ballots, case["update"])
    assert await ballots.thumb(record) == -1
    await send(ballots, case["delete"])
    assert await ballots.thumb(record) is None
    await send(ballots, case["create, boolean score, new session fields"])
    assert await ballots.thumb(record) == 1
    await send(ballots, case["create with trace_id and the batching default: a part of a multipart upload"])
    view = await ballots.view(record)
    assert (len(view.votes), view.row.feedback, view.votes[-1].comment) == (5, 1, "Invented")
    made = await send(ballots, case["presigned token: make"])
    assert set(made) == {"id", "url", "expires_at"}
    vote_case = case["presigned token: vote"]
    await send(
        ballots, vote_case | {"body": vote_case["body"] | {"score": 0}, "path": f"/api/v1/feedback/tokens/{made['id']}"}
    )
    assert await ballots.thumb(record) == pytest.approx(1 / 3)


async def test_the_others(ballots: Ballots) -> None:
    case = cases("votes")
    record = await ballots.record("tr-1", "tr-0000", "0123456789abcdef", "req-1", "msg-1")
    made = await send(ballots, case["portkey create"])
    assert (made["status"], len(made["feedback_ids"]), await ballots.thumb(record)) == ("success", 1, 1)
    change = case["portkey update"]
    await send(ballots, change | {"path": f"/v1/feedback/{made['feedback_ids'][0]}"})
    assert await ballots.thumb(record) == -1

    sent = case["mlflow feedback"]
    made = await send(ballots, sent)
    assert made["assessment"].pop("assessment_id")
    assert made["assessment"] == sent["body"]["assessment"]
    assert await ballots.thumb(record) == 1, "the same user's, of another system"
    answer = await send(ballots, case["phoenix span annotation"])
    assert [set(one) for one in answer["data"]] == [{"id"}]
    vote = await ballots.last_vote(record)
    assert (vote.source, vote.tags["label"]) == ("u-1", "up")

    rating = case["helicone rating"]
    assert await send(ballots, rating) == rating["response"]["body"]
    await send(ballots, case["helicone score"])
    notes = [vote.comment for vote in (await ballots.view(record)).votes[-2:]]
    assert notes == ["accuracy: 94", "hallucination: false"], "no thumbs"
    cloud = case["assistant-ui cloud"]
    cloud["headers"] = {**cloud["headers"], "aui-user-id": "u-9", "aui-workspace-id": "w-1"}
    answer = await send(ballots, cloud)
    assert (await ballots.last_vote(record)).source == "u-9"
    assert answer.pop("feedback_id")
    assert answer == {"type": "negative", "comment": "Invented: wrong city"}
    assert await ballots.thumb(record) == pytest.approx(1 / 3), "u-1 and helicone up, assistant-ui down"
