"""OpenAI's API for the model server: chat completions, completions, responses, embeddings."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.model_words import COMPLAINT, Call, Script, events, http_error, id_of, json_answer, streamed, text_of

__all__ = ["ROUTES", "error_of", "vector_of"]

_DONE: Final = b"data: [DONE]\n\n"


def vector_of(text: str) -> list[float]:
    """The embedding of `text`: eight numbers that single precision holds exactly."""
    return [float(byte) for byte in zlib.crc32(text.encode()).to_bytes(8, "big")]


def error_of(message: str) -> dict[str, Any]:
    """An error as OpenAI and Anthropic write it, but for what stands around it."""
    return {"type": "invalid_request_error", "message": message, "param": None, "code": "test"}


# -- chat completions


async def _chat(request: Request) -> Response:
    asked = await request.json()
    script = Script(text_of(asked["messages"][-1]["content"]))
    if (failed := http_error(request, script, {"error": error_of(f"no: {script.text}")})) is not None:
        return failed
    facts = {"id": f"chatcmpl-{id_of(script.text)}", "created": 1, "model": asked["model"]}
    if asked.get("stream"):
        counted = bool((asked.get("stream_options") or {}).get("include_usage"))
        return streamed(request, _chunks(script, facts | {"object": "chat.completion.chunk"}, counted))
    if script.broken:
        return json_answer(request, {"error": error_of(COMPLAINT)})
    message: dict[str, Any] = {"role": "assistant", "content": script.said or None, "refusal": None}
    if script.thought:
        message["reasoning_content"] = script.thought
    if script.calls:
        message["tool_calls"] = [call.as_function(call.json) for call in script.calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(script), "logprobs": None}
    return json_answer(request, facts | {"object": "chat.completion", "choices": [choice], "usage": _usage(script)})


def _chunks(script: Script, facts: dict[str, Any], counted: bool) -> AsyncIterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return facts | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    closing = [chunk({}, _finish(script)), *([facts | {"choices": [], "usage": _usage(script)}] if counted else [])]
    return script.played(
        opening=events(chunk({"role": "assistant", "content": "" if script.said else None})),
        body=events(*map(chunk, _deltas(script))),
        closing=[*events(*closing), _DONE],
        error=[*events({"error": error_of(COMPLAINT) | {"code": 500}}), _DONE],
    )


def _deltas(script: Script) -> Iterator[dict[str, Any]]:
    if script.thought:
        yield {"reasoning_content": script.thought}
    for word in script.words:
        yield {"content": word}
    for index, call in enumerate(script.calls):
        yield {"tool_calls": [{"index": index, **call.as_function("")}]}
        for half in call.halves:
            yield {"tool_calls": [{"index": index, "function": {"arguments": half}}]}


def _finish(script: Script) -> str:
    return "tool_calls" if script.calls else "stop"


def _usage(script: Script) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": script.completion_tokens,
        "total_tokens": script.prompt_tokens + script.completion_tokens,
    }
    if script.thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": script.thought_tokens}
    return usage


# -- completions


async def _completions(request: Request) -> Response:
    asked = await request.json()
    script = Script(asked["prompt"])
    choice = {"index": 0, "text": script.said, "finish_reason": "length", "logprobs": None}
    return json_answer(request, {"id": f"cmpl-{id_of(script.text)}", "object": "text_completion", "created": 1,
                                 "model": asked["model"], "choices": [choice], "usage": _usage(script)})  # fmt: skip


# -- responses


async def _responses(request: Request) -> Response:
    asked = await request.json()
    given = asked["input"]
    script = Script(given if isinstance(given, str) else text_of(given[-1]["content"]))
    if (failed := http_error(request, script, {"error": error_of(f"no: {script.text}")})) is not None:
        return failed
    facts = {"id": f"resp_{id_of(script.text)}", "object": "response", "created_at": 1, "model": asked["model"],
             "parallel_tool_calls": True, "tool_choice": "auto", "tools": asked.get("tools", []), "error": None,
             "status": "in_progress", "output": []}  # fmt: skip
    broken = facts | {"status": "failed", "error": {"code": "server_error", "message": COMPLAINT}}
    whole = facts | {"status": "completed", "output": _output(script), "usage": _response_usage(script)}
    if not asked.get("stream"):
        return json_answer(request, broken if script.broken else whole)
    number = iter(range(1000))

    def numbered(*values: dict[str, Any]) -> Iterator[bytes]:
        for value in values:
            yield from events(value | {"sequence_number": next(number)}, named=True)

    pieces = script.played(
        opening=numbered({"type": "response.created", "response": facts}),
        body=numbered(*_response_events(script)),
        closing=numbered({"type": "response.completed", "response": whole}),
        error=numbered({"type": "response.failed", "response": broken}),
    )
    return streamed(request, pieces)


def _output(script: Script) -> list[dict[str, Any]]:
    if script.calls:
        return [_item(call, call.json, "completed") for call in script.calls]
    content = {"type": "output_text", "text": script.said, "annotations": []}
    return [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}]


def _item(call: Call, arguments: str, status: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{call.id}", "call_id": call.id, "name": call.name,
            "arguments": arguments, "status": status}  # fmt: skip


def _response_events(script: Script) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(script.calls):
        place: dict[str, Any] = {"item_id": f"fc_{call.id}", "output_index": index}
        added = {"type": "response.output_item.added", "output_index": index}
        yield added | {"item": _item(call, "", "in_progress")}
        for half in call.halves:
            yield {"type": "response.function_call_arguments.delta", **place, "delta": half}
        yield {"type": "response.function_call_arguments.done", **place, "name": call.name, "arguments": call.json}
        yield added | {"type": "response.output_item.done", "item": _item(call, call.json, "completed")}
    if script.said:
        yield from _said_events(script, *_output(script))


def _said_events(script: Script, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    [content] = item["content"]
    yield {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}}
    yield {"type": "response.content_part.added", **place, "part": content | {"text": ""}}
    for word in script.words:
        yield {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": script.said, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": content}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}


def _response_usage(script: Script) -> dict[str, Any]:
    return {"input_tokens": script.prompt_tokens, "output_tokens": script.completion_tokens,
            "total_tokens": script.prompt_tokens + script.completion_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip


# -- embeddings


async def _embeddings(request: Request) -> Response:
    asked = await request.json()
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    packed = asked.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(map(vector_of, texts))
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_answer(request, {"object": "list", "model": asked["model"], "data": data, "usage": usage})


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


ROUTES: Final = [
    Route("/v1/chat/completions", _chat, methods=["POST"]),
    Route("/v1/completions", _completions, methods=["POST"]),
    Route("/v1/responses", _responses, methods=["POST"]),
    Route("/v1/embeddings", _embeddings, methods=["POST"]),
]
