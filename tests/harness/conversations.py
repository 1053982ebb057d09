"""Exchanges of every API in its own words, and the conversations that they are; for tables and for properties."""

from __future__ import annotations

from typing import Any

import orjson

from policies.conversation import Attachment, Conversation, Turn
from proxy.wire.extract import CapturedExchange, converse

__all__ = ["CASES", "asked", "shown", "turn_of"]

Case = tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]
"""Name, path, request, response, and what `shown` makes of the conversation."""

PNG = "iVBORw0KGgo="
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}
ROME, OSLO = '{"city":"Rome"}', '{"city":"Oslo"}'


def asked(path: str, request: Any, response: Any) -> Conversation:
    """The conversation of an exchange at that path."""
    bodies = {"request": orjson.dumps(request), "response": orjson.dumps(response)}
    return converse(CapturedExchange(target=path, request_type="application/json", **bodies))


def turn_of(turn: Turn) -> Any:
    """A turn as `role: words` where that is all, else with what else it has."""
    content = turn.content
    if not isinstance(content, str):
        content = [p.part or p.medium if isinstance(p, Attachment) else p for p in content]  # type: ignore[assignment]
    calls = [f"{call.id} {call.name} {call.arguments}{' custom' if call.custom else ''}" for call in turn.calls]
    more = {"calls": calls, "of": turn.call_id, "name": turn.name, "thought": turn.reasoning}
    if not turn.taught:
        more["taught"] = False
    told = {key: value for key, value in more.items() if value is not None and value != []}
    return {turn.role: content} | told if told or not isinstance(content, str) else f"{turn.role}: {content}"


def shown(said: Conversation) -> dict[str, Any]:
    """A conversation as the cases write it."""
    more = {"tools": list(said.tools), "lacks": said.lacks and said.lacks.value, "after": said.goes_on_from}
    return {"turns": [turn_of(turn) for turn in said.turns], "answer": turn_of(said.answer)} | {
        key: value for key, value in more.items() if value
    }


def _chat(message: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-12345678", "choices": [{"index": 0, "message": {"role": "assistant"} | message}]}


def _call(name: str, arguments: Any, given: str | None = None) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if given is None else call | {"id": given}


CHAT: list[Case] = [
    (
        "plain, developer, empty turns, names", "/v1/chat/completions",
        {"messages": [
            {"role": "developer", "content": "Be brief."}, {"role": "system", "content": "In French."},
            {"role": "user", "content": "", "name": "al"}, {"role": "user", "content": "Hello", "name": "al"},
            {"role": "assistant", "content": "  "}, {"role": "user", "content": [{"type": "text", "text": "Rome?"}]},
        ]},
        _chat({"content": "Oui."}),
        {"turns": ["system: Be brief.", "system: In French.", {"user": "Hello", "name": "al"}, "user: Rome?"],
         "answer": "assistant: Oui."},
    ),
    (
        "calls, results, tools", "/v1/chat/completions",
        {"messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [_call("weather", ROME, "c1"),
                                                                 _call("weather", {"city": "Oslo"}, "c2")]},
            {"role": "tool", "tool_call_id": "c2", "content": "cold"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "warm"}]},
            {"role": "tool", "content": {"temp": 21}},
        ], "tools": [WEATHER, {"type": "web_search"}]},
        _chat({"content": "Let me look.", "tool_calls": [_call("weather", "", "c3")]}),
        {"turns": ["user: Weather?", {"assistant": "", "calls": [f"c1 weather {ROME}", f"c2 weather {OSLO}"]},
                   {"tool": "cold", "of": "c2", "name": "weather"}, {"tool": "warm", "of": "c1", "name": "weather"},
                   'tool: {"temp":21}'],
         "answer": {"assistant": "Let me look.", "calls": ["c3 weather {}"]}, "tools": [WEATHER]},
    ),
    (
        "legacy functions", "/v1/chat/completions",
        {"messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ROME}},
            {"role": "function", "name": "weather", "content": ""},
        ], "functions": [WEATHER["function"]]},
        _chat({"content": None, "function_call": {"name": "weather", "arguments": OSLO}}),
        {"turns": ["user: Weather?", {"assistant": "", "calls": [f"call_1 weather {ROME}"]},
                   {"tool": "", "of": "call_1", "name": "weather"}],
         "answer": {"assistant": "", "calls": [f"call_2 weather {OSLO}"]}, "tools": [WEATHER]},
    ),
    (
        "custom tools, a flat tool, ids that are taken", "/v1/chat/completions",
        {"messages": [
            {"role": "user", "content": "Query"},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "custom",
                                                 "custom": {"name": "sql", "input": "select 1"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        ], "tools": [{"type": "custom", "custom": {"name": "sql"}}, {"name": "flat", "parameters": SCHEMA}]},
        _chat({"content": None, "tool_calls": [{"type": "custom", "custom": {"name": "sql", "input": {"a": 1}}}]}),
        {"turns": ["user: Query", {"assistant": "", "calls": ["call_1 sql select 1 custom"]},
                   {"tool": "1", "of": "call_1", "name": "sql"}],
         "answer": {"assistant": "", "calls": ['call_2 sql {"a":1} custom']},
         "tools": [{"type": "custom", "custom": {"name": "sql"}},
                   {"type": "function", "function": {"name": "flat", "parameters": SCHEMA}}]},
    ),
    (
        "media", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [
            "What?", {"type": "text", "text": ""}, PICTURE | {"cache_control": {}},
            {"type": "image_url", "image_url": "https://x.org/a.png"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            {"type": "file", "file": {"file_data": "AAAA"}},
            {"type": "video_url", "video_url": {"url": "https://x.org/a.mp4"}},
        ]}]},
        _chat({"content": "A cat."}),
        {"turns": [{"user": ["What?", PICTURE, {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
                             {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                             {"type": "file", "file": {"filename": "a.pdf",
                                                       "file_data": "data:application/pdf;base64,AAAA"}},
                             {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
                             {"type": "video_url", "video_url": {"url": "https://x.org/a.mp4"}}]}],
         "answer": "assistant: A cat."},
    ),
    (
        "a file that only the provider has", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        _chat({"content": "A contract."}),
        {"turns": [{"user": ["file"]}], "answer": "assistant: A contract.", "lacks": "multimodal"},
    ),
    (
        "media that redaction cut into, or nobody sent", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA[redacted]"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "gs://mine/a.png"}},
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            {"type": "audio_url", "audio_url": {"url": "s3://mine"}}, {"type": "document"},
        ]}]},
        _chat({"content": "?"}),
        {"turns": [{"user": ["image", "image", "image", "audio", "audio", "file"]}], "answer": "assistant: ?",
         "lacks": "multimodal"},
    ),
    (
        "reasoning in its fields", "/v1/chat/completions",
        {"messages": [
            {"role": "user", "content": "17*23?"},
            {"role": "assistant", "content": "391", "reasoning": "sum"}, {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                                              {"type": "text", "text": "Yes"}]},
            {"role": "user", "content": "Really?"},
            {"role": "assistant", "content": "Yes.", "reasoning_details": [
                {"type": "reasoning.text", "text": "a"}, {"type": "reasoning.summary", "summary": "b"},
                {"type": "reasoning.encrypted", "data": "x"}]},
            {"role": "user", "content": "Once more?"},
        ]},
        _chat({"content": "391", "reasoning_content": "17*23 = 391", "reasoning": "17*23 = 391"}),
        {"turns": ["user: 17*23?", {"assistant": "391", "thought": "sum"}, "user: Sure?",
                   {"assistant": "Yes", "thought": "hm"}, "user: Really?", {"assistant": "Yes.", "thought": "ab"},
                   "user: Once more?"],
         "answer": {"assistant": "391", "thought": "17*23 = 391"}},
    ),
    (
        "inline thoughts, and an answer of them alone", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>two</think>\n\n2"},
                      {"role": "user", "content": "2+2?"}]},
        _chat({"content": "<think>\nfour"}),
        {"turns": ["user: 1+1?", {"assistant": "2", "thought": "two"}, "user: 2+2?"],
         "answer": {"assistant": "", "thought": "four"}},
    ),
    (
        "prefill", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Haiku"}, {"role": "assistant", "content": "Here is the haiku:"}]},
        _chat({"content": " Waves fold into foam"}),
        {"turns": ["user: Haiku"], "answer": "assistant: Here is the haiku: Waves fold into foam"},
    ),
    (
        "prefill that is repeated", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Haiku"}, {"role": "assistant", "content": "Here: "}]},
        _chat({"content": "Here: Waves"}),
        {"turns": ["user: Haiku"], "answer": "assistant: Here: Waves"},
    ),
    (
        "prefill of a bracket, gone on from", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Lists"}, {"role": "assistant", "content": "["}]},
        _chat({"content": "[1], [2]]"}),
        {"turns": ["user: Lists"], "answer": "assistant: [[1], [2]]"},
    ),
    (
        "prefill of a bracket, repeated", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "A list"}, {"role": "assistant", "content": "["}]},
        _chat({"content": "[1, 2]"}),
        {"turns": ["user: A list"], "answer": "assistant: [1, 2]"},
    ),
    (
        "prefill of a thought", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>\n"}]},
        _chat({"content": "easy</think>2"}),
        {"turns": ["user: 1+1?"], "answer": {"assistant": "2", "thought": "easy"}},
    ),
    (
        "prefill with a picture, and an empty answer to one", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Draw"},
                      {"role": "assistant", "content": [{"type": "text", "text": "So: "}, PICTURE],
                       "reasoning": "a"}]},
        _chat({"content": "done", "reasoning": "b"}),
        {"turns": ["user: Draw"], "answer": {"assistant": ["So: ", PICTURE, "done"], "thought": "a\n\nb"}},
    ),
    (
        "nothing was added to a prefill", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Draw"}, {"role": "assistant", "content": "So:"}]},
        _chat({"content": ""}),
        {"turns": ["user: Draw", "assistant: So:"], "answer": "assistant: "},
    ),
    (
        "refusal, voice, drawing", "/v1/chat/completions",
        {"messages": [
            {"role": "user", "content": "Sing"}, {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "user", "content": "Draw"},
            {"role": "assistant", "content": [PICTURE], "refusal": "No more."},
            {"role": "user", "content": "Speak"},
        ]},
        _chat({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "La la"}, "images": [PICTURE, 5]}),
        {"turns": ["user: Sing", "assistant: No.", "user: Draw", {"assistant": [PICTURE, "No more."]}, "user: Speak"],
         "answer": {"assistant": ["La la", "audio", PICTURE]}, "lacks": "multimodal"},
    ),
    (
        "voice beside words", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Speak"}, {"role": "assistant", "audio": {"id": "a"}},
                      {"role": "user", "content": "Again"}]},
        _chat({"content": "La", "audio": {"transcript": "La la"}}),
        {"turns": ["user: Speak", {"assistant": ["audio"]}, "user: Again"], "answer": {"assistant": ["La", "audio"]},
         "lacks": "multimodal"},
    ),
    (
        "the first choice counts", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]},
        {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
        {"turns": ["user: Hi"], "answer": "assistant: a"},
    ),
    (
        "searched by the server", "/v1/chat/completions", {"messages": [{"role": "user", "content": "News?"}]},
        _chat({"content": "Rain.", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x"}}]}),
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "context_elsewhere"},
    ),
    (
        "found by the server", "/v1/chat/completions", {"messages": [{"role": "user", "content": "News?"}]},
        _chat({"content": "Rain."}) | {"citations": ["https://x"]},
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "context_elsewhere"},
    ),
    (
        "data on the server", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "News?"}], "data_sources": [{"type": "azure_search"}]},
        _chat({"content": "Rain."}),
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "context_elsewhere"},
    ),
    (
        "documents beside the messages", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "News?"}], "documents": [{"text": "Rain"}]},
        _chat({"content": "Rain."}),
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "not_in_format"},
    ),
    (
        "messages and parts that nobody knows", "/v1/chat/completions",
        {"messages": [7, {"role": "critic", "content": "Bad."}, {"role": "Human", "content": "Hi"},
                      {"content": [{"type": "hologram"}, {"type": "quote", "text": "Yo"}, 3]}]},
        _chat({"content": "Hello"}),
        {"turns": ["user: Bad.", "user: Hi", "user: Yo"], "answer": "assistant: Hello", "lacks": "unread"},
    ),
    (
        "calls of a user", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi", "tool_calls": [_call("weather", ROME, "c1")]}]},
        _chat({"content": "Hello"}),
        {"turns": ["user: Hi"], "answer": "assistant: Hello", "lacks": "unread"},
    ),
    (
        "a call as text where tools were offered, now and before", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Weather?"},
                      {"role": "assistant", "content": "<tool_call>\n{}\n</tool_call>"},
                      {"role": "user", "content": "What?"}], "tools": [WEATHER]},
        _chat({"content": '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'}),
        {"turns": ["user: Weather?", {"assistant": "<tool_call>\n{}\n</tool_call>", "taught": False}, "user: What?"],
         "answer": 'assistant: <tool_call>{"name": "weather", "arguments": {}}</tool_call>', "tools": [WEATHER],
         "lacks": "malformed"},
    ),
    (
        "arguments that are no JSON object", "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Weather?"}], "tools": [WEATHER]},
        _chat({"content": None, "tool_calls": [_call("weather", '{"city": "Ro', "c1")]}),
        {"turns": ["user: Weather?"], "answer": {"assistant": "", "calls": ['c1 weather {"city": "Ro']},
         "tools": [WEATHER], "lacks": "malformed"},
    ),
]  # fmt: skip

RESPONSES: list[Case] = [
    (
        "a text", "/v1/responses", {"instructions": "Be brief.", "input": "Rome?"},
        {"id": "resp_12345678", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Yes"},
                                                                          {"type": "output_text", "text": "."}]}]},
        {"turns": ["system: Be brief.", "user: Rome?"], "answer": "assistant: Yes."},
    ),
    (
        "items", "/v1/responses",
        {"input": [
            {"role": "developer", "content": "Be brief."}, {"role": "user", "content": [
                {"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": "https://x.org/a.png",
                                                          "detail": "low"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "look"}], "content": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": ROME},
            {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "select 1"},
            {"type": "function_call_output", "call_id": "c1", "output": "warm"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "1"}]},
            {"type": "mcp_list_tools", "tools": []}, {"role": "tool", "tool_call_id": "c9", "content": "late"},
            "And so?",
        ], "tools": [
            {"type": "function", "name": "weather", "description": "of a city", "parameters": SCHEMA, "strict": None},
            {"type": "custom", "name": "sql", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            {"type": "custom", "name": "free", "format": {"type": "text"}}, {"type": "web_search"},
            {"type": "custom", "name": "bare"}, {"type": "namespace", "name": "n", "tools": [WEATHER]},
        ]},
        {"output": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "One."}]},
                    {"type": "function_call", "id": "fc_1", "name": "weather", "arguments": {"city": "Oslo"}},
                    {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]},
        {"turns": ["system: Be brief.",
                   {"user": ["What?", {"type": "image_url", "image_url": {"url": "https://x.org/a.png",
                                                                          "detail": "low"}}]},
                   {"assistant": "Let me see.", "calls": [f"c1 weather {ROME}", "c2 sql select 1 custom"],
                    "thought": "look"},
                   {"tool": "warm", "of": "c1", "name": "weather"}, {"tool": "1", "of": "c2", "name": "sql"},
                   {"tool": "late", "of": "c9"}, "user: And so?"],
         "answer": {"assistant": "One.\nNo.", "calls": [f"fc_1 weather {OSLO}"], "thought": "hm"},
         "tools": [WEATHER,
                   {"type": "custom", "custom": {"name": "sql", "format": {
                       "type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}}},
                   {"type": "custom", "custom": {"name": "free", "format": {"type": "text"}}},
                   {"type": "custom", "custom": {"name": "bare"}}, WEATHER]},
    ),
    (
        "goes on", "/v1/responses", {"previous_response_id": "resp_0", "input": "And?"},
        {"output": [{"type": "message", "content": "Blue."}]},
        {"turns": ["user: And?"], "answer": "assistant: Blue.", "after": "resp_0"},
    ),
    *((f"elsewhere: {next(iter(more))}", "/v1/responses", {"input": "And?"} | more,
       {"output": [{"type": "message", "content": "Blue."}]},
       {"turns": ["user: And?"], "answer": "assistant: Blue.", "lacks": "context_elsewhere"})
      for more in ({"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}}, {"prompt": {"id": "pmpt_1"}})),
    *((f"elsewhere: {item}", "/v1/responses", {"input": [{"role": "user", "content": "And?"}, item]},
       {"output": [{"type": "message", "content": "Blue."}]},
       {"turns": ["user: And?"], "answer": "assistant: Blue.", "lacks": "context_elsewhere"})
      for item in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}, {"type": "compaction"},
                   {"type": "web_search_call", "status": "completed"}, {"type": "local_shell_call_output"})),
    (
        "searched by the server", "/v1/responses", {"input": "News?", "tools": [{"type": "web_search"}]},
        {"output": [{"type": "web_search_call"}, {"type": "message", "content": "Rain."}]},
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "context_elsewhere"},
    ),
    (
        "items that nobody knows", "/v1/responses",
        {"input": [{"type": "hologram", "text": "Yo"}, 7, {"role": "user", "content": "Hi"}]},
        {"output": [{"type": "message", "content": [PICTURE]}, {"type": "message", "content": "Hello"}]},
        {"turns": ["user: Yo", "user: Hi"], "answer": {"assistant": [PICTURE, "Hello"]}, "lacks": "unread"},
    ),
    (
        "a file that only the provider has", "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"},
                                                {"type": "input_file", "file_url": "https://x.org/a.pdf"},
                                                {"type": "input_image", "file_id": "file-2"}]}]},
        {"output": [{"type": "message", "content": "Blue."}]},
        {"turns": [{"user": ["file", {"type": "file", "file": {"file_data": "https://x.org/a.pdf"}}, "image"]}],
         "answer": "assistant: Blue.", "lacks": "multimodal"},
    ),
]  # fmt: skip

MESSAGES: list[Case] = [
    (
        "blocks", "/v1/messages",
        {"system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "In French."}], "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "look", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "warm"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [
                    {"type": "text", "text": "cold"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
                {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}}]},
        ], "tools": [{"name": "weather", "description": "of a city", "input_schema": SCHEMA},
                     {"type": "bash_20250124", "name": "bash"},
                     {"type": "web_search_20250305", "name": "web_search"}]},
        {"id": "msg_1", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Go "},
                                    {"type": "text", "text": "out."},
                                    {"type": "tool_use", "id": "t3", "name": "bash", "input": {}}]},
        {"turns": ["system: Be brief.\nIn French.", "user: Weather?",
                   {"assistant": "Let me see.", "calls": [f"t1 weather {ROME}", f"t2 weather {OSLO}"],
                    "thought": "look"},
                   {"tool": "warm", "of": "t1", "name": "weather"},
                   {"tool": ["cold", PICTURE], "of": "t2", "name": "weather"}, "user: And now?"],
         "answer": {"assistant": "Go out.", "calls": ["t3 bash {}"], "thought": "hm"},
         "tools": [WEATHER, {"type": "function", "function": {"name": "bash"}}]},
    ),
    (
        "pictures and documents", "/v1/messages",
        {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
            {"type": "document", "title": "a.pdf", "context": "Ours",
             "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words"}},
            {"type": "document", "title": "T", "source": {"type": "content", "content": [
                {"type": "text", "text": "inner"}]}},
            {"type": "document", "source": {"type": "content", "content": "alone"}},
            {"type": "search_result", "title": "F", "source": "https://x",
             "content": [{"type": "text", "text": "found"}]},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}}]}]},
        {"content": "A cat."},
        {"turns": [{"user": [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, "a.pdf", "Ours",
                             {"type": "file", "file": {"filename": "a.pdf",
                                                       "file_data": "data:application/pdf;base64,AAAA"}},
                             "Words", "T", "inner", "alone", "F", "https://x", "found", "image"]}],
         "answer": "assistant: A cat.", "lacks": "multimodal"},
    ),
    (
        "prefill", "/v1/messages",
        {"messages": [{"role": "user", "content": "Haiku"}, {"role": "assistant", "content": [
            {"type": "text", "text": "Here:"}]}]},
        {"content": [{"type": "text", "text": " Waves"}]},
        {"turns": ["user: Haiku"], "answer": "assistant: Here: Waves"},
    ),
    (
        "run by the server", "/v1/messages", {"messages": [{"role": "user", "content": "News?"}]},
        {"content": [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                     {"type": "web_search_tool_result", "content": []}, {"type": "text", "text": "Rain."}]},
        {"turns": ["user: News?"], "answer": "assistant: Rain.", "lacks": "context_elsewhere"},
    ),
    (
        "odd messages", "/v1/messages",
        {"messages": [None, {"role": "tool", "content": [{"type": "text", "text": "Hm"},
                                                         {"type": "document", "source": {"type": "text"}}]},
                      {"role": "user", "content": None}]},
        {"content": [{"type": "tool_result"}, {"type": "text", "text": "Yes"}]},
        {"turns": ["user: Hm"], "answer": "assistant: Yes", "lacks": "unread"},
    ),
]  # fmt: skip

OLLAMA: list[Case] = [
    (
        "chat", "/api/chat",
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?", "images": [PNG, "/9j/AA"]},
            {"role": "assistant", "content": "", "thinking": "look",
             "tool_calls": [_call("weather", {"city": "Rome"}), _call("news", {})]},
            {"role": "tool", "content": "none", "tool_name": "news"}, {"role": "tool", "content": "warm"},
            {"role": "user", "content": "So?"},
        ], "tools": [WEATHER]},
        {"message": {"role": "assistant", "content": "Go.", "thinking": "hm",
                     "tool_calls": [_call("weather", {"city": "Oslo"})]}, "done": True},
        {"turns": ["system: Be brief.",
                   {"user": ["What?", PICTURE, {"type": "image_url", "image_url": {
                       "url": "data:image/jpeg;base64,/9j/AA"}}]},
                   {"assistant": "", "calls": [f"call_1 weather {ROME}", "call_2 news {}"], "thought": "look"},
                   {"tool": "none", "of": "call_2", "name": "news"},
                   {"tool": "warm", "of": "call_1", "name": "weather"}, "user: So?"],
         "answer": {"assistant": "Go.", "calls": [f"call_3 weather {OSLO}"], "thought": "hm"}, "tools": [WEATHER]},
    ),
    (
        "a result that names no tool of the calls", "/api/chat",
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [_call("news", {})]},
                      {"role": "tool", "content": "x", "tool_name": "other"}, 5, {"role": "user", "content": "So?"}]},
        {"message": {"content": "Go."}},
        {"turns": [{"assistant": "", "calls": ["call_1 news {}"]}, {"tool": "x", "name": "other"}, "user: So?"],
         "answer": "assistant: Go.", "lacks": "unread"},
    ),
    (
        "generate", "/api/generate",
        {"prompt": "What?", "system": "Be brief.", "images": [f"data:image/png;base64,{PNG}", None]},
        {"response": "A cat.", "thinking": "hm", "done": True},
        {"turns": ["system: Be brief.", {"user": ["What?", PICTURE, "image"]}],
         "answer": {"assistant": "A cat.", "thought": "hm"}, "lacks": "multimodal"},
    ),
    (
        "generate goes on", "/api/generate", {"prompt": "And?", "context": [1, 2]}, {"response": "Yes", "done": True},
        {"turns": ["user: And?"], "answer": "assistant: Yes", "lacks": "context_elsewhere"},
    ),
    (
        "pictures alone, and a gap", "/api/generate", {"prompt": "", "images": [PNG], "suffix": "}"},
        {"response": "Yes", "images": ["R0lGOD"]},
        {"turns": [{"user": [PICTURE]}], "answer": {"assistant": [
            "Yes", {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGOD"}}]},
         "lacks": "not_in_format"},
    ),
    (
        "parts beside pictures", "/api/chat",
        {"messages": [{"role": "user", "content": [PICTURE], "images": [PNG]}]}, {"message": {"content": "Two."}},
        {"turns": [{"user": [PICTURE, PICTURE]}], "answer": "assistant: Two."},
    ),
]  # fmt: skip

GEMINI_URL = "/v1beta/models/m:generateContent"
GEMINI: list[Case] = [
    (
        "contents", GEMINI_URL,
        {"systemInstruction": {"parts": [{"text": "Be brief."}, "In French."]}, "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
            {"role": "model", "parts": [{"text": "look", "thought": True}, {"thoughtSignature": "x"},
                                        {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
                                        {"function_call": {"name": "news"}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "news", "response": {"output": "none"}}},
                {"functionResponse": {"name": "weather", "response": {"t": 21}, "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": PNG}}, {}]}}, {"text": "And now?"}]},
            {"role": "function", "parts": [{"text": "Hm"}]},
        ], "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "of a city",
             "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}},
            {"name": "news", "parametersJsonSchema": {"type": "object"}}]}, {"googleSearch": {}}]},
        {"candidates": [{"index": 1, "content": {"parts": [{"text": "x"}]}},
                        {"index": 0, "content": {"role": "model", "parts": [
                            {"text": "hm", "thought": True}, {"text": "Go "}, {"text": "out."},
                            {"functionCall": {"id": "f1", "name": "news", "args": {}}}]}}]},
        {"turns": ["system: Be brief.\nIn French.", {"user": ["Weather?", PICTURE]},
                   {"assistant": "", "calls": [f"call_1 weather {ROME}", "call_2 news {}"], "thought": "look"},
                   {"tool": '{"output":"none"}', "of": "call_2", "name": "news"},
                   {"tool": ['{"t":21}', PICTURE], "of": "call_1", "name": "weather"}, "user: And now?", "user: Hm"],
         "answer": {"assistant": "Go out.", "calls": ["f1 news {}"], "thought": "hm"},
         "tools": [WEATHER, {"type": "function", "function": {"name": "news", "parameters": {"type": "object"}}}]},
    ),
    (
        "media", GEMINI_URL,
        {"contents": {"parts": [
            {"inline_data": {"mime_type": "audio/mpeg", "data": "AAAA"}},
            {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
            {"inlineData": {"mimeType": "video/mp4"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/a.png"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://x"}},
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1"}}]}},
        {"candidates": [{"content": {"parts": {"text": "A cat."}}}]},
        {"turns": [{"user": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                             {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
                             {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, "video",
                             {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, "video", "file"]}],
         "answer": "assistant: A cat.", "lacks": "multimodal"},
    ),
    (
        "a text, a cache", GEMINI_URL, {"contents": "Hi", "cachedContent": "cachedContents/1"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}}]},
        {"turns": ["user: Hi"], "answer": "assistant: Hello", "lacks": "context_elsewhere"},
    ),
    *(("run by the server", GEMINI_URL, {"contents": [{"text": "Hi"}]}, {"candidates": [candidate]},
       {"turns": ["user: Hi"], "answer": "assistant: Hello", "lacks": "context_elsewhere"})
      for candidate in (
          {"content": {"parts": [{"executableCode": {"code": "1"}}, {"text": "Hello"}]}},
          {"content": {"parts": [{"text": "Hello"}]}, "groundingMetadata": {"webSearchQueries": ["x"]}},
      )),
    (
        "parts that nobody knows", GEMINI_URL, {"contents": [{"parts": [{"hologram": 1}, None, {"text": "Hi"}]}]},
        {"candidates": [{"content": {"role": "model"}}]},
        {"turns": ["user: Hi"], "answer": "assistant: ", "lacks": "unread"},
    ),
]  # fmt: skip

CONVERSE = "/model/m/converse"
BEDROCK: list[Case] = [
    (
        "blocks", CONVERSE,
        {"system": [{"text": "Be brief."}], "messages": [
            {"role": "user", "content": [{"text": "Weather?"}, {"cachePoint": {"type": "default"}},
                                         {"image": {"format": "png", "source": {"bytes": PNG}}}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "look"}}},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Rome"}}}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"json": {"t": 21}}, {"text": "warm"}]}},
                {"text": "And now?"}]},
        ], "toolConfig": {"tools": [{"toolSpec": {"name": "weather", "description": "of a city",
                                                  "inputSchema": {"json": SCHEMA}}}, {"cachePoint": {}}]}},
        {"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "Go "}, {"text": "out."},
            {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {"city": "Oslo"}}}]}}},
        {"turns": ["system: Be brief.", {"user": ["Weather?", PICTURE]},
                   {"assistant": "", "calls": [f"t1 weather {ROME}"], "thought": "look"},
                   {"tool": '{"t":21}\nwarm', "of": "t1", "name": "weather"}, "user: And now?"],
         "answer": {"assistant": "Go out.", "calls": [f"t2 weather {OSLO}"], "thought": "hm"}, "tools": [WEATHER]},
    ),
    (
        "media and other blocks", CONVERSE,
        {"messages": [{"role": "user", "content": [
            {"document": {"format": "pdf", "name": "a", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "txt", "name": "b", "source": {"text": "words"}}},
            {"document": {"format": "txt", "name": "c", "source": {"content": [{"text": "inner"}]}}},
            {"guardContent": {"text": {"text": "guarded"}}},
            {"citationsContent": {"content": [{"text": "cited"}, {}]}},
            {"searchResult": {"title": "T", "source": "S", "content": [{"text": "found"}]}},
            {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "pdf", "source": {"bytes": "AAAA"}}},
            {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://x"}}}}]}]},
        {"output": {"message": {"content": [{"text": "A cat."}]}}},
        {"turns": [{"user": [{"type": "file", "file": {"filename": "a.pdf",
                                                       "file_data": "data:application/pdf;base64,AAAA"}},
                             "b", "words", "c", "inner", "guarded", "cited", "T", "S", "found",
                             {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                             {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, "video"]}],
         "answer": "assistant: A cat.", "lacks": "multimodal"},
    ),
    (
        "run by the server", CONVERSE, {"messages": [{"role": "user", "content": "News?"}]},
        {"output": {"message": {"content": [
            {"toolUse": {"toolUseId": "s", "name": "search", "input": {}, "type": "server_tool_use"}}]}}},
        {"turns": ["user: News?"], "answer": {"assistant": "", "calls": ["s search {}"]},
         "lacks": "context_elsewhere"},
    ),
    (
        "odd messages", CONVERSE,
        {"messages": [3, {"role": "tool", "content": [{"text": "Hm"}, {"hologram": 1}]}]},
        {"output": {"message": {"content": [{"text": "Yes"}]}}},
        {"turns": ["user: Hm"], "answer": "assistant: Yes", "lacks": "unread"},
    ),
    (
        "Nova behind InvokeModel", "/model/m/invoke", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
        {"output": {"message": {"content": [{"text": "Hello"}]}}},
        {"turns": ["user: Hi"], "answer": "assistant: Hello"},
    ),
    (
        "Llama behind InvokeModel", "/model/m/invoke", {"prompt": "Hi"}, {"generation": "<think>hm</think>Hello"},
        {"turns": ["user: Hi"], "answer": {"assistant": "Hello", "thought": "hm"}},
    ),
    (
        "Cohere behind InvokeModel", "/model/m/invoke", {"message": "Hi"}, {"text": "Hello"},
        {"turns": ["user: Hi"], "answer": "assistant: Hello"},
    ),
    (
        "Claude behind InvokeModel", "/model/m/invoke",
        {"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "Hi"}]},
        {"content": [{"type": "text", "text": "Hello"}]},
        {"turns": ["user: Hi"], "answer": "assistant: Hello"},
    ),
]  # fmt: skip

COHERE: list[Case] = [
    (
        "second version", "/v2/chat",
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_plan": "look", "tool_calls": [_call("weather", ROME, "t1")]},
            {"role": "tool", "tool_call_id": "t1", "content": [
                {"type": "document", "document": {"data": {"t": 21}}},
                {"type": "document", "document": {"data": "w"}}]},
        ], "tools": [WEATHER]},
        {"message": {"role": "assistant", "tool_plan": "hm", "content": [{"type": "text", "text": "Go."}],
                     "tool_calls": [_call("weather", OSLO, "t2")]}},
        {"turns": ["system: Be brief.", "user: Weather?",
                   {"assistant": "", "calls": [f"t1 weather {ROME}"], "thought": "look"},
                   {"tool": '{"t":21}\nw', "of": "t1", "name": "weather"}],
         "answer": {"assistant": "Go.", "calls": [f"t2 weather {OSLO}"], "thought": "hm"}, "tools": [WEATHER]},
    ),
    (
        "second version, thoughts and documents", "/v2/chat",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, PICTURE]}, 4],
         "documents": ["x"]},
        {"message": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Go."}]}},
        {"turns": [{"user": ["Hi", PICTURE]}], "answer": {"assistant": "Go.", "thought": "hm"},
         "lacks": "not_in_format"},
    ),
    (
        "first version", "/v1/chat",
        {"preamble": "Be brief.", "chat_history": [
            {"role": "USER", "message": "Hi"}, {"role": "CHATBOT", "message": "Hello"},
            {"role": "CHATBOT", "message": "", "tool_calls": [{"name": "weather", "parameters": {"city": "Rome"}}]},
            {"role": "TOOL", "tool_results": [{"call": {"name": "weather"}, "outputs": [{"t": 21}]}]}],
         "message": "And now?", "tools": [{"name": "weather", "description": "of a city", "parameter_definitions": {
             "city": {"type": "str", "required": True}, "days": {"type": "List[int]", "description": "how many"}}}]},
        {"text": "Look.", "tool_calls": [{"name": "weather", "parameters": {"city": "Oslo"}}]},
        {"turns": ["system: Be brief.", "user: Hi", "assistant: Hello",
                   {"assistant": "", "calls": [f"call_1 weather {ROME}"]},
                   {"tool": '[{"t":21}]', "of": "call_1", "name": "weather"}, "user: And now?"],
         "answer": {"assistant": "Look.", "calls": [f"call_2 weather {OSLO}"]},
         "tools": [{"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {
             "type": "object", "properties": {"city": {"type": "string"},
                                              "days": {"type": "array", "description": "how many"}},
             "required": ["city"]}}}]},
    ),
    (
        "first version, results without their calls", "/v1/chat",
        {"message": "Weather?", "tools": [{"name": "weather"}],
         "tool_results": [{"call": {"name": "weather", "parameters": {"city": "Rome"}}, "outputs": []}]},
        {"text": "Warm."},
        {"turns": ["user: Weather?", {"assistant": "", "calls": [f"call_1 weather {ROME}"]},
                   {"tool": "[]", "of": "call_1", "name": "weather"}],
         "answer": "assistant: Warm.",
         "tools": [{"type": "function", "function": {"name": "weather",
                                                     "parameters": {"type": "object", "properties": {}}}}]},
    ),
    (
        "first version, results alone", "/v1/chat",
        {"message": "", "chat_history": [
            {"role": "USER", "message": "Weather?"},
            {"role": "CHATBOT", "message": "I look.", "tool_calls": [{"name": "weather", "parameters": {}}]}],
         "tool_results": [{"call": {"name": "weather"}, "outputs": [1]}]},
        {"text": "Warm."},
        {"turns": ["user: Weather?", {"assistant": "I look.", "calls": ["call_1 weather {}"]},
                   {"tool": "[1]", "of": "call_1", "name": "weather"}], "answer": "assistant: Warm."},
    ),
    *((f"first version: {next(iter(more))}", "/v1/chat", {"message": "And?"} | more, {"text": "Yes"},
       {"turns": ["user: And?"], "answer": "assistant: Yes", "lacks": lacks})
      for more, lacks in (({"conversation_id": "c"}, "context_elsewhere"), ({"documents": ["x"]}, "not_in_format"),
                          ({"connectors": [{"id": "web-search"}]}, "context_elsewhere"),
                          ({"chat_history": ["x"]}, "unread"))),
]  # fmt: skip

PLAIN: list[Case] = [
    ("completions", "/v1/completions", {"prompt": "Hi"}, {"choices": [{"text": " there"}]},
     {"turns": ["user: Hi"], "answer": "assistant:  there"}),
    ("several prompts", "/v1/completions", {"prompt": ["Hi", "Yo"]}, {"choices": [{"text": "a"}, {"text": "b"}]},
     {"turns": ["user: Hi"], "answer": "assistant: a"}),
    ("token ids", "/v1/completions", {"prompt": [1, 2]}, {"choices": [{"text": "a"}]},
     {"turns": ["user: [1,2]"], "answer": "assistant: a", "lacks": "unread"}),
    ("echo", "/v1/completions", {"prompt": "Hi", "echo": True}, {"choices": [{"text": "Hi there"}]},
     {"turns": ["user: Hi"], "answer": "assistant:  there"}),
    ("a gap", "/v1/completions", {"prompt": "def f(", "suffix": "return"}, {"choices": [{"text": "x):"}]},
     {"turns": ["user: def f("], "answer": "assistant: x):", "lacks": "not_in_format"}),
    ("Mistral's gap", "/v1/fim/completions", {"prompt": "def f("}, _chat({"content": "x):"}),
     {"turns": ["user: def f("], "answer": "assistant: x):"}),
    ("TGI", "/generate", {"inputs": "Hi"}, {"generated_text": "Hello"},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("TGI, all of it", "/generate", {"inputs": "Hi", "parameters": {"return_full_text": True}},
     {"generated_text": "Hi there"}, {"turns": ["user: Hi"], "answer": "assistant:  there"}),
    ("llama.cpp", "/completion", {"prompt": "Hi"}, {"content": "Hello", "stop": True},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("llama.cpp with a picture", "/completion",
     {"prompt": {"prompt_string": "Hi", "multimodal_data": ["AAAA"]}}, {"content": "Hello", "stop": True},
     {"turns": ["user: Hi"], "answer": "assistant: Hello", "lacks": "multimodal"}),
    ("SGLang", "/generate", {"text": "Hi"}, {"text": "Hello", "meta_info": {"id": "x"}},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("KServe", "/v2/models/m/generate", {"text_input": "Hi"}, {"text_output": "Hello"},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("Dify", "/v1/chat-messages", {"query": "Hi", "inputs": {}, "conversation_id": ""}, {"answer": "Hello"},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("Dify goes on", "/v1/chat-messages", {"query": "Hi", "conversation_id": "c"}, {"answer": "Hello"},
     {"turns": ["user: Hi"], "answer": "assistant: Hello", "lacks": "context_elsewhere"}),
    ("Dify with files", "/v1/chat-messages",
     {"query": "Hi", "files": [{"type": "image", "url": "https://x.org/a.png"}, {"type": "document"}]},
     {"answer": "Hello"},
     {"turns": [{"user": ["Hi", {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, "file"]}],
      "answer": "assistant: Hello", "lacks": "multimodal"}),
    ("Dify with a file alone", "/v1/chat-messages", {"query": "", "files": [{"type": "document"}]},
     {"answer": "Hello"}, {"turns": [{"user": ["file"]}], "answer": "assistant: Hello", "lacks": "multimodal"}),
    ("any JSON", "/predict", {"question": "Hi"}, {"answer": "Hello"},
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("chat at another path", "/my/bot", {"messages": [{"role": "user", "content": "Hi"}]},
     _chat({"content": "Hello"}),
     {"turns": ["user: Hi"], "answer": "assistant: Hello"}),
    ("messages at another path", "/my/bot", {"messages": [{"role": "user", "content": "Hi"}]},
     {"reply": 1, "text": "Yo"},
     {"turns": ["user: Hi"], "answer": "assistant: Yo"}),
    ("no JSON object", "/my/bot", ["Hi"], ["Hello"],
     {"turns": ['user: ["Hi"]'], "answer": 'assistant: ["Hello"]'}),
]  # fmt: skip

CASES: list[Case] = [*CHAT, *RESPONSES, *MESSAGES, *OLLAMA, *GEMINI, *BEDROCK, *COHERE, *PLAIN]
