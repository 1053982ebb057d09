"""OpenAI chat: requests and answers read, streams put together as the SDK's own types accept them."""

import json
from typing import Any

from proxy.wire.extract import CapturedExchange, Extraction, extract
from tests.harness.late import late

TYPES = late("openai.types.chat")

PATH = "/v1/chat/completions"


def chat(request: Any, response: Any = None, status: int = 200, target: str = PATH) -> Extraction:
    return extract(
        CapturedExchange(
            target=target,
            status=status,
            request=json.dumps(request).encode(),
            response=json.dumps(response).encode() if response is not None else b"",
            response_type="application/json",
        )
    )


def stream(*chunks: Any, end: str = "data: [DONE]\n\n") -> Extraction:
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    request = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    return extract(
        CapturedExchange(target=PATH, request=request, response=body.encode(), response_type="text/event-stream")
    )


def chunk(delta: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    choice |= {"logprobs": more.pop("logprobs")} if "logprobs" in more else {}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-x"}
    return head | {"choices": [choice]} | more


def whole(found: Extraction) -> Any:
    return TYPES.ChatCompletion.model_validate(found.reassembled, strict=True)


def test_a_plain_exchange() -> None:
    found = chat(
        {
            "model": "gpt-x", "user": "u1", "store": False,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
                {"role": "user", "content": "3+3?"},
            ],
        },
        {
            "id": "chatcmpl-1", "model": "gpt-x-2026", "usage": {"prompt_tokens": 20, "completion_tokens": 1},
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "6"}}],
        },
        target=PATH + "?api-version=1",
    )  # fmt: skip
    assert found == Extraction(
        kind="chat",
        query="3+3?",
        response="6",
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "3+3?"},
        ),
        model="gpt-x-2026",
        prompt_tokens=20,
        completion_tokens=1,
        finish_reason="stop",
        provider_id="chatcmpl-1",
        user="u1",
        store=False,
        first_content=1,
    )


def test_parts_of_other_media_become_placeholders() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "martian"},
        "bare",
        7,
    ]
    assert chat({"messages": [{"role": "user", "content": parts}]}).query == "What is this?\n[image]\n[audio]\nbare"


def test_tool_calls_and_results_are_part_of_the_conversation() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    legacy = {"name": "old", "arguments": '{"cut'}
    found = chat(
        {"messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}]},
        ]},
        {"choices": [{"message": {"content": "One moment.", "tool_calls": [custom], "function_call": legacy}}]},
    )  # fmt: skip
    assert found.query == "Weather?"
    assert found.messages[1:] == (
        {"role": "assistant", "content": '<tool_call>{"name":"weather","arguments":{"city":"Oslo"}}</tool_call>'},
        {"role": "tool", "content": "rain"},
    )
    assert found.response == (
        'One moment.\n<tool_call>{"name":"sql","arguments":"SELECT 1"}</tool_call>\n'
        '<tool_call>{"name":"old","arguments":"{\\"cut"}</tool_call>'
    )


def test_a_refusal_and_a_spoken_answer() -> None:
    refusal = chat({"messages": []}, {"choices": [{"message": {"content": None, "refusal": "I can't."}}]})
    assert (refusal.response, refusal.refused) == ("I can't.", True)
    spoken = chat({"messages": []}, {"choices": [{"message": {"content": None, "audio": {"transcript": "Hello"}}}]})
    assert spoken.response == "Hello"
    assert chat({"messages": []}, {"choices": []}).response is None


def test_json_may_be_asked_for_in_three_ways() -> None:
    asks = ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_schema"}},
            {"guided_json": {"type": "object"}}, {"structured_outputs": {"json": {}, "other": 1}},
            {"structured_outputs": {"json": {"type": "object"}}}, {"response_format": {"type": "text"}})  # fmt: skip
    wanted = [chat({"messages": []} | ask).json_requested for ask in asks]
    assert wanted == [True, True, True, False, True, False]


def test_a_stream_adds_up_to_a_completion() -> None:
    found = stream(
        {"id": "", "choices": [], "prompt_filter_results": [], "model": ""},
        chunk({"role": "assistant", "content": ""}, service_tier="default"),
        chunk({"content": "Hel"}, logprobs={"content": [{"token": "Hel", "logprob": -1.0, "top_logprobs": []}]}),
        chunk({"content": "lo"}, obfuscation="xyz", logprobs={"content": [], "refusal": None}),
        chunk({"content": "Ho"}, index=1),
        chunk({}, finish_reason="stop"),
        chunk({}, index=1, finish_reason="length"),
        {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}},
    )
    assert (found.response, found.finish_reason, found.streamed) == ("Hello", "stop", True)
    assert (found.prompt_tokens, found.completion_tokens) == (5, 2)
    assert found.reassembled is not None
    assert "obfuscation" not in found.reassembled
    completion = whole(found)
    assert [choice.message.content for choice in completion.choices] == ["Hello", "Ho"]
    assert completion.choices[0].logprobs is not None
    assert completion.choices[0].logprobs.content is not None
    assert completion.choices[0].logprobs.content[0].token == "Hel"


def test_streamed_tool_calls_are_joined_by_index() -> None:
    found = stream(
        chunk(
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        chunk({}, finish_reason="tool_calls"),
    )
    calls = whole(found).choices[0].message.tool_calls
    assert calls is not None
    assert [call.to_dict() for call in calls] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert found.response == (
        '<tool_call>{"name":"f","arguments":{"x":1}}</tool_call>\n<tool_call>{"name":"g","arguments":{}}</tool_call>'
    )


def test_tool_calls_without_an_index_go_by_position() -> None:
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "g"}}]
    message = whole(stream(chunk({"tool_calls": calls}, finish_reason="tool_calls"))).choices[0].message
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls] == ["a", "b"]


def test_other_deltas_are_kept() -> None:
    found = stream(
        chunk({"role": "assistant", "reasoning_content": "Let me "}),
        chunk({"reasoning_content": "think.", "annotations": [{"type": "a"}], "extra": None, "flag": 1}),
        chunk({"function_call": {"name": "f", "arguments": "{"}, "annotations": [{"type": "b"}]}),
        chunk({"function_call": {"arguments": "}"}, "audio": {"id": "x", "data": "AA", "expires_at": 1}}),
        chunk({"refusal": "No", "audio": {"id": "x", "data": "BB", "transcript": "hm"}}),
    )
    assert found.reassembled is not None
    assert found.reassembled["choices"][0]["message"] == {
        "role": "assistant", "content": None, "reasoning_content": "Let me think.", "flag": 1,
        "annotations": [{"type": "a"}, {"type": "b"}], "function_call": {"name": "f", "arguments": "{}"},
        "audio": {"id": "x", "data": "AABB", "expires_at": 1, "transcript": "hm"}, "refusal": "No",
    }  # fmt: skip
    assert found.refused


def content(*deltas: Any) -> Any:
    found = stream(*(chunk({"content": one}) for one in deltas))
    assert found.reassembled is not None
    return found.reassembled["choices"][0]["message"]["content"]


def part(piece: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": piece} | more


def test_contents_in_lists_and_texts_are_one_text() -> None:
    for deltas in ([[part("Fort")], "y-two"], ["Fort", [part("y-two")]], [[part("Fort"), part("y-")], None, "two"],
                   [["Fort", "y-two"], ""]):  # fmt: skip
        assert content(*deltas) == "Forty-two"
    thought = {"type": "thinking", "thinking": [part("H")]}
    more = {"type": "thinking", "thinking": [part("m", index=1), {"type": "reference", "ids": [1]}], "closed": None}
    assert content([thought], [thought | {"signature": "s"}], "Forty", "-two") == [
        {"type": "thinking", "thinking": [part("HH")], "signature": "s"}, part("Forty-two"),
    ]  # fmt: skip
    assert content([thought], [more], [7]) == [
        {"type": "thinking", "thinking": [part("H"), part("m", index=1), {"type": "reference", "ids": [1]}],
         "closed": None}, 7,
    ]  # fmt: skip
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    assert content([picture], [picture], [part("a", index=0)], [part("b", index=1)]) == [
        picture, picture, part("a", index=0), part("b", index=1),
    ]  # fmt: skip


def test_a_content_may_be_a_list_though_it_has_no_text_yet() -> None:
    found = stream(chunk({"content": [part("Fort")]}), chunk({"content": "y-two"}, finish_reason="stop"))
    assert (found.response, whole(found).choices[0].message.content) == ("Forty-two", "Forty-two")


def test_places_kept_by_null_are_no_calls() -> None:
    empty = {"function_call": None, "tool_calls": None, "refusal": None}
    found = stream(chunk({"role": "assistant", "content": "Rome"} | empty), chunk({"function_call": {}} | empty),
                   chunk({"function_call": {"name": None, "arguments": None}}, finish_reason="stop"))  # fmt: skip
    assert found.response == "Rome"
    assert not whole(found).choices[0].message.tool_calls
    assert whole(found).choices[0].message.function_call is None


def test_choices_without_an_index_go_by_position() -> None:
    two = {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}
    found = stream(two, two)
    assert found.reassembled is not None
    assert [choice["message"]["content"] for choice in found.reassembled["choices"]] == ["aa", "bb"]


def test_an_error_in_the_middle_of_a_stream_is_seen() -> None:
    found = stream(chunk({"content": "He"}), {"error": {"message": "out of memory", "code": 500}}, end="")
    assert (found.response, found.error, found.finish_reason) == ("He", "out of memory", None)


def test_a_stream_cut_in_the_middle_of_an_event_keeps_what_came() -> None:
    found = stream(chunk({"content": "Hello"}), end='data: {"choices":[{"delta":{"cont')
    assert (found.response, found.kind) == ("Hello", "chat")


def test_a_request_cut_by_the_capture_limit_still_has_an_answer() -> None:
    exchange = CapturedExchange(
        target=PATH, request=b'{"model":"m","messages":[{"role":"us', response_type="application/json",
        response=b'{"choices":[{"message":{"content":"6"}}],"usage":{"completion_tokens":1}}',
    )  # fmt: skip
    found = extract(exchange)
    assert (found.kind, found.query, found.response, found.completion_tokens) == ("chat", None, "6", 1)


def test_an_error_is_no_answer() -> None:
    found = chat({"messages": [{"role": "user", "content": "hi"}]}, {"error": {"message": "slow down"}}, status=429)
    assert (found.kind, found.query, found.response, found.error) == ("chat", "hi", None, "slow down")
