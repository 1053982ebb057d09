"""The backend of a chat page: it talks to the model through Ratchet and hands the record id on to the browser.

    RATCHET_URL=http://127.0.0.1:8080 python examples/chat/server.py 9001

Two things are all that Ratchet asks of an application: say which user a request belongs to (so that a conversation
stays with one model), and pass `x-ratchet-record-id` on to whoever will vote. The votes themselves go from the browser
straight to Ratchet, by its /-/feedback.js.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

RATCHET_URL = os.environ.get("RATCHET_URL", "http://127.0.0.1:8080")
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
CSP = (
    f"default-src 'none'; connect-src 'self' {RATCHET_URL}; script-src 'self' {RATCHET_URL}; "
    "style-src 'self'; img-src data:"
)


async def page(request: Request) -> Response:
    """The page, for a user known by a cookie."""
    user = request.cookies.get("user") or secrets.token_hex(8)
    html = PAGE.replace("{ratchet}", RATCHET_URL).replace("{user}", user if user.isalnum() else "")
    response = Response(html, media_type="text/html", headers={"content-security-policy": CSP})
    response.set_cookie("user", user, httponly=True, samesite="strict")
    return response


async def chat(request: Request) -> Response:
    """One turn: the model's events as they come, and the id of the record in a header."""
    session: aiohttp.ClientSession = request.app.state.session
    body = {"model": "any", "stream": True, "messages": (await request.json())["messages"]}
    upstream = await session.post(
        "/v1/chat/completions", json=body, headers={"x-user-id": request.cookies.get("user", "anonymous")}
    )

    async def events() -> AsyncIterator[bytes]:
        try:
            async for chunk in upstream.content.iter_any():
                yield chunk
        finally:
            upstream.close()  # where the person has left, the model need not go on

    return StreamingResponse(
        events(),
        upstream.status,
        headers={"x-ratchet-record-id": upstream.headers.get("x-ratchet-record-id", "")},
        media_type=upstream.content_type,
    )


def static(name: str, media_type: str) -> Route:
    """A file beside this one."""
    content = Path(__file__).with_name(name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(f"/{name}", answer)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one pool of connections to Ratchet."""
    async with aiohttp.ClientSession(RATCHET_URL) as app.state.session:
        yield


app = Starlette(
    routes=[
        Route("/", page),
        Route("/chat", chat, methods=["POST"]),
        static("page.js", "text/javascript"),
        static("page.css", "text/css"),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 9001, log_level="warning")
