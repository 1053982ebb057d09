"""What a collector gets: each finished record, vote and score once, whatever it does. Real store, real receiver."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.registry import CollectorRegistry

from policies.exporting import is_sent
from policies.records import Arm, Outcome
from proxy.clock import ManualClock
from proxy.config.model import TelemetryConfig
from proxy.store.store import Store
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag
from proxy.tasks import cancel_and_wait, spawn
from proxy.telemetry.cursor import Cursor
from proxy.telemetry.delivery import Delivery
from proxy.telemetry.encoding import OtlpEncoder
from proxy.telemetry.metrics import TelemetryMetrics
from proxy.telemetry.sending import Meaning, OtlpSender
from proxy.telemetry.service import LEASE, TelemetryService
from proxy.telemetry.spans import ModelServer
from tests.harness.exchanges import exchange, vote
from tests.harness.otlp import OtlpReceiver, attributes, receiving
from tests.harness.tables import sqlite_with_tables


class Bench:
    """A store, a receiver, and what lies between."""

    def __init__(self, store: Store, clock: ManualClock, receiver: OtlpReceiver) -> None:
        self.store = store
        self.clock = clock
        self.receiver = receiver
        self.registry = CollectorRegistry()
        self.metrics = TelemetryMetrics(self.registry, enabled=True)
        self.stored_until = float("inf")
        self._rng = random.Random(3)

    async def add(self, count: int = 1, *, ago_s: float = 0.0, **changes: Any) -> list[NewRecord]:
        start_us = int((self.clock.now() - ago_s) * 1e6)
        changes = {"duration_us": 900_000, **changes}
        records = [exchange(start_us + at * 1000, self._rng, **changes) for at in range(count)]
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records)))
        return records

    async def vote(self, record_id: str, **changes: Any) -> str:
        made = vote(record_id, int(self.clock.now() * 1e6), self._rng, **changes)
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=(made,)))
        return made.fid

    @asynccontextmanager
    async def sending(self, holder: str = "this one", **settings: Any) -> AsyncIterator[None]:
        config = replace(TelemetryConfig(otlp_endpoint=self.receiver.url), **settings)
        async with OtlpSender(self.receiver.url, {"x-key": "k"}) as sender:
            delivery = Delivery(
                sender,
                OtlpEncoder({"service.instance.id": holder}),
                self.metrics,
                self.clock,
                signals=config.otlp_signals,
                max_age_s=config.otlp_max_age_seconds,
            )

            async def stored_until() -> float:
                return min(self.stored_until, self.clock.now())

            service = TelemetryService(
                config, self.store, self.clock, self.metrics, delivery,
                champion=ModelServer("base", "https://api.openai.com/v1"), stored_until=stored_until, holder=holder,
            )  # fmt: skip
            running = spawn(service.run(), name="telemetry under test")
            try:
                await self.held(running)
                yield
            finally:
                await cancel_and_wait([running])

    async def held(self, running: asyncio.Task[Any]) -> None:
        """Until the service has begun: what comes from now on is sent."""
        async with asyncio.timeout(60):
            while (await self.store.leases.get(LEASE)) is None:
                assert not running.done() or running.result()
                await asyncio.sleep(0.01)

    async def until_sent(self, count: int) -> None:
        """Until the service knows that so many spans were taken: from then on it goes on behind them."""
        async with asyncio.timeout(60):
            while self.value("ratchet_telemetry_sent_total", signal="traces") < count:
                await asyncio.sleep(0.01)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = ManualClock()
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=clock)
    await store.models.add("base-7b", url="https://api.openai.com/v1", detail={})
    async with receiving() as receiver:
        yield Bench(store, clock, receiver)
    await store.close()


def ids(receiver: OtlpReceiver) -> list[str]:
    return [attributes(span)["ratchet.record_id"] for span in receiver.spans]


async def test_a_record_is_a_span_in_the_words_of_the_conventions(bench: Bench) -> None:
    async with bench.sending():
        cached = {"cache_read_tokens": 3, "cache_write_tokens": 2, "reasoning_tokens": 1}
        [made] = await bench.add(
            arm=Arm.CHALLENGER, experiment_id=4, epoch=2, conversation=-2, user_hash=17, ttft_us=250_000,
            flags=RecordFlag.STREAMED, scores={"heuristic": 0.75}, quality=0.75, **cached,
        )  # fmt: skip
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: bool(r.spans and r.events))
    [span], [event] = bench.receiver.spans, bench.receiver.events
    assert made.body is not None
    found = attributes(span)
    assert span.name == "chat llama-3.1-8b"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.trace_id.hex() == made.id
    assert span.span_id.hex() == made.id[16:]
    assert not span.parent_span_id
    assert span.start_time_unix_nano == id_time_us(made.id) * 1000
    assert span.end_time_unix_nano - span.start_time_unix_nano == 900_000_000
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "llama-3.1-8b",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": made.aliases[0],
        "gen_ai.response.model": "llama-3.1-8b",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.conversation.id": "fffffffffffffffe",
        "user.id": "0000000000000011",
        "gen_ai.usage.input_tokens": made.prompt_tokens,
        "gen_ai.usage.output_tokens": made.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_write.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "ratchet.record_id": made.id,
        "ratchet.arm": "challenger",
        "ratchet.served_by": "champion",
        "ratchet.model": "base-7b",
        "ratchet.experiment_id": 4,
        "ratchet.epoch": 2,
        "ratchet.kind": "chat",
        "ratchet.outcome": "ok",
    }
    said = attributes(event)
    assert event.event_name == "gen_ai.evaluation.result"
    assert (event.trace_id, event.span_id) == (span.trace_id, span.span_id)
    assert said["gen_ai.evaluation.name"] == "format_check"
    assert said["gen_ai.evaluation.score.value"] == 0.75
    assert said["gen_ai.response.id"] == made.aliases[0]
    assert bench.receiver.resources[0]["service.name"] == "ratchet"
    assert bench.receiver.headers[0]["x-key"] == "k"
    assert bench.receiver.headers[0]["content-type"] == "application/x-protobuf"
    for words in (made.body.query, made.body.response_text):
        assert words is not None
        assert all(words.encode() not in body for body in bench.receiver.raw), "no words without otlp_content"
    assert bench.value("ratchet_telemetry_sent_total", signal="traces") == 1


async def test_votes_and_judgements_are_events_of_their_record(bench: Bench) -> None:
    async with bench.sending():
        [made, other] = await bench.add(2)
        lease = await bench.store.leases.acquire("judge", "test", ttl_s=60)
        assert lease is not None
        await bench.store.judgements.ask(lease, "judge-1", [made.id, other.id])
        await bench.store.judgements.answer(made.id, "judge-1", score=0.5, tokens=3, reason="secret words")
        await bench.store.judgements.answer(other.id, "judge-1", score=None, tokens=0, reason="timeout: no answer")
        bench.clock.advance(5)
        await bench.vote(made.id, feedback=-1, quality_score=0.25, comment="private words", source="ann@example.com")
        await bench.vote(other.id, feedback=None, retracted=True)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: len(r.events) == 7)
    events = [(event, attributes(event)) for event in bench.receiver.events]
    by_name = {(said["gen_ai.evaluation.name"], said["ratchet.record_id"]): (event, said) for event, said in events}
    event, thumb = by_name["user_feedback", made.id]
    assert event.trace_id.hex() == made.id
    assert event.span_id.hex() == made.id[16:]
    assert thumb["gen_ai.evaluation.score.value"] == -1.0
    assert thumb["gen_ai.evaluation.score.label"] == "negative"
    assert thumb["gen_ai.response.id"] == made.aliases[0]
    assert thumb["ratchet.counts"] is True
    assert by_name["user_score", made.id][1]["gen_ai.evaluation.score.value"] == 0.25
    taken_back = by_name["user_feedback", other.id][1]
    assert taken_back["gen_ai.evaluation.score.label"] == "retracted"
    assert "gen_ai.evaluation.score.value" not in taken_back
    judged, failed = by_name["judge", made.id][1], by_name["judge", other.id][1]
    assert (judged["gen_ai.evaluation.score.value"], judged["ratchet.scorer"]) == (0.5, "judge-1")
    assert (failed["error.type"], "gen_ai.evaluation.score.value" in failed) == ("timeout", False)
    sent = b"".join(bench.receiver.raw)
    assert not any(words in sent for words in (b"secret words", b"private words", b"ann@example.com"))


async def test_a_clients_trace_goes_on(bench: Bench) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with bench.sending():
        rng = random.Random(1)
        made = exchange(int(bench.clock.now() * 1e6), rng, duration_us=5, quality=None, quality_source=None)
        assert made.body is not None
        made.body.request_headers = {**made.body.request_headers, "traceparent": f"00-{trace}-{parent}-01"}
        await bench.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(made,)))
        await bench.vote(made.id)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: bool(r.spans and r.events))
    [span], [event] = bench.receiver.spans, bench.receiver.events
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.span_id.hex()) == (trace, parent, made.id[16:])
    assert (event.trace_id, event.span_id) == (span.trace_id, span.span_id)


async def test_words_are_sent_only_where_asked_for_and_never_where_training_is_refused(bench: Bench) -> None:
    async with bench.sending(otlp_content=True):
        [open_, closed] = await bench.add(1) + await bench.add(1, ago_s=-0.1, flags=RecordFlag.NO_TRAIN)
        await bench.vote(open_.id, comment="well said")
        await bench.vote(closed.id, comment="not yours")
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: len(r.spans) == 2 and len(r.events) == 4)
    by_id = {attributes(span)["ratchet.record_id"]: attributes(span) for span in bench.receiver.spans}
    assert open_.body is not None
    said = by_id[open_.id]
    [user] = json.loads(said["gen_ai.input.messages"])
    assert user == {"role": "user", "parts": [{"type": "text", "content": open_.body.query}]}
    assert json.loads(said["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": open_.body.response_text}], "finish_reason": "stop"}
    ]
    assert json.loads(said["gen_ai.system_instructions"])[0]["type"] == "text"
    assert not any("messages" in name or "instructions" in name for name in by_id[closed.id])
    explained = [attributes(event).get("gen_ai.evaluation.explanation") for event in bench.receiver.events]
    assert sorted(filter(None, explained)) == ["well said"]


async def test_a_share_is_sent_with_all_that_failed_and_all_that_people_voted_on(bench: Bench) -> None:
    async with bench.sending(otlp_sample=0.2):
        records = await bench.add(150)
        failed = await bench.add(20, ago_s=-1, status=502, outcome=Outcome.UPSTREAM_ERROR, quality=None,
                                 quality_source=None)  # fmt: skip
        left = next(one for one in records if not is_sent(one.id, 0.2, failed=False))
        await bench.vote(left.id)
        await bench.vote(left.id, source="another", feedback=-1)
        bench.clock.advance(30)
        drawn = {one.id for one in records if is_sent(one.id, 0.2, failed=False)}
        wanted = drawn | {one.id for one in failed} | {left.id}
        await bench.receiver.until(lambda r: len(r.spans) >= len(wanted) and len(r.events) >= 2)
    assert 0 < len(drawn) < 75
    assert sorted(ids(bench.receiver)) == sorted(wanted), "each once, the voted one too"
    wrong = [span for span in bench.receiver.spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert {attributes(span)["error.type"] for span in wrong} == {"502"}
    assert len(wrong) == 20
    assert not all(is_sent(one.id, 0.2, failed=False) for one in failed)


async def test_a_slow_answer_is_sent_when_it_has_ended_and_once(bench: Bench) -> None:
    """It is stored behind faster ones that came later, which were sent by then."""
    async with bench.sending():
        began_s = bench.clock.now()
        quick = await bench.add(5)
        bench.clock.advance(100)
        await bench.receiver.until(lambda r: len(r.spans) == 5)
        ago_s = bench.clock.now() - began_s - 1
        [slow] = await bench.add(1, ago_s=ago_s, duration_us=int(ago_s * 1e6) - 1_000_000)
        bench.clock.advance(60)
        await bench.receiver.until(lambda r: len(r.spans) == 6)
        [last] = await bench.add(1)
        bench.clock.advance(60)
        await bench.receiver.until(lambda r: len(r.spans) == 7)
    assert sorted(ids(bench.receiver)) == sorted(one.id for one in (*quick, slow, last))


async def test_what_is_not_stored_yet_is_waited_for(bench: Bench) -> None:
    """Ingest is behind: what ended in the meantime comes later, and is not passed over."""
    async with bench.sending():
        bench.stored_until = bench.clock.now() + 10
        bench.clock.advance(100)
        [early] = await bench.add(1, ago_s=98)
        bench.stored_until = bench.clock.now() - 50
        await bench.receiver.until(lambda r: len(r.spans) == 1)
        [late] = await bench.add(1, ago_s=40)
        bench.stored_until = float("inf")
        await bench.receiver.until(lambda r: len(r.spans) == 2)
    assert ids(bench.receiver) == [early.id, late.id]


async def test_another_controller_goes_on_where_the_first_was(bench: Bench) -> None:
    async with bench.sending(otlp_signals=("traces",)):
        first = await bench.add(3)
        bench.clock.advance(30)
        await bench.until_sent(3)
    between = await bench.add(2)
    bench.clock.advance(60)
    async with bench.sending("another", otlp_signals=("traces",)):
        await bench.receiver.until(lambda r: len(r.spans) == 5)
    assert sorted(ids(bench.receiver)) == sorted(one.id for one in (*first, *between)), "each once"


async def test_an_outage_costs_one_line_and_loses_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="proxy.telemetry")
    later = iter([429, 503, 502])
    async with bench.sending():
        bench.receiver.script = lambda signal, count: (
            web.Response(status=status, headers={"Retry-After": "0"}) if (status := next(later, 0)) else None
        )
        await bench.add(2)
        bench.clock.advance(30)
        await bench.until_sent(2)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("proxy.telemetry")]
    assert said == [
        "telemetry waits in the store, nothing else waits for it: traces: HTTP 429",
        "telemetry: the receiver answers again after 3 failed requests",
    ]
    assert bench.value("ratchet_telemetry_failures_total") == 3
    assert bench.value("ratchet_telemetry_dropped_total", signal="traces", reason="too_old") == 0


async def test_a_receiver_that_is_not_there_is_tried_again(bench: Bench) -> None:
    async with OtlpSender("http://127.0.0.1:9", {}) as sender:
        answer = await sender.send("traces", b"")
    assert answer.meaning is Meaning.LATER
    assert answer.why == "traces: connection refused"


async def test_what_is_too_old_is_left_out_and_counted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async with bench.sending(otlp_max_age_seconds=60.0):
        bench.receiver.script = lambda signal, count: web.Response(status=503)
        await bench.add(2)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: len(r.asked) >= 1)
        await bench.add(4)
        bench.clock.advance(600)
        bench.receiver.script = lambda signal, count: None
        [fresh] = await bench.add(1)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: fresh.id in ids(r))
    assert "are older than telemetry.otlp_max_age_seconds, and left out" in caplog.text
    assert bench.value("ratchet_telemetry_dropped_total", signal="traces", reason="too_old") >= 4


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_what_is_refused_is_left_out_and_the_rest_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """A receiver that has no place for events takes the spans."""
    async with bench.sending():
        bench.receiver.script = lambda signal, count: web.Response(status=status) if signal == "logs" else None
        await bench.add(2, scores={"heuristic": 1.0})
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: len(r.asked) >= 2)
        await bench.add(1, scores={"heuristic": 1.0})
        bench.clock.advance(30)
        async with asyncio.timeout(60):
            while bench.value("ratchet_telemetry_dropped_total", signal="logs", reason="refused") < 3:
                await asyncio.sleep(0.01)
    assert len(bench.receiver.spans) == 3
    lines = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert len(lines) == 1
    assert "telemetry.otlp_signals = ['traces']" in lines[0]


async def test_what_is_too_large_is_sent_in_halves(bench: Bench) -> None:
    async with bench.sending(otlp_signals=("traces",)):
        bench.receiver.script = lambda signal, count: web.Response(status=413) if count > 3 else None
        records = await bench.add(10)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: len(r.spans) == 10)
    assert sorted(ids(bench.receiver)) == sorted(one.id for one in records)
    assert "logs" not in bench.receiver.asked


async def test_what_a_receiver_rejects_of_a_request_is_counted(bench: Bench) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "no such field"
    async with bench.sending(otlp_signals=("traces",)):
        bench.receiver.script = lambda signal, count: web.Response(
            body=answer.SerializeToString(), content_type="application/x-protobuf"
        )
        await bench.add(5)
        bench.clock.advance(30)
        await bench.until_sent(3)
    assert bench.value("ratchet_telemetry_sent_total", signal="traces") == 3
    assert bench.value("ratchet_telemetry_dropped_total", signal="traces", reason="rejected") == 2


async def test_what_came_before_it_was_switched_on_is_not_sent(bench: Bench) -> None:
    await bench.add(3)
    bench.clock.advance(60)
    async with bench.sending():
        [after] = await bench.add(1)
        bench.clock.advance(30)
        await bench.receiver.until(lambda r: bool(r.spans))
    assert ids(bench.receiver) == [after.id]


@pytest.mark.parametrize("detail", [{}, {"sent_until": 3}, {"sent_until": ["a", [1], "b", []]}])
def test_a_cursor_that_cannot_be_read_is_none(detail: dict[str, Any]) -> None:
    assert Cursor.of(detail) is None
    cursor = Cursor.at(1_700_000_000_000_000)
    assert Cursor.of(json.loads(json.dumps(cursor.detail()))) == cursor
