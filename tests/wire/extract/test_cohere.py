"""Cohere's chat in both versions: tokens as read, plans as reasoning, and an end that may say that it failed."""

from typing import Any

import pytest

from proxy.wire.extract import Extraction
from tests.harness.shapes import NDJSON, call, facts, sse, streamed, upto

V2, V1 = "/v2/chat", "/v1/chat"
ASK = {"model": "command", "messages": [{"role": "user", "content": "hi"}]}
CALL = {"id": "look_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "Oslo"}'}}
USAGE = {"billed_units": {"input_tokens": 5.0, "output_tokens": 1.0},
         "tokens": {"input_tokens": 71, "output_tokens": 2}, "cached_tokens": 3}  # fmt: skip
PLAIN = {
    "id": "c1", "finish_reason": "TOOL_CALL", "usage": USAGE,
    "message": {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [CALL],
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Rain."}]},
}  # fmt: skip


def event(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}}


def end(reason: str, **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": USAGE, **more}}


BEGIN = {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
WORDS = [event("content-delta", 1, content={"text": word}) for word in ("Ra", "in.")]
EVENTS = [
    BEGIN, event("tool-plan-delta", tool_plan="I will "), event("tool-plan-delta", tool_plan="look."),
    event("content-start", 0, content={"type": "thinking", "thinking": ""}),
    event("content-delta", 0, content={"thinking": "hm"}), {"type": "content-end", "index": 0},
    event("content-start", 1, content={"type": "text", "text": ""}), *WORDS, {"type": "content-end", "index": 1},
    event("tool-call-start", 0, tool_calls={"id": "look_1", "type": "function",
                                            "function": {"name": "look", "arguments": ""}}),
    event("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"at":'}}),
    event("tool-call-delta", 0, tool_calls={"function": {"arguments": ' "Oslo"}'}}),
    {"type": "tool-call-end", "index": 0}, end("TOOL_CALL"),
]  # fmt: skip
RIGHT = {
    "kind": "cohere", "response": 'Rain.\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>',
    "model": "command", "prompt_tokens": 71, "completion_tokens": 2, "cache_read_tokens": 3, "cache_write_tokens": None,
    "reasoning_tokens": None, "finish_reason": "TOOL_CALL", "provider_id": "c1", "refused": False, "error": None,
    "failed": False,
}  # fmt: skip


def stream(*events: dict[str, Any]) -> Extraction:
    return streamed(V2, ASK | {"stream": True}, sse(*events, named=True))


def test_plain_and_streamed_say_the_same() -> None:
    assert facts(call(V2, ASK, PLAIN)) == RIGHT
    found = stream(*EVENTS)
    assert facts(found) == RIGHT
    assert found.reassembled == PLAIN
    assert found.whole is True
    assert found.first_content == upto(sse(*EVENTS[:2], named=True)), "the plan"


def test_citations_are_kept() -> None:
    cited = event("citation-start", 0, citations={"start": 0, "end": 4})
    whole = stream(BEGIN, *WORDS, cited, {"type": "citation-end", "index": 0}, end("COMPLETE")).reassembled
    assert whole is not None
    assert whole["message"]["citations"] == [{"start": 0, "end": 4}]


def test_a_conversation_with_tools() -> None:
    found = call(V2, ASK | {"response_format": {"type": "json_object"}, "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "tool_plan": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "look_1", "content": [
            {"type": "document", "document": {"data": "rain"}}, {"type": "document", "document": {"data": {"at": 1}}},
            {"type": "text", "text": "found"}]},
        {"role": "tool", "content": "wet"},
    ]}, PLAIN)  # fmt: skip
    assert found.json_requested
    assert found.query == "What?\n[image]"
    assert [message["content"] for message in found.messages] == [
        "Be brief.", "What?\n[image]", '<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>',
        'found\nrain\n{"at":1}', "wet",
    ]  # fmt: skip


def test_tokens_as_billed_only_where_nothing_else_is_said() -> None:
    found = call(V2, ASK, PLAIN | {"usage": {"billed_units": {"input_tokens": 5, "output_tokens": 2}}})
    assert (found.prompt_tokens, found.completion_tokens) == (5, 2)


@pytest.mark.parametrize(("reason", "failed"), [("COMPLETE", False), ("MAX_TOKENS", False), ("STOP_SEQUENCE", False),
                                                ("ERROR", True), ("TIMEOUT", True)])  # fmt: skip
def test_how_it_ended(reason: str, failed: bool) -> None:
    for found in (call(V2, ASK, PLAIN | {"finish_reason": reason}), stream(*EVENTS[:-1], end(reason))):
        assert (found.failed, found.finish_reason) == (failed, reason)
        assert found.error == (reason if failed else None)
    assert stream(end("ERROR", error="invented")).error == "invented"


def test_a_stream_without_its_end() -> None:
    found = stream(BEGIN, *WORDS)
    assert (found.whole, found.response, found.failed) == (False, "Rain.", False)
    assert stream(BEGIN, *WORDS, {"type": "error", "error": {"message": "overloaded"}}).error == "overloaded"


V1_ASK = {
    "model": "command", "message": "So?", "preamble": "Be brief.", "chat_history": [
        {"role": "USER", "message": "What?"},
        {"role": "CHATBOT", "message": "Looking.", "tool_calls": [{"name": "look", "parameters": {"at": 1}}]},
        {"role": "TOOL", "tool_results": [{"outputs": [{"rain": True}]}]}, {"message": "hm"},
    ],
}  # fmt: skip
V1_PLAIN = {
    "text": "Rain.", "generation_id": "g1", "response_id": "r1", "finish_reason": "COMPLETE",
    "meta": {"tokens": {"input_tokens": 71, "output_tokens": 2}},
    "tool_calls": [{"name": "look", "parameters": {"at": "Oslo"}}],
}  # fmt: skip


def v1(kind: str, **more: Any) -> dict[str, Any]:
    return {"event_type": kind, "is_finished": kind == "stream-end", **more}


V1_EVENTS = [
    v1("stream-start", generation_id="g1"), v1("text-generation", text="Ra"), v1("text-generation", text="in."),
    v1("tool-calls-chunk", tool_call_delta={}), v1("tool-calls-generation", tool_calls=V1_PLAIN["tool_calls"]),
    v1("stream-end", finish_reason="COMPLETE", response=V1_PLAIN),
]  # fmt: skip


def test_the_first_version() -> None:
    plain = call(V1, V1_ASK, V1_PLAIN)
    assert (plain.kind, plain.query, plain.response) == ("cohere", "So?", RIGHT["response"])
    assert (plain.prompt_tokens, plain.completion_tokens, plain.provider_id) == (71, 2, "g1")
    assert [(message["role"], message["content"]) for message in plain.messages] == [
        ("system", "Be brief."), ("user", "What?"),
        ("assistant", 'Looking.\n<tool_call>{"name":"look","arguments":{"at":1}}</tool_call>'),
        ("tool", '{"outputs":[{"rain":true}]}'), ("user", "hm"), ("user", "So?"),
    ]  # fmt: skip
    lines = sse(*V1_EVENTS).replace(b"data: ", b"").replace(b"\n\n", b"\n")
    for found in (streamed(V1, V1_ASK, sse(*V1_EVENTS)), streamed(V1, V1_ASK, lines, NDJSON),
                  streamed(V1, V1_ASK, lines, "application/stream+json")):  # fmt: skip
        assert facts(found) == facts(plain)
        assert found.whole is True
    cut = streamed(V1, V1_ASK, sse(*V1_EVENTS[:5]))
    assert (cut.response, cut.provider_id, cut.whole) == (plain.response, "g1", False)


def test_the_first_version_with_results_of_tools_and_no_message() -> None:
    found = call(V1, {"message": "", "tool_results": [{"outputs": [1]}]}, V1_PLAIN | {"finish_reason": "ERROR_TOXIC"})
    assert found.messages == ({"role": "tool", "content": '{"outputs":[1]}'},)
    assert found.query == '{"outputs":[1]}'
    assert found.refused


def test_the_first_version_fails() -> None:
    found = streamed(V1, V1_ASK, sse(V1_EVENTS[1], v1("stream-end", finish_reason="ERROR", error="invented")))
    assert (found.failed, found.error) == (True, "invented")
    assert call(V1, V1_ASK, {"message": "no"}).response is None
