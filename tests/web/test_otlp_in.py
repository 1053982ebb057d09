"""Evaluations in OTLP become votes: sent by OpenTelemetry's own exporters, and byte for byte, into a real spool."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from policies.ballots import FULL_TRUST
from proxy.config import parse_config
from proxy.web.others.otlp import OWN_SCOPE
from tests.web.test_feedback import Side

FIXTURES = Path(__file__).parent / "otlp"
TOKEN = "a-token-of-the-operator"
JSON, PROTOBUF = "application/json", "application/x-protobuf"
TRACE = "0af7651916cd43dd8448eb211c80319c"
LOGS, TRACES = "/-/otlp/v1/logs", "/-/otlp/v1/traces"


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return made(tmp_path)


def made(folder: Path, **feedback: Any) -> Side:
    config = parse_config({
        "champion": {"url": "http://model.example.com"},
        "feedback": {"token": TOKEN, "score_names": ["helpfulness", "fluency"], **feedback},
    })  # fmt: skip
    return Side(folder, config)


def message(*events: Mapping[str, Any], trace: str = "", scope: str = "judge") -> dict[str, Any]:
    """An export request with these evaluations as log records; keys without a dot are of the evaluation."""
    records = [
        {
            "eventName": "gen_ai.evaluation.result",
            "traceId": trace,
            "attributes": [_pair(*item) for item in one.items()],
        }
        for one in events
    ]
    return {"resourceLogs": [{"scopeLogs": [{"scope": {"name": scope}, "logRecords": records}]}]}


def _pair(name: str, value: Any) -> dict[str, Any]:
    kind = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}[type(value)]
    short = {"name": "name", "value": "score.value", "label": "score.label", "why": "explanation"}
    name = "gen_ai.response.id" if name == "answer" else name
    name = f"gen_ai.evaluation.{short[name]}" if name in short else name
    return {"key": name, "value": {kind: str(value) if kind == "intValue" else value}}


async def send(
    client: aiohttp.ClientSession, body: Any, *, path: str = LOGS, kind: str = JSON, **headers: str
) -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"content-type": kind, "authorization": f"Bearer {TOKEN}"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    async with client.post(path, data=data, headers=sent) as answer:
        assert answer.headers["content-type"].startswith(kind if kind in (JSON, PROTOBUF) else JSON)
        return answer.status, await answer.read()


def said(side: Side) -> list[tuple[Any, ...]]:
    names = ("alias", "feedback", "quality_score", "comment", "source")
    return [tuple(vote.get(name) for name in names) for vote in side.votes()]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
async def test_a_log_record_of_the_real_sdk_is_a_vote(side: Side, compression: Compression) -> None:
    async with side.running() as client:
        exporter = OTLPLogExporter(f"{client._base_url}{LOGS}", headers={"x-api-key": TOKEN}, compression=compression)
        provider = LoggerProvider(Resource.create({"service.name": "shop"}))
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        attributes = {
            "gen_ai.evaluation.name": "user_feedback", "gen_ai.evaluation.score.value": 1.0, "user.id": "ada",
            "gen_ai.evaluation.explanation": "Named the right city.", "gen_ai.response.id": "chatcmpl-fix1",
        }  # fmt: skip
        record = LogRecord(
            event_name="gen_ai.evaluation.result", severity_number=SeverityNumber.INFO, attributes=attributes
        )
        await asyncio.to_thread(provider.get_logger("shop").emit, record)
        await asyncio.to_thread(provider.shutdown)
    assert said(side) == [("chatcmpl-fix1", 1, None, "Named the right city.", "ada")]
    assert side.votes()[0]["tr"] == int(FULL_TRUST)


async def test_an_event_on_a_span_of_the_real_sdk_is_a_vote_by_its_span_and_its_trace(side: Side) -> None:
    async with side.running() as client:
        exporter = OTLPSpanExporter(f"{client._base_url}{TRACES}", headers={"authorization": f"Bearer {TOKEN}"})
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))

        def judged() -> tuple[str, str]:
            with provider.get_tracer("shop").start_as_current_span("chat m-small") as span:
                about = {"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.label": "down"}
                span.add_event("gen_ai.evaluation.result", about)
                span.add_event("of another kind", {"gen_ai.evaluation.name": "thumb"})
                context = span.get_span_context()
            provider.shutdown()
            return f"{context.span_id:016x}", f"{context.trace_id:032x}"

        span_id, trace_id = await asyncio.to_thread(judged)
    assert said(side) == [(span_id, -1, None, None, "otlp")]
    assert side.votes()[0]["or"] == [trace_id]


async def test_what_a_model_or_another_tool_says_does_not_replace_what_a_person_has_said(side: Side) -> None:
    """Under the same name, of the same answer, by nobody who is named."""
    person = {"answer": "chatcmpl-1", "name": "thumb", "value": 1, "why": "right"}
    model = {**person, "value": 0, "why": "too short", "gen_ai.evaluation.source.type": "LLM"}
    elsewhere = message(person)
    elsewhere["resourceLogs"][0]["resource"] = {"attributes": [_pair("service.name", "reviews")]}
    async with side.running() as client:
        for body in (message(person), message(model), elsewhere, message(person)):
            assert (await send(client, body))[0] == 200
    first, by_model, by_tool, again = (vote["ext"] for vote in side.votes())
    assert again == first
    assert len({first, by_model, by_tool}) == 3


@pytest.mark.parametrize("encoding", ["json", "pb"])
@pytest.mark.parametrize("packed", [False, True])
async def test_the_recorded_messages_are_understood_in_both_encodings(side: Side, encoding: str, packed: bool) -> None:
    kind = JSON if encoding == "json" else PROTOBUF
    async with side.running() as client:
        for path, name in ((LOGS, "logs_evaluation"), (TRACES, "traces")):
            file = FIXTURES / f"{name}.{'json' if encoding == 'json' else 'pb.b64'}"
            body = file.read_bytes() if encoding == "json" else b64decode(file.read_bytes())
            headers = {"content_encoding": "gzip"} if packed else {}
            answer = await send(client, gzip.compress(body) if packed else body, path=path, kind=kind, **headers)
            assert answer == (200, b"{}" if encoding == "json" else b""), "spans without evaluations are passed over"
    assert said(side) == [("chatcmpl-fix1", 1, None, "Invented: named the right city", "otlp")]


@pytest.mark.parametrize(
    ("event", "vote"),
    [
        ({"name": "thumb", "value": 0.0}, (-1, None, None, "otlp")),
        ({"name": "thumb", "value": 0.2, "label": "down", "user.id": "ada"}, (-1, None, None, "ada")),
        ({"name": "user_feedback", "value": 7.0, "label": "up"}, (1, None, None, "otlp")),
        ({"name": "thumb", "value": 1}, (1, None, None, "otlp")),
        ({"name": "helpfulness", "value": 0.7, "why": "Good."}, (None, 0.7, "Good.", "helpfulness")),
        ({"name": "toxicity", "value": 0.9, "why": "Rude."}, (None, None, "toxicity: 0.9 — Rude.", "otlp")),
        ({"name": "verdict", "label": "fail"}, (None, None, "verdict: fail", "otlp")),
        ({"name": "thumb", "value": 1.0, "evaluator.type": "LLM"}, (None, None, "thumb (llm): 1", "otlp")),
        ({"name": "helpfulness", "value": 0.7, "annotator_kind": "CODE"},
         (None, None, "helpfulness (code): 0.7", "helpfulness")),
        ({"name": "thumb", "value": 1.0, "event.name": "x"}, (1, None, None, "otlp")),
    ],
)  # fmt: skip
async def test_its_name_decides_what_it_means(side: Side, event: Mapping[str, Any], vote: tuple[Any, ...]) -> None:
    async with side.running() as client:
        assert await send(client, message({"answer": "chatcmpl-fix1"} | event)) == (200, b"{}")
    assert said(side) == [("chatcmpl-fix1", *vote)]


async def test_older_sdks_name_the_event_among_its_attributes_and_ids_are_those_of_the_trace(side: Side) -> None:
    old = message({"name": "thumb", "value": 1.0, "event.name": "gen_ai.evaluation.result"}, trace=TRACE.upper())
    del old["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["eventName"]
    async with side.running() as client:
        assert (await send(client, old))[0] == 200
    assert said(side) == [(TRACE, 1, None, None, "otlp")]


async def test_a_signed_record_id_names_its_answer_and_what_we_sent_ourselves_is_no_second_vote(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    event = {"name": "thumb", "value": 1.0, "answer": minted.text}
    async with side.running() as client:
        assert (await send(client, message(event)))[0] == 200
        assert (await send(client, message(event, scope=OWN_SCOPE)))[0] == 200
    assert [vote["id"] for vote in side.votes()] == [minted.hex]


@pytest.mark.parametrize("kind", [JSON, PROTOBUF])
async def test_what_cannot_be_a_vote_is_rejected_and_the_rest_kept(tmp_path: Path, kind: str) -> None:
    side = made(tmp_path, max_batch=4)  # of which there are two here: a collector's batch is longer than ours
    good = {"name": "thumb", "value": 1.0, "answer": "chatcmpl-fix1"}
    bad = [
        {"name": "thumb", "value": 1.0},
        {"name": "thumb", "answer": "chatcmpl-fix1"},
        {"name": "thumb", "value": 1.0, "answer": side.record_id(age_days=91)},
    ]
    body: Any = message(good, *bad, {**good, "answer": "chatcmpl-fix2"})
    if kind == PROTOBUF:
        body = _as_protobuf(body)
    async with side.running() as client:
        status, answer = await send(client, body, kind=kind)
    assert status == 200
    if kind == JSON:
        partial = orjson.loads(answer)["partialSuccess"]
        assert (partial["rejectedLogRecords"], "about no answer" in partial["errorMessage"]) == ("3", True)
    else:
        parsed = ExportLogsServiceResponse.FromString(answer).partial_success
        assert (parsed.rejected_log_records, "about no answer" in parsed.error_message) == (3, True)
    assert said(side) == [("chatcmpl-fix1", 1, None, None, "otlp"), ("chatcmpl-fix2", 1, None, None, "otlp")]


def _as_protobuf(document: dict[str, Any]) -> bytes:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ParseDict(document, ExportLogsServiceRequest()).SerializeToString()


async def test_rejected_evaluations_of_spans_are_counted_as_spans(side: Side) -> None:
    event = {"name": "gen_ai.evaluation.result", "attributes": [_pair("name", "thumb"), _pair("value", 1.0)]}
    spans = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0" * 32, "events": [event]}]}]}]}
    async with side.running() as client:
        status, answer = await send(client, spans, path=TRACES)
        assert (status, orjson.loads(answer)["partialSuccess"]["rejectedSpans"]) == (200, "1")
    assert ExportTraceServiceResponse().partial_success.rejected_spans == 0, "as its protobuf calls it"


async def test_nothing_counts_without_the_token_and_guessing_ends(side: Side) -> None:
    event = message({"name": "thumb", "value": 1.0, "answer": "chatcmpl-fix1"})
    async with side.running() as client:
        for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
            status, answer = await send(client, event, **headers)
            assert (status, orjson.loads(answer)["code"]) == (401, 16)
        statuses = {(await send(client, event, authorization="", x_api_key=f"wrong-{n}"))[0] for n in range(30)}
        assert statuses == {401, 429}
    assert side.votes() == []


async def test_errors_are_status_messages_in_the_senders_encoding(side: Side) -> None:
    bomb = gzip.compress(b" " * (21 << 20))
    async with side.running() as client:
        for body, kind, headers, status, code in (
            (b"no protobuf", PROTOBUF, {}, 400, 3),
            (b"no JSON", JSON, {}, 400, 3),
            (b"[]", JSON, {}, 400, 3),
            (bomb, JSON, {"content_encoding": "gzip"}, 413, 8),
            (bomb, PROTOBUF, {"content_encoding": "gzip"}, 413, 8),
            (b"{}", JSON, {"content_encoding": "x-own"}, 415, 12),
            (b"{}", JSON, {"content_encoding": "gzip"}, 400, 3),
            (b"{}", "text/plain", {}, 415, 12),
        ):
            answer = await send(client, body, kind=kind, **headers)
            said_code = Status.FromString(answer[1]).code if kind == PROTOBUF else orjson.loads(answer[1])["code"]
            assert (answer[0], said_code) == (status, code), (body[:20], kind, headers)
    assert side.votes() == []


async def test_a_message_of_any_json_is_survived(side: Side) -> None:
    odd = [
        {"resourceLogs": value}
        for value in (None, 1, "x", [1, None], [{"scopeLogs": 1}], [{"scopeLogs": [{"logRecords": 7}]}])
    ]
    odd += [message({"name": "thumb", "value": 1.0, "answer": "chatcmpl-fix1"}) for _ in range(3)]
    odd[-1]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["attributes"] = [
        1,
        {"key": 5},
        {"key": "a", "value": 3},
    ]
    odd[-2]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["traceId"] = 5
    async with side.running() as client:
        for one in odd:
            assert (await send(client, one))[0] == 200
    assert len(side.votes()) == 2


def test_protobuf_is_imported_when_it_comes_and_its_absence_is_explained() -> None:
    """In a process of its own, where the packages are hidden: as without the extra."""
    program = (
        "import sys, asyncio; sys.modules['opentelemetry.proto.collector.logs.v1.logs_service_pb2'] = None\n"
        "from proxy.web.others import otlp; from proxy.web.responses import ApiError\n"
        "assert not any(name.startswith('google.protobuf') for name in sys.modules)\n"
        "try: asyncio.run(otlp._reader('application/x-protobuf'))\n"
        "except ApiError as exc: print(exc.status, exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("415 protobuf needs `pip install ratchet-proxy[otel]`")
