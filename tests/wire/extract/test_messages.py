"""Anthropic's Messages API: blocks in, blocks out, and streams of block deltas."""

import json
from typing import Any

from proxy.wire.extract import CapturedExchange, Extraction, extract
from tests.harness.late import late

TYPES = late("anthropic.types")


def call(request: Any, response: Any = None) -> Extraction:
    body = json.dumps(response).encode() if response is not None else b""
    return extract(CapturedExchange(target="/v1/messages?beta=true", request=json.dumps(request).encode(),
                                    response=body, response_type="application/json"))  # fmt: skip


def stream(*events: dict[str, Any]) -> Extraction:
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    request = b'{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":true}'
    return extract(CapturedExchange(target="/v1/messages", request=request, response=body.encode(),
                                    response_type="text/event-stream"))  # fmt: skip


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **change: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": change}


BEGIN = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
                "stop_reason": None, "stop_sequence": None,
                "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}},
}  # fmt: skip


def test_system_tools_and_results() -> None:
    found = call(
        {
            "model": "claude", "metadata": {"user_id": "u7"}, "system": [{"type": "text", "text": "Be brief."}],
            "output_config": {"format": {"type": "json_schema"}},
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t", "name": "look", "input": {"at": "Oslo"}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]},
            ],
        },
        {
            "id": "msg_1", "model": "claude-x", "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5,
                      "output_tokens": 2},
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Rain"},
                        {"type": "text", "text": "."}],
        },
    )  # fmt: skip
    assert (found.kind, found.query, found.response, found.user) == ("messages", "Weather?", "Rain.", "u7")
    assert [(turn["role"], turn["content"]) for turn in found.messages] == [
        ("system", "Be brief."),
        ("user", "Weather?"),
        ("assistant", 'Looking.\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>'),
        ("tool", "rain"),
    ]
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (18, 2, "end_turn")
    assert (found.provider_id, found.model, found.json_requested) == ("msg_1", "claude-x", True)


def test_a_result_and_a_question_in_one_turn() -> None:
    content = [{"type": "tool_result", "content": [{"type": "text", "text": "rain"}]}, {"type": "text", "text": "So?"}]
    found = call({"system": "Be brief.", "messages": [{"role": "user", "content": content}]})
    assert [turn["role"] for turn in found.messages] == ["system", "tool", "user"]
    assert found.query == "So?"
    assert call({"messages": [{"role": "user", "content": []}]}).query is None


def test_a_refusal_and_no_content() -> None:
    found = call({"messages": []}, {"content": [], "stop_reason": "refusal"})
    assert (found.response, found.refused) == ("", True)
    assert call({"messages": []}, {"type": "error", "error": {"type": "overloaded_error"}}).error == "overloaded_error"


def test_a_stream_adds_up_to_a_message() -> None:
    found = stream(
        BEGIN,
        {"type": "ping"},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="sig"),
        {"type": "content_block_stop", "index": 0},
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Hel"),
        delta(1, type="text_delta", text="lo"),
        delta(1, type="citations_delta", citation={"type": "char_location", "cited_text": "H", "document_index": 0,
              "document_title": None, "start_char_index": 0, "end_char_index": 1, "file_id": None}),
        delta(1, type="martian_delta"),
        start(2, type="tool_use", id="t", name="look", input={}),
        delta(2, type="input_json_delta", partial_json='{"at":'),
        delta(2, type="input_json_delta", partial_json=' "Oslo"}'),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 12, "input_tokens": None}},
        {"type": "message_stop"},
    )  # fmt: skip
    message = TYPES.Message.model_validate(found.reassembled)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[1].type == "text"
    assert message.content[1].citations is not None
    assert message.content[1].citations[0].cited_text == "H"
    assert found.response == 'Hello\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>'
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (15, 12, "tool_use")


def test_the_input_of_a_tool_may_come_as_an_object() -> None:
    tool = start(0, type="tool_use", id="t", name="look", input={})
    for deltas in ([{"at": "Oslo"}], [None, {"at": "Oslo"}], ["", '{"at":', '"Oslo"}'], ['{"at":"Oslo"', "}", None]):
        found = stream(BEGIN, tool, *(delta(0, type="input_json_delta", partial_json=given) for given in deltas))
        assert found.response == '<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>'
    assert stream(BEGIN, start(0, type="tool_use", name="look", input={"at": "Oslo"})).response == (
        '<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>'
    )


def test_a_cut_stream_keeps_what_had_arrived() -> None:
    found = stream(
        BEGIN,
        delta(0, type="text_delta", text="lost its start"),
        start(1, type="tool_use", id="t", name="look", input={}),
        delta(1, type="input_json_delta", partial_json='{"at": "Os'),
    )
    assert found.response == 'lost its start\n<tool_call>{"name":"look","arguments":"{\\"at\\": \\"Os"}</tool_call>'
    assert (found.finish_reason, found.completion_tokens) == (None, 1)


def test_an_error_in_the_middle_of_a_stream_is_seen() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    found = stream(BEGIN, start(0, type="text", text="A"), error)
    assert (found.response, found.error) == ("A", "Overloaded")
    assert stream(error).error == "Overloaded", "even when there is nothing else"
