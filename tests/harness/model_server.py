"""A server that speaks the APIs of models well enough for their official clients: one file for each API.

It is deterministic: the same request gets the same bytes, so what a client makes of an answer through the proxy can be
compared with what it makes of it directly. `model_words` says which words make it call tools, think, or fail.
"""

from __future__ import annotations

import zlib
from email import message_from_bytes
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness import model_anthropic, model_cohere, model_gemini, model_ollama, model_openai
from tests.harness.model_words import is_anthropic, json_answer

__all__ = ["create_model_server"]

_MODELS: Final = ("small", "large")
_AS_THEY_COME: Final = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/x-ndjson")
"""Compressed, the pieces of a stream would wait for each other."""


def create_model_server() -> Starlette:
    """The server's ASGI app; uploaded files live as long as it does."""
    files = _Files()
    return Starlette(
        routes=[
            *model_openai.ROUTES,
            *model_anthropic.ROUTES,
            *model_ollama.ROUTES,
            *model_gemini.ROUTES,
            *model_cohere.ROUTES,
            Route("/v1/models", _models),
            Route("/v1/files", files.upload, methods=["POST"]),
            Route("/v1/files/{name}/content", files.content),
            Route("/v1/files/{name}", files.delete, methods=["DELETE"]),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=200, exclude_content_types=_AS_THEY_COME)],
    )


async def _models(request: Request) -> Response:
    if is_anthropic(request):
        data = [{"id": name, "type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
                for name in _MODELS]  # fmt: skip
        listed = {"data": data, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]}
        return json_answer(request, listed)
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in _MODELS]
    return json_answer(request, {"object": "list", "data": data})


class _Files:
    """Uploaded files; one path serves both OpenAI's and Anthropic's API, which a header tells apart."""

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
        if is_anthropic(request):
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
        return json_answer(request, facts)

    async def content(self, request: Request) -> Response:
        return Response(self._contents[request.path_params["name"]], media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        del self._contents[name]
        kind = {"type": "file_deleted"} if is_anthropic(request) else {"object": "file", "deleted": True}
        return json_answer(request, {"id": name, **kind})
