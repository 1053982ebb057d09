"""What holds of any exchange: nothing is raised, calls and results belong together, and no word is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conversation import Attachment, Conversation, Lack
from proxy.wire.extract import SHAPES, CapturedExchange, converse, extract
from tests.harness.conversations import CASES, asked, shown

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*above, key)
        yield from _places(member, (*above, key))


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, Any, Any]:
    """An exchange of the tables, with some places changed to anything, or to what stands elsewhere in it."""
    _, path, request, response, _ = draw(st.sampled_from(CASES))
    bodies = [orjson.loads(orjson.dumps([request, response]))][0]
    for _ in range(draw(st.integers(0, 3))):
        if not (places := list(_places(bodies))):
            break
        *above, last = draw(st.sampled_from(places))
        target = bodies
        for key in above:
            target = target[key]
        target[last] = draw(Json | st.sampled_from([_at(bodies, place) for place in places]))
    return path, *orjson.loads(orjson.dumps(bodies))


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return orjson.loads(orjson.dumps(value))


def _sound(said: Conversation) -> None:
    """The types that the fields claim, calls that have ids, and results that are kept."""
    for turn in (*said.turns, said.answer):
        assert turn.role in ("system", "user", "assistant", "tool")
        assert isinstance(turn.content, str) or all(isinstance(piece, str | Attachment) for piece in turn.content)
        assert all(isinstance(value, str | None) for value in (turn.name, turn.call_id, turn.reasoning))
        assert all(call.id and isinstance(call.name, str) and isinstance(call.arguments, str) for call in turn.calls)
        assert turn.role == "assistant" or not turn.calls
        assert turn.role == "tool" or turn in (said.answer,) or not turn.empty
    assert said.answer.role == "assistant"
    if any(piece.part is None for turn in (*said.turns, said.answer) for piece in turn.attachments):
        assert said.lacks is not None


@given(spoilt())
def test_anything_in_the_place_of_anything_raises_nothing(exchange: tuple[str, Any, Any]) -> None:
    path, request, response = exchange
    _sound(asked(path, request, response))
    for shape in SHAPES:
        if isinstance(request, dict) and isinstance(response, dict):
            _sound(shape.converse(request, response))


@given(st.binary(max_size=64), st.binary(max_size=64), st.sampled_from([case[1] for case in CASES]))
def test_any_bytes_are_a_conversation_that_lacks_something(request: bytes, response: bytes, path: str) -> None:
    said = converse(CapturedExchange(target=path, request=request, response=response, request_type="text/plain"))
    assert said.lacks is Lack.UNREAD or request[:1] in (b"[", b"{", b" ")


def test_a_tool_whose_form_is_nested_too_deeply_is_unread() -> None:
    form = b'{"items":' * 900 + b"1" + b"}" * 900
    request = b'{"contents":"Hi","tools":[{"functionDeclarations":[{"name":"f","parameters":' + form + b"}]}]}"
    path = "/v1beta/models/m:generateContent"
    assert converse(CapturedExchange(target=path, request=request, response=b"{}")).lacks is Lack.UNREAD


def test_what_is_nested_too_deeply_is_unread() -> None:
    deep = b'{"messages":[' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"]}"
    assert converse(CapturedExchange(target="/x", request=deep, response=b"NaN" + b"[" * 90_000)).lacks is Lack.UNREAD


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<[◁"), min_size=1).filter(str.strip)


@st.composite
def talks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages of OpenAI's chat: words, parts, calls with and without ids, results in any order."""
    messages: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "calls"]))
        if role != "calls":
            words = draw(WORDS)
            content = draw(st.sampled_from([words, [{"type": "text", "text": words}, draw(WORDS)]]))
            messages.append({"role": role, "content": content})
            continue
        ids = [draw(st.sampled_from([None, f"id_{number}_{n}"])) for n in range(draw(st.integers(1, 3)))]
        calls = [{"id": name, "function": {"name": f"tool_{n}", "arguments": "{}"}} for n, name in enumerate(ids)]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        for n in draw(st.permutations(range(len(ids)))):
            messages.append({"role": "tool", "tool_call_id": ids[n], "name": f"tool_{n}", "content": f"result {n}"})
    return [*messages, {"role": "user", "content": draw(WORDS)}]


@given(talks(), WORDS)
def test_no_word_is_lost_and_every_result_answers_its_call(messages: list[dict[str, Any]], answer: str) -> None:
    said = asked("/v1/chat/completions", {"messages": messages}, {"choices": [{"message": {"content": answer}}]})
    _sound(said)
    told = [turn.text for turn in said.turns]
    for message in messages:
        content = message["content"] or []
        for words in (
            [content] if isinstance(content, str) else [p if isinstance(p, str) else p["text"] for p in content]
        ):
            assert any(words in turn for turn in told)
    assert said.answer.text == answer
    open_calls: dict[str | None, str] = {}
    for turn in said.turns:
        open_calls |= {call.id: call.name for call in turn.calls}
        if turn.role == "tool":
            name = open_calls.pop(turn.call_id)
            assert (turn.name, turn.text) == (name, f"result {name[-1]}")
    assert not open_calls


@given(talks(), st.integers(1, 6))
def test_a_history_has_the_same_ids_in_every_later_request(messages: list[dict[str, Any]], length: int) -> None:
    def ids(some: list[dict[str, Any]]) -> list[Any]:
        said = asked("/v1/chat/completions", {"messages": some}, {"choices": [{"message": {"content": "x"}}]})
        return [(turn.call_id, [call.id for call in turn.calls]) for turn in said.turns]

    whole, part = ids([*messages, {"role": "user", "content": "x"}]), ids([*messages[:length], messages[-1]])
    assert whole[: len(part) - 1] == part[:-1]


STREAMS: list[tuple[str, str, dict[str, Any], bytes, Any]] = [
    (
        "/v1/chat/completions", "text/event-stream", {"messages": [{"role": "user", "content": "Hi"}]},
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"h"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"m","content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ude42"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",'
        b'"function":{"name":"f","arguments":"{\\"a\\":"}}]}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]},'
        b'"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
        {"assistant": "🙂", "calls": ['c1 f {"a": 1}'], "thought": "hm"},
    ),
    (
        "/v1/messages", "text/event-stream", {"messages": [{"role": "user", "content": "Hi"}]},
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","content":[]}}\n\n'
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}\n\n'
        b'data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f"}}\n\n'
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n'
        b'data: {"type":"message_stop"}\n\n',
        {"assistant": "", "calls": ["t f {}"], "thought": "hm"},
    ),
    (
        "/v1/responses", "text/event-stream", {"input": "Hi"},
        b'data: {"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}\n\n'
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hello"}\n\n'
        b'data: {"type":"response.completed","response":{"id":"resp_1","output":[]}}\n\n',
        "assistant: Hello",
    ),
    (
        "/api/chat", "application/x-ndjson", {"messages": [{"role": "user", "content": "Hi"}]},
        b'{"message":{"role":"assistant","content":"<think>h"},"done":false}\n'
        b'{"message":{"role":"assistant","content":"m</think>Hello"},"done":false}\n'
        b'{"message":{"role":"assistant","content":""},"done":true}\n',
        {"assistant": "Hello", "thought": "hm"},
    ),
    (
        "/v1beta/models/m:streamGenerateContent", "application/json", {"contents": "Hi"},
        b'[{"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]},'
        b'{"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}]}]',
        "assistant: Hello",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "kind", "request_", "body", "answer"), STREAMS, ids=[s[0] for s in STREAMS])
def test_a_stream_and_what_is_kept_of_it_are_the_same_conversation(
    path: str, kind: str, request_: dict[str, Any], body: bytes, answer: Any
) -> None:
    exchange = CapturedExchange(target=path, request=json.dumps(request_).encode(), response=body, response_type=kind)
    kept = orjson.dumps(extract(exchange).reassembled)
    again = CapturedExchange(target=path, request=exchange.request, response=kept, response_type=kind)
    assert shown(converse(exchange)) == shown(converse(again)) == {"turns": ["user: Hi"], "answer": answer}


def test_strings_that_are_no_utf_8_and_numbers_that_are_no_json() -> None:
    request = b'{"messages":[{"role":"user","content":"one \\ud83d two"}],"temperature":NaN}'
    response = b'\xef\xbb\xbf{"choices":[{"message":{"content":"so"},"logprob":-Infinity}]}'
    said = converse(CapturedExchange(target="/v1/chat/completions", request=request, response=response))
    assert shown(said) == {"turns": ["user: one � two"], "answer": "assistant: so"}
