"""OpenAI's Responses API: items in, items out, and streams whole or cut."""

import json
from typing import Any

from proxy.wire.extract import CapturedExchange, Extraction, extract
from tests.harness.late import late

TYPES = late("openai.types.responses")


def call(request: Any, response: Any = None) -> Extraction:
    body = json.dumps(response).encode() if response is not None else b""
    return extract(CapturedExchange(target="/v1/responses", request=json.dumps(request).encode(), response=body,
                                    response_type="application/json"))  # fmt: skip


def stream(*events: dict[str, Any]) -> Extraction:
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return extract(
        CapturedExchange(
            target="/v1/responses",
            request=b'{"model":"m","input":"hi","stream":true}',
            response=body.encode(),
            response_type="text/event-stream; charset=utf-8",
        )
    )


def response(**more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "created_at": 7, "model": "gpt-x", "status": "in_progress",
            "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []} | more  # fmt: skip


def message(*texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def test_text_in_text_out() -> None:
    found = call(
        {"model": "m", "instructions": "Be brief.", "input": "2+2?", "safety_identifier": "u", "user": "old"},
        response(output=[{"type": "reasoning", "summary": []}, message("fo", "ur")], status="completed",
                 usage={"input_tokens": 9, "output_tokens": 2}),
    )  # fmt: skip
    assert (found.kind, found.query, found.response, found.user) == ("responses", "2+2?", "four", "u")
    assert found.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"})
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (9, 2, "completed")
    assert (found.provider_id, found.model) == ("resp_1", "gpt-x")


def test_items_of_a_conversation() -> None:
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": "x"}],
        },
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "a cat"},
        {"type": "custom_tool_call", "call_id": "d", "name": "sh", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "file"}]},
        7,
    ]
    found = call({"input": items[:-1], "text": {"format": {"type": "json_schema"}}})
    assert found.json_requested
    assert found.query == "What?\n[image]"
    assert [(turn["role"], turn["content"]) for turn in found.messages] == [
        ("user", "What?\n[image]"),
        ("assistant", '<tool_call>{"name":"look","arguments":{}}</tool_call>'),
        ("tool", "a cat"),
        ("assistant", '<tool_call>{"name":"sh","arguments":"ls"}</tool_call>'),
        ("tool", "file"),
    ]
    assert call({"input": items}).query == "What?\n[image]"


def test_a_stored_prompt_has_no_text_of_its_own() -> None:
    found = call({"prompt": {"id": "pmpt_1"}, "instructions": "Be brief."}, response(output=[message("ok")]))
    assert (found.kind, found.query, found.response) == ("responses", None, "ok")
    assert call({"previous_response_id": "resp_0", "input": "and?"}).query == "and?"


def test_incomplete_refused_and_calling() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    tool = {"type": "function_call", "name": "f", "arguments": '{"a":1}'}
    found = call({"input": "x"}, response(output=[refusal, tool], status="incomplete",
                                          incomplete_details={"reason": "max_output_tokens"}))  # fmt: skip
    assert found.refused
    assert found.finish_reason == "max_output_tokens"
    assert found.response == 'No.\n<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
    assert call({"input": "x"}, {"error": {"message": "bad"}}).response is None


def test_a_whole_stream_ends_with_the_response() -> None:
    final = response(output=[message("Hello")], status="completed", usage={"input_tokens": 1, "output_tokens": 1})
    found = stream(
        {"type": "response.created", "response": response()},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel"},
        {"type": "response.completed", "response": final},
    )
    assert found.reassembled == final
    assert (found.response, found.finish_reason, found.completion_tokens) == ("Hello", "completed", 1)


def test_a_final_response_without_output_is_filled_from_its_items() -> None:
    found = stream(
        {"type": "response.output_item.done", "output_index": 0, "item": message("Hello")},
        {"type": "response.completed", "response": response(status="completed")},
    )
    assert found.response == "Hello"


def test_a_cut_stream_keeps_what_had_arrived() -> None:
    found = stream(
        {"type": "response.created", "response": response()},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs"}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "Hm"},
        {"type": "response.output_item.added", "output_index": 1, "item": message()},
        {"type": "response.content_part.added", "output_index": 1, "content_index": 0, "part": {}},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hel"},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "lo"},
        {"type": "response.output_item.added", "output_index": 2,
         "item": {"type": "function_call", "name": "f", "call_id": "c", "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a"'},
        {"type": "response.output_text.delta", "output_index": 3, "content_index": 0, "delta": "!"},
        {"type": "response.no_index"},
    )  # fmt: skip
    assert found.response == 'Hello\n<tool_call>{"name":"f","arguments":"{\\"a\\""}</tool_call>\n!'
    assert found.reassembled is not None
    assert found.reassembled["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm"}]
    found.reassembled["output"] = found.reassembled["output"][1:3]
    found.reassembled["output"][0]["content"][0]["annotations"] = []
    assert TYPES.Response.model_validate(found.reassembled).output_text == "Hello"


def test_items_are_told_apart_by_their_ids_where_nobody_counts_them() -> None:
    found = stream(
        {"type": "response.created", "response": response()},
        {"type": "response.output_item.added", "item": {"type": "message", "id": "msg"}},
        {"type": "response.output_text.delta", "item_id": "msg", "content_index": 0, "delta": "Hel"},
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "delta": '{"a":'},
        {"type": "response.output_text.delta", "item_id": "msg", "content_index": 0, "delta": "lo"},
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "delta": "1}"},
        {"type": "response.custom_tool_call_input.delta", "item_id": "ct", "delta": {"b": 2}},
        {"type": "response.custom_tool_call_input.delta", "item_id": "ct", "delta": None},
        {"type": "response.output_text.delta", "output_index": 3.0, "delta": "!"},
    )
    assert found.response == (
        'Hello\n<tool_call>{"name":"","arguments":{"a":1}}</tool_call>\n'
        '<tool_call>{"name":"","arguments":{"b":2}}</tool_call>\n!'
    )


def test_errors_in_the_stream() -> None:
    failed = stream({"type": "response.failed", "response": response(error={"message": "boom"}, status="failed")})
    assert (failed.error, failed.finish_reason) == ("boom", "failed")
    started = {"type": "response.created", "response": response()}
    assert stream(started, {"type": "error", "code": "x", "message": "late"}).error == "late"
    assert stream(started, {"type": "error", "error": {"message": "later"}}).error == "later"
