"""Ollama: single objects and newline-delimited streams of them."""

import json
from typing import Any

from proxy.wire.extract import CapturedExchange, Extraction, extract


def call(path: str, request: Any, *objects: Any) -> Extraction:
    streamed = len(objects) > 1
    body = "\n".join(json.dumps(value) for value in objects)
    return extract(CapturedExchange(
        target=path, request=json.dumps(request).encode(), response=body.encode(),
        response_type="application/x-ndjson" if streamed else "application/json"))  # fmt: skip


def test_generate_streams_its_text() -> None:
    found = call(
        "/api/generate",
        {"model": "llama", "prompt": "Why?", "system": "Be brief.", "format": "json"},
        {"model": "llama:8b", "response": "Be", "thinking": "H", "done": False},
        {"model": "llama:8b", "response": "cause", "thinking": "m", "done": False},
        {"model": "llama:8b", "response": "", "done": True, "done_reason": "stop",
         "prompt_eval_count": 4, "eval_count": 2},
    )  # fmt: skip
    assert (found.kind, found.query, found.response) == ("ollama", "Why?", "Because")
    assert found.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (4, 2, "stop")
    assert (found.model, found.streamed, found.json_requested) == ("llama:8b", True, True)
    assert found.reassembled == {
        "model": "llama:8b", "response": "Because", "thinking": "Hm", "done": True, "done_reason": "stop",
        "prompt_eval_count": 4, "eval_count": 2,
    }  # fmt: skip


def test_chat_streams_text_and_tool_calls() -> None:
    call_a = {"function": {"name": "look", "arguments": {"at": "Oslo"}}}
    call_b = {"function": {"name": "ask", "arguments": {}}}
    found = call(
        "/api/chat",
        {"messages": [{"role": "user", "content": "What?", "images": ["AAAA"]}], "format": {"type": "object"}},
        {"message": {"role": "assistant", "content": "A ", "thinking": "h"}, "done": False},
        {"message": {"role": "assistant", "content": "cat", "tool_calls": [call_a]}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [call_b]}, "done": True},
        "no object",
    )
    assert (found.query, found.json_requested) == ("What?\n[image]", True)
    assert found.response == (
        'A cat\n<tool_call>{"name":"look","arguments":{"at":"Oslo"}}</tool_call>\n'
        '<tool_call>{"name":"ask","arguments":{}}</tool_call>'
    )
    assert found.reassembled is not None
    assert found.reassembled["message"]["tool_calls"] == [call_a, call_b]
    assert found.reassembled["message"]["thinking"] == "h"


def test_unstreamed() -> None:
    found = call("/api/generate", {"prompt": "Why?"}, {"response": "Because", "eval_count": 1})
    assert (found.query, found.response, found.messages, found.streamed) == ("Why?", "Because", (), False)
    chat = call("/api/chat", {"messages": []}, {"message": {"content": "Hi"}})
    assert (chat.query, chat.response) == (None, "Hi")
