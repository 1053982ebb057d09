"""Answers of every API shape as records: a whole one may be learnt from, one that failed or broke off may not."""

import json
from typing import Any

import pytest

from policies.records import Outcome
from policies.scoring import ScoringConfig
from proxy.config.serving import CaptureConfig
from proxy.ingest.interpret import Interpreter
from proxy.store.ingest.facts import flags_of
from proxy.store.tables.values import NewRecord, RecordFlag
from tests.harness.eventstream import chunk, converse, exception
from tests.harness.frames import frame_of
from tests.harness.shapes import FRAMES, SSE, sse

ID = "0190a0a0b0b07abc8def0123456789ab"
MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "What is the capital of Switzerland?"}]}
SAID = "The capital is Bern, on the river Aare."
ERROR = sse({"error": {"message": "overloaded", "code": 503}})


def record(target: str, request: dict[str, Any], response: bytes, content_type: str) -> NewRecord:
    frame = frame_of(ID, json.dumps(request).encode(), response, p=target, sh={"content-type": content_type})
    return Interpreter(CaptureConfig(), ScoringConfig(), len).record(frame)


def gemini(**more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": SAID}]}, "index": 0, **more}]}


TEXT = converse("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": SAID}})
FAULT = exception("modelStreamErrorException", "overloaded")
CASES = {
    "gemini": ("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}, SSE,
               sse(gemini()), sse({"candidates": [{"finishReason": "STOP"}]}), ERROR),
    "bedrock": ("/model/m/converse-stream", MESSAGES, FRAMES, TEXT,
                converse("messageStop", {"stopReason": "end_turn"}), FAULT),
    "llama": ("/model/m/invoke-with-response-stream", {"prompt": "hi"}, FRAMES,
              chunk({"generation": SAID, "stop_reason": None}), chunk({"generation": "", "stop_reason": "stop"}),
              FAULT),
    "cohere": ("/v2/chat", MESSAGES, SSE,
               sse({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": SAID}}}}),
               sse({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
               sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "overloaded"}})),
    "tgi": ("/generate_stream", {"inputs": "hi"}, SSE, sse({"token": {"text": SAID}, "generated_text": None}),
            sse({"token": {"text": "</s>", "special": True}, "generated_text": SAID}),
            sse({"error": "overloaded", "error_type": "generation"})),
    "llama.cpp": ("/completion", {"prompt": "hi"}, SSE, sse({"content": SAID, "stop": False}),
                  sse({"content": "", "stop": True}), b'error: {"code": 500, "message": "overloaded"}\n\n'),
    "sglang": ("/generate", {"text": "hi"}, SSE, sse({"text": SAID, "meta_info": {"finish_reason": None}}),
               sse({"text": SAID, "meta_info": {"finish_reason": {"type": "stop"}}}),
               sse({"text": SAID, "meta_info": {"finish_reason": {"type": "abort", "message": "overloaded"}}})),
    "dify": ("/v1/chat-messages", {"query": "hi"}, SSE, sse({"event": "message", "message_id": "m1", "answer": SAID}),
             sse({"event": "message_end", "message_id": "m1"}),
             sse({"event": "error", "message_id": "m1", "message": "overloaded"})),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_whole_broken_off_and_failed(name: str) -> None:
    target, ask, content_type, words, end, error = CASES[name]
    whole = record(target, ask, words + end, content_type)
    assert (whole.outcome, whole.quality) == (Outcome.OK, 1.0)
    assert flags_of(whole) == RecordFlag.STREAMED | RecordFlag.SAMPLE
    assert whole.body is not None
    assert whole.body.response_text == SAID
    assert json.loads(whole.body.response), "kept as its unstreamed sibling"
    broken = record(target, ask, words, content_type)
    failed = record(target, ask, words + error, content_type)
    at_once = record(target, ask, error, content_type)
    for found, outcome in [(broken, Outcome.INCOMPLETE), (failed, Outcome.UPSTREAM_ERROR),
                           (at_once, Outcome.UPSTREAM_ERROR)]:  # fmt: skip
        assert found.outcome is outcome
        assert found.quality is None or found.quality < 1
        assert not flags_of(found) & RecordFlag.SAMPLE
    assert failed.body is not None
    assert failed.body.error == "overloaded"


@pytest.mark.parametrize(("target", "ask", "answer"), [
    ("/v2/rerank", {"query": "hi", "documents": ["a"]}, {"results": [{"index": 0, "relevance_score": 0.5}]}),
    ("/v1/moderations", {"input": "hi"}, {"results": [{"flagged": False}]}),
    ("/embed", {"inputs": "hi"}, [[0.5, 0.5]]),
])  # fmt: skip
def test_numbers_about_texts_are_never_samples(target: str, ask: dict[str, Any], answer: Any) -> None:
    found = record(target, ask, json.dumps(answer).encode(), "application/json")
    assert (found.outcome, found.quality) == (Outcome.OK, None)
    assert not flags_of(found) & RecordFlag.SAMPLE


def test_what_is_blocked_is_an_answer_but_no_sample() -> None:
    body = sse({"promptFeedback": {"blockReason": "SAFETY"}})
    found = record("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}, body, SSE)
    assert found.outcome is Outcome.OK
    assert not flags_of(found) & RecordFlag.SAMPLE
