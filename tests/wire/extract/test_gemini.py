"""Gemini: contents and parts in either spelling, thoughts apart, and streams as events or as one array."""

import json
from typing import Any

import pytest

from proxy.wire.extract import Extraction
from tests.harness.shapes import call, facts, sse, streamed, upto

PATH = "/v1beta/models/gemini-x:generateContent"
STREAM = "/v1beta/models/gemini-x:streamGenerateContent"
ASK = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CALL = {"functionCall": {"name": "look", "args": {"at": "Oslo"}}}


def candidate(*parts: Any, **rest: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "index": 0, **rest}]}


def array(*events: Any) -> Extraction:
    return streamed(STREAM, ASK, json.dumps(list(events), indent=1).encode(), "application/json; charset=UTF-8")


USAGE = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 2, "thoughtsTokenCount": 5,
         "toolUsePromptTokenCount": 1, "totalTokenCount": 17}  # fmt: skip
PLAIN = candidate({"text": "Let me see.", "thought": True}, {"text": "Rain."}, CALL, finishReason="STOP") | {
    "usageMetadata": USAGE, "modelVersion": "gemini-x-001", "responseId": "r1"}  # fmt: skip
EVENTS = [
    candidate({"text": "Let me ", "thought": True}) | {"usageMetadata": {"promptTokenCount": 9}, "responseId": "r1"},
    candidate({"text": "see.", "thought": True}),
    candidate({"text": "Ra"}, {"text": "in"}),
    candidate({"text": "."}) | {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1}},
    candidate(CALL, {"text": "", "thoughtSignature": "c2ln"}, finishReason="STOP")
    | {"usageMetadata": USAGE, "modelVersion": "gemini-x-001"},
]
RIGHT = {
    "kind": "gemini", "response": 'Rain.\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>',
    "model": "gemini-x-001", "prompt_tokens": 10, "completion_tokens": 7, "cache_read_tokens": 4,
    "cache_write_tokens": None, "reasoning_tokens": 5, "finish_reason": "STOP", "provider_id": "r1", "refused": False,
    "error": None, "failed": False,
}  # fmt: skip


def test_plain_and_streamed_say_the_same() -> None:
    assert facts(call(PATH, ASK, PLAIN)) == RIGHT
    for found in (streamed(STREAM + "?alt=sse", ASK, sse(*EVENTS)), array(*EVENTS), array(PLAIN)):
        assert facts(found) == RIGHT
        assert found.whole is True
        assert found.streamed
        assert not found.unread


def test_thoughts_and_answer_stay_apart_when_put_together() -> None:
    whole = streamed(STREAM, ASK, sse(*EVENTS)).reassembled
    assert whole is not None
    parts = whole["candidates"][0]["content"]["parts"]
    assert [part.get("text") for part in parts] == ["Let me see.", "Rain.", None, ""]


@pytest.mark.parametrize(("system", "config", "mime"), [
    ("systemInstruction", "generationConfig", "responseMimeType"),
    ("system_instruction", "generation_config", "response_mime_type"),
])  # fmt: skip
def test_a_conversation_in_both_spellings(system: str, config: str, mime: str) -> None:
    snake = "_" in mime
    media, kind = ("inline_data", "mime_type") if snake else ("inlineData", "mimeType")
    file, called, result = (("file_data", "function_call", "function_response") if snake
                            else ("fileData", "functionCall", "functionResponse"))  # fmt: skip
    found = call(PATH, {
        system: {"parts": [{"text": "Be brief."}]}, config: {mime: "application/json"},
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"}, {media: {kind: "image/png", "data": "AA=="}},
                                       {media: {kind: "audio/wav"}}, {file: {kind: "video/mp4", "fileUri": "gs://x"}},
                                       {file: {kind: "application/pdf"}}, {media: {}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "Looking."},
                                        {called: {"name": "look", "args": {"at": 1}}}]},
            {"role": "user", "parts": [{result: {"name": "look", "response": {"found": "a cat"}}}]},
            {"role": "function", "parts": [{result: {"name": "look", "response": {"found": 2}}}, {"text": "and"}]},
            {"parts": ["So?"]},
        ],
    }, None)  # fmt: skip
    assert found.json_requested
    assert found.query == "So?"
    assert [(message["role"], message["content"]) for message in found.messages] == [
        ("system", "Be brief."),
        ("user", "What is this?\n[image]\n[audio]\n[video]\n[file]"),
        ("assistant", 'Looking.\n<tool_call>{"name":"look","arguments":{"at":1}}</tool_call>'),
        ("tool", '{"found":"a cat"}'),
        ("tool", '{"found":2}'),
        ("tool", "and"),
        ("user", "So?"),
    ]


@pytest.mark.parametrize("contents", ["hi", {"parts": [{"text": "hi"}]}, {"parts": {"text": "hi"}}, {"text": "hi"},
                                      ["hi"], [{"role": "user", "parts": [{"text": "hi"}]}]])  # fmt: skip
def test_contents_as_careless_programs_send_them(contents: Any) -> None:
    assert call(PATH, {"contents": contents}, PLAIN).query == "hi"


def test_nothing_asked() -> None:
    found = call(PATH, {"contents": []}, {})
    assert (found.kind, found.query, found.response, found.messages) == ("gemini", None, None, ())


@pytest.mark.parametrize("path", [
    "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-x:generateContent",
    "/gemini/v1beta/models/gemini-x:streamGenerateContent?key=k", "/v1/models/gemini-x:generateContent/",
])  # fmt: skip
def test_where_it_is_served(path: str) -> None:
    found = call(path, ASK, candidate({"text": "hello"}, finishReason="STOP"))
    assert (found.kind, found.response, found.model) == ("gemini", "hello", "gemini-x")


BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}


@pytest.mark.parametrize("answer", [
    BLOCKED,
    {"candidates": [{"finishReason": "SAFETY", "index": 0}]},
    {"candidates": [{"finishReason": "PROHIBITED_CONTENT", "index": 0}]},
    {"candidates": [{"finishReason": "RECITATION", "index": 0}]},
])  # fmt: skip
def test_what_is_blocked_is_refused_and_not_failed(answer: dict[str, Any]) -> None:
    for found in (call(PATH, ASK, answer), streamed(STREAM, ASK, sse(answer)), array(answer)):
        assert found.refused
        assert (found.response, found.failed, found.error) == (None, False, None)
        assert found.finish_reason in ("SAFETY", "PROHIBITED_CONTENT", "RECITATION")
        assert found.whole in (None, True)


def test_a_call_that_the_model_got_wrong_is_a_failure() -> None:
    answer = candidate(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: look(")
    for found in (call(PATH, ASK, answer), streamed(STREAM, ASK, sse(answer)), array(answer)):
        assert found.failed
        assert found.error == "Malformed function call: look("
    assert call(PATH, ASK, candidate(finishReason="UNEXPECTED_TOOL_CALL")).error == "UNEXPECTED_TOOL_CALL"


def test_an_error_in_the_middle() -> None:
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    for found in (array(EVENTS[2], error), streamed(STREAM, ASK, sse(EVENTS[2], error)), array(error)):
        assert found.failed
        assert found.error == "overloaded"
    refused = streamed(STREAM, ASK, json.dumps([error]).encode(), "application/json")
    assert refused.error == "overloaded"


def test_an_empty_answer_is_empty_and_a_missing_one_unknown() -> None:
    thinking = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}
    assert call(PATH, ASK, thinking).response == ""
    assert streamed(STREAM, ASK, sse(thinking)).response == ""
    assert call(PATH, ASK, {"usageMetadata": {"promptTokenCount": 3}}).response is None
    assert call(PATH, ASK, {"candidates": [{"finishReason": "OTHER"}]}).response is None


def test_a_stream_without_its_end() -> None:
    for found in (streamed(STREAM, ASK, sse(*EVENTS[:3])), array(*EVENTS[:3])):
        assert found.whole is False
        assert found.response == "Rain"
    body = json.dumps(EVENTS).encode()
    cut = streamed(STREAM, ASK, body[: body.index(b'"in"')], "application/json")
    assert cut.response is None
    assert cut.whole is False


def test_several_candidates_and_pictures_in_the_answer() -> None:
    two = {"candidates": [{"index": 1, "content": {"parts": [{"text": "B"}]}, "finishReason": "STOP"},
                          {"index": 0, "content": {"parts": [{"text": "A"}, {"inlineData": {"mimeType": "image/png"}}]},
                           "finishReason": "STOP"}]}  # fmt: skip
    assert streamed(STREAM, ASK, sse(two)).response == "A[image]"


def test_the_first_content_is_found() -> None:
    silent = candidate({"text": ""})
    finish = candidate(finishReason="STOP")
    assert streamed(STREAM, ASK, sse(silent, finish)).first_content is None
    found = streamed(STREAM, ASK, sse(silent, EVENTS[2], finish))
    assert found.first_content == upto(sse(silent, EVENTS[2]))
    assert array(silent, finish).first_content is None
    in_array = array(silent, EVENTS[2])
    assert in_array.first_content == json.dumps([silent, EVENTS[2]], indent=1).rindex("}") + 1
