"""A chat UI's turn through the proxy: the answer, its title, and a title without a header. All are served and recorded;
only the answer is a sample, counts in the test, and gets the vote that names the turn.

A real gateway, the ingest and a real SQLite store.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from policies.estimates import METRICS, Metric
from policies.records import Arm
from policies.rows import Experiment
from proxy.checks.prompts import recorded
from proxy.clock import SystemClock
from proxy.ids import KeyRing
from proxy.ingest.ingestor import Ingestor
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool.reader import SpoolReader
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewVote, RecordFilter, RecordRow
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Line, Seen, reply, serve_upstream

TURN = "5e55a6e0-0000-4000-8000-0000000000d1"
TEMPLATE = "### Task:\nName this chat.\n### Chat History:\n<chat_history>\nUSER: Which screws?\n</chat_history>"
REQUESTS: dict[str, tuple[dict[str, str], str]] = {
    "question": ({"X-OpenWebUI-Task": ""}, "Which screws?"),
    "look-alike": ({}, "### Task:\nSort these screws."),
    "title by header": ({"X-OpenWebUI-Task": "title_generation"}, "Name this chat."),
    "title by text": ({"X-OpenWebUI-Task": "{{TASK}}"}, TEMPLATE),
}
TASKS = {"title by header", "title by text"}


async def fails_for_tasks(seen: Seen, line: Line) -> None:
    """A model that cannot name a chat."""
    said = json.loads(seen.payload)["messages"][0]["content"]
    await line.send(reply(b'{"error":"no"}', status=b"500 No") if "Name" in said else reply())


async def ask(door: Door, headers: dict[str, str], text: str) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    lines = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body)), "x-request-id": TURN,
             "x-user-id": "ann"} | headers  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    answer, _ = await door.ask(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body)
    return answer


async def running_test(store: Store) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    made = Experiment(id=7, champion_model_id=1, challenger_model_id=2, salt="00ff" * 8, share=1.0, frozen={"icc": 0.1})
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))


@pytest.mark.parametrize("captures", [True, False])
async def test_titles_are_told_from_answers(tmp_path: Path, captures: bool) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock(), busy_timeout_s=1.0)
    await running_test(store)
    settings = config(capture={"enabled": captures})
    async with serve_upstream() as old, serve_upstream() as new:
        new.on("/v1/chat/completions", fails_for_tasks)
        async with open_gateway(tmp_path, old.url, settings=settings, challenger=new.url, share=1.0) as door:
            served = {name: await ask(door, *request) for name, request in REQUESTS.items()}
        seen: list[Seen] = new.seen
    assert {name: b" 500 " in answer for name, answer in served.items()} == {n: n in TASKS for n in REQUESTS}
    sent = [request.header("x-openwebui-task") for request in seen]
    assert sent == [b"", None, b"title_generation", b"{{TASK}}"], "what is forwarded is never touched"

    registry, ring = CollectorRegistry(), KeyRing.load_or_create(tmp_path / "keys.json")
    metrics = TrafficMetrics(registry)
    reader = SpoolReader(tmp_path / "spool")
    ingestor = Ingestor(settings, store, reader, metrics, SystemClock(), user_hash=ring.user_hash)
    taken = 0
    while taken < len(REQUESTS):
        taken += await ingestor.run_once()
    vote = NewVote(fid="f" * 32, record_id=None, alias=TURN, feedback=-1)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=(vote,)))

    page = await store.records.list(RecordFilter(), limit=10)
    rows_by_name: dict[str, RecordRow] = dict(zip(REQUESTS, reversed(page.rows), strict=True))
    told = TASKS if captures else {"title by header"}
    ordinary = [name for name in REQUESTS if name not in told]
    kinds = {name: row.kind for name, row in rows_by_name.items()}
    assert kinds == dict.fromkeys(told, "task") | dict.fromkeys(ordinary, "chat" if captures else "other")
    assert [name for name, row in rows_by_name.items() if row.feedback == -1] == ["look-alike"], "the last answer"
    assert [row.arm for row in page.rows] == [Arm.CHALLENGER] * 4

    stats = (await store.statistics.arms(7, 3))[Arm.CHALLENGER]
    assert stats.requests == 4 - len(told)
    if captures:
        assert stats.moments.users == 1
        assert stats.moments.sums[2 * METRICS.index(Metric.ERROR)] == 0
        samples = {sample.record_id async for sample in store.samples.iter()}
        assert samples == {rows_by_name[name].id for name in ordinary}
        assert len(await recorded(store, 9)) == 2
        assert b'arm="challenger",kind="task",model="unknown",outcome="upstream_error"' in generate_latest(registry)
    totals = await store.traffic.totals()
    assert (totals.requests, totals.tasks, totals.errors) == (4, len(told), 2)
    await store.close()
