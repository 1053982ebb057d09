"""Tool calls that came as text, in the forms of many models; and texts that are none."""

from __future__ import annotations

import json

import pytest

from proxy.wire.extract import CapturedExchange, extract
from proxy.wire.extract.conversations.calltext import is_call_text, offered

NAMES = frozenset({"get_weather", "news"})
CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'

CALLS = [
    f"<tool_call>\n{CALL}\n</tool_call>",
    f"Let me look.\n\n<tool_call>{CALL}</tool_call>",
    f"Let me look: <tool_call>{CALL}</tool_call>",
    "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>",
    f"<think>hm</think>\n{CALL}",
    '<function=get_weather>{"city": "Rome"}</function>',
    "Sure. <function=get_weather><parameter=city>Rome</parameter></function>",
    f"[TOOL_CALLS] [{CALL}]",
    '[TOOL_CALLS]get_weather{"city": "Rome"}',
    f"<|python_tag|>{CALL}",
    '<|python_tag|>get_weather.call(city="Rome")',
    f"<|tool_call|>[{CALL}]",
    "<|tool_call_start|>[get_weather(city='Rome')]<|tool_call_end|>",
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather",
    '<function_calls>\n<invoke name="get_weather">',
    f"<|action_start|><|plugin|>{CALL}",
    f"functools[{CALL}]",
    f"[TOOL_REQUEST]{CALL}[END_TOOL_REQUEST]",
    "<|channel|>commentary to=functions.get_weather<|message|>{}",
    f"```tool_call\n{CALL}\n```",
    "Look: [TOOL_CALLS]news{}",
    "~~~tool_call\nnews()\n~~~",
    "I call:\n~~~tool_call\nnews()\n~~~",
    "```tool_code\nprint(get_weather(city='Rome'))\n```",
    CALL,
    f"  [{CALL}, {CALL}]",
    f"```json\n{CALL}\n```",
    '{"name": "get_weather", "parameters": {}}',
    '{"type": "function", "function": {"name": "news", "arguments": "{}"}}',
    '{"tool": "news", "tool_input": {}}',
    '[get_weather(city="Rome")]',
    'get_weather(city="Rome")',
]

WORDS = [
    "It is 21 degrees in Rome.",
    "",
    "Qwen writes `<tool_call>` before its calls.",
    'The mark is "<tool_call>{...}".',
    f"It looks so:\n\n```xml\n<tool_call>{CALL}</tool_call>\n```\n\nThat is all.",
    "A <tool_call> is what the model writes.",
    '{"name": "Rome", "arguments": 3}',
    '{"name": "get_weather"}',
    '{"city": "Rome"}',
    "[]",
    "[1, 2]",
    "{not json}",
    "[1] says so, and `x` and ~y.",
    "print(1)",
    "get_weather(city) is the tool that I would call.",
    "```python\nget_rain()\n```",
]


@pytest.mark.parametrize("text", CALLS)
def test_a_call_that_came_as_text_is_one(text: str) -> None:
    assert is_call_text(text, NAMES)


@pytest.mark.parametrize("text", WORDS)
def test_what_speaks_about_calls_is_none(text: str) -> None:
    assert not is_call_text(text, NAMES)


@pytest.mark.parametrize(
    "request_",
    [
        {"tools": [{"type": "function", "function": {"name": "get_weather"}}, {"type": "web_search"}, 3]},
        {"tools": [{"name": "get_weather", "input_schema": {}}]},
        {"functions": [{"name": "get_weather"}]},
        {"tools": [{"functionDeclarations": [{"name": "get_weather"}]}]},
        {"toolConfig": {"tools": [{"toolSpec": {"name": "get_weather"}}]}},
        {"tools": [{"type": "custom", "custom": {"name": "get_weather"}}]},
    ],
)
def test_every_api_names_its_tools(request_: dict[str, object]) -> None:
    assert offered(request_) == {"get_weather"}


def test_names_are_not_looked_for_for_ever() -> None:
    nested: object = {"name": "deep"}
    for _ in range(9):
        nested = {"tools": nested}
    assert offered({"tools": nested}) == frozenset()


TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]
NATIVE = [{"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("path", "request_", "answer", "malformed"),
    [
        ("/v1/chat/completions", {"tools": TOOLS}, {"choices": [{"message": {"content": CALL}}]}, True),
        ("/v1/chat/completions", {"tools": TOOLS}, {"choices": [{"message": {"content": "Warm."}}]}, False),
        ("/v1/chat/completions", {}, {"choices": [{"message": {"content": CALL}}]}, False),
        ("/v1/chat/completions", {"tools": []}, {"choices": [{"message": {"content": CALL}}]}, False),
        ("/v1/chat/completions", {"tools": TOOLS}, {"choices": [{"message": {"tool_calls": NATIVE}}]}, False),
        ("/v1/chat/completions", {"tools": TOOLS},
         {"choices": [{"message": {"content": CALL, "tool_calls": NATIVE}}]}, True),
        ("/v1/messages", {"tools": [{"name": "get_weather"}]},
         {"content": [{"type": "tool_use", "name": "get_weather", "input": {}}]}, False),
        ("/v1/messages", {"tools": [{"name": "get_weather"}]}, {"content": [{"type": "text", "text": CALL}]}, True),
        ("/api/chat", {"tools": TOOLS}, {"message": {"tool_calls": NATIVE}, "done": True}, False),
        ("/api/chat", {"tools": TOOLS}, {"message": {"content": CALL}, "done": True}, True),
        ("/v2/chat", {"tools": TOOLS}, {"message": {"tool_calls": NATIVE}}, False),
        ("/model/m/converse", {"toolConfig": {"tools": [{"toolSpec": {"name": "get_weather"}}]}},
         {"output": {"message": {"content": [{"toolUse": {"name": "get_weather", "input": {}}}]}}}, False),
    ],
)  # fmt: skip
def test_native_calls_which_the_text_shows_are_not_taken_for_it(
    path: str, request_: dict[str, object], answer: dict[str, object], malformed: bool
) -> None:
    messages = {"messages": [{"role": "user", "content": "Weather?"}]}
    exchange = CapturedExchange(
        target=path, request=json.dumps(messages | request_).encode(), response=json.dumps(answer).encode()
    )
    assert extract(exchange).malformed is malformed


@pytest.mark.parametrize(
    ("path", "request_", "answer"),
    [
        ("/v1/responses", {"input": "Weather?", "tools": [{"type": "function", "name": "get_weather"}]},
         {"output": [{"type": "function_call", "name": "get_weather", "arguments": "{}"},
                     {"type": "message", "content": "I look."}]}),
        ("/v1beta/models/m:generateContent",
         {"contents": "Weather?", "tools": [{"functionDeclarations": [{"name": "get_weather"}]}]},
         {"candidates": [{"content": {"parts": [{"functionCall": {"name": "get_weather"}}]}}]}),
        ("/v1/chat", {"message": "Weather?", "tools": [{"name": "get_weather"}]},
         {"text": "", "tool_calls": [{"name": "get_weather", "parameters": {}}]}),
    ],
)  # fmt: skip
def test_native_calls_of_apis_without_messages(
    path: str, request_: dict[str, object], answer: dict[str, object]
) -> None:
    exchange = CapturedExchange(
        target=path, request=json.dumps(request_).encode(), response=json.dumps(answer).encode()
    )
    found = extract(exchange)
    assert "<tool_call>" in (found.response or "")
    assert not found.malformed
