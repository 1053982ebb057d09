"""A server that speaks OpenAI's and Anthropic's APIs well enough for their official SDKs.

It is deterministic: the same request gets the same bytes, so what an SDK makes of an answer through the proxy can be
compared with what it makes of it directly. Where a user writes a word of `FAULTS`, the call fails as the real APIs
do; a stream about something "endless" falls silent after a few words.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

__all__ = ["FAULTS", "answer_to", "create_model_server", "vector_of"]

FAULTS: Final = {"overflow": 400, "intruder": 401, "crowd": 429, "crash": 500}
"""Word in the user's text → status of the answer."""
_MODELS: Final = ("small", "large")


def answer_to(text: str) -> str:
    """What the model says to `text`: long enough to be compressed, not ASCII alone, and every word ends in a space."""
    return f"You said “{text}”. " + "Très intéressant, tell me more. " * 20


def vector_of(text: str) -> list[float]:
    """The embedding of `text`: eight numbers that single precision holds exactly."""
    return [float(byte) for byte in zlib.crc32(text.encode()).to_bytes(8, "big")]


def create_model_server() -> Starlette:
    """The server's ASGI app; uploaded files live as long as it does."""
    files = _Files()
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _chat, methods=["POST"]),
            Route("/v1/completions", _completions, methods=["POST"]),
            Route("/v1/responses", _responses, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/files", files.upload, methods=["POST"]),
            Route("/v1/files/{name}/content", files.content),
            Route("/v1/files/{name}", files.delete, methods=["DELETE"]),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=200)],
    )


# -- OpenAI


async def _chat(request: Request) -> Response:
    asked = await request.json()
    text = asked["messages"][-1]["content"]
    if (failed := _fault(request, text)) is not None:
        return failed
    said, facts = answer_to(text), {"id": f"chatcmpl-{_id(text)}", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": said, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return _json(request, facts | {"object": "chat.completion", "choices": [choice], "usage": _usage(text, said)})

    def chunks() -> Iterator[dict[str, Any]]:
        whole = facts | {"object": "chat.completion.chunk"}
        for delta in ({"role": "assistant", "content": ""}, *({"content": word} for word in _words(said))):
            yield whole | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield whole | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if asked.get("stream_options", {}).get("include_usage"):
            yield whole | {"choices": [], "usage": _usage(text, said)}

    return _events(request, chunks(), named=False, done=True, endless="endless" in text)


async def _completions(request: Request) -> Response:
    asked = await request.json()
    text, said = asked["prompt"], answer_to(asked["prompt"])
    choice = {"index": 0, "text": said, "finish_reason": "length", "logprobs": None}
    return _json(request, {"id": f"cmpl-{_id(text)}", "object": "text_completion", "created": 1,
                           "model": asked["model"], "choices": [choice], "usage": _usage(text, said)})  # fmt: skip


async def _responses(request: Request) -> Response:
    asked = await request.json()
    text, said = asked["input"], answer_to(asked["input"])
    content = {"type": "output_text", "text": said, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
    tokens = len(text.split()), len(said.split())
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens),
             "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    whole = {"id": f"resp_{_id(text)}", "object": "response", "created_at": 1, "model": asked["model"],
             "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None}  # fmt: skip
    ended = whole | {"status": "completed", "output": [item], "usage": usage}
    if not asked.get("stream"):
        return _json(request, ended)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}

    def events() -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": whole | {"status": "in_progress", "output": []}}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}}
        yield {"type": "response.content_part.added", **place, "part": content | {"text": ""}}
        for word in _words(said):
            yield {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
        yield {"type": "response.output_text.done", **place, "text": said, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": content}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield {"type": "response.completed", "response": ended}

    numbered = (event | {"sequence_number": number} for number, event in enumerate(events()))
    return _events(request, numbered, named=True, done=False)


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
    return _json(request, {"object": "list", "model": asked["model"], "data": data, "usage": usage})


async def _models(request: Request) -> Response:
    if _is_anthropic(request):
        data = [{"id": name, "type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
                for name in _MODELS]  # fmt: skip
        return _json(request, {"data": data, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]})
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in _MODELS]
    return _json(request, {"object": "list", "data": data})


# -- Anthropic


async def _messages(request: Request) -> Response:
    asked = await request.json()
    text = asked["messages"][-1]["content"]
    if (failed := _fault(request, text)) is not None:
        return failed
    said = answer_to(text)
    tokens = {"input_tokens": len(text.split()), "output_tokens": len(said.split())}
    whole = {"id": f"msg_{_id(text)}", "type": "message", "role": "assistant", "model": asked["model"],
             "content": [{"type": "text", "text": said}], "stop_reason": "end_turn", "stop_sequence": None,
             "usage": tokens}  # fmt: skip
    if not asked.get("stream"):
        return _json(request, whole)

    def events() -> Iterator[dict[str, Any]]:
        start = {"content": [], "stop_reason": None, "usage": tokens | {"output_tokens": 1}}
        yield {"type": "message_start", "message": whole | start}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "ping"}
        for word in _words(said):
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        yield {"type": "content_block_stop", "index": 0}
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": tokens["output_tokens"]}}
        yield {"type": "message_stop"}

    return _events(request, events(), named=True, done=False, endless="endless" in text)


async def _count_tokens(request: Request) -> Response:
    asked = await request.json()
    return _json(request, {"input_tokens": len(asked["messages"][-1]["content"].split())})


# -- both


class _Files:
    """Uploaded files; one path serves both APIs, which tell themselves apart by a header."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    async def upload(self, request: Request) -> Response:
        head = b"content-type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
        parts: dict[str, Any] = {}
        for part in message_from_bytes(head + await request.body()).get_payload():
            assert not isinstance(part, str)
            name = part.get_param("name", header="content-disposition")
            parts[str(name)] = part
        content, filename = parts["file"].get_payload(decode=True), parts["file"].get_filename()
        name = f"file_{zlib.crc32(content):08x}"
        self._contents[name] = content
        facts: dict[str, Any] = {"id": name, "filename": filename}
        if _is_anthropic(request):
            facts |= {"type": "file", "size_bytes": len(content), "mime_type": parts["file"].get_content_type(),
                      "created_at": "2026-01-01T00:00:00Z", "downloadable": True}  # fmt: skip
        else:
            purpose = parts["purpose"].get_payload()
            facts |= {
                "object": "file",
                "bytes": len(content),
                "created_at": 1,
                "purpose": purpose,
                "status": "uploaded",
            }
        return _json(request, facts)

    async def content(self, request: Request) -> Response:
        return Response(self._contents[request.path_params["name"]], media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        del self._contents[name]
        kind = {"type": "file_deleted"} if _is_anthropic(request) else {"object": "file", "deleted": True}
        return _json(request, {"id": name, **kind})


def _fault(request: Request, text: str) -> Response | None:
    status = next((status for word, status in FAULTS.items() if word in text), None)
    if status is None:
        return None
    error = {"type": "invalid_request_error", "message": f"no: {text}", "param": None, "code": "test"}
    body = {"type": "error", "error": error} if _is_anthropic(request) else {"error": error}
    answer = _json(request, body, status)
    answer.headers["retry-after"] = "0.1"
    return answer


def _json(request: Request, body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, headers=_name(request), media_type="application/json")


def _events(
    request: Request, events: Iterator[dict[str, Any]], *, named: bool, done: bool, endless: bool = False
) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        for number, event in enumerate(events):
            if number == 5 and endless:
                await asyncio.Event().wait()
            name = f"event: {event['type']}\n".encode() if named else b""
            yield name + b"data: " + orjson.dumps(event) + b"\n\n"
        if done:
            yield b"data: [DONE]\n\n"

    return StreamingResponse(lines(), headers=_name(request), media_type="text/event-stream")


def _name(request: Request) -> dict[str, str]:
    return {"request-id" if _is_anthropic(request) else "x-request-id": f"req_{_id(request.url.path)}"}


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _usage(asked: str, said: str) -> dict[str, int]:
    prompt, completion = len(asked.split()), len(said.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _words(said: str) -> list[str]:
    """Pieces that add up to `said`."""
    return [f"{word} " for word in said.split(" ")[:-1]]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _id(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
