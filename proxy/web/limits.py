"""What every request to us is held to, before a route sees it: the size of its body, and headers on every answer.

Pure ASGI: nothing is read that is going to be refused, and nothing is buffered here.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.web.responses import ApiError, error_response

__all__ = ["MAX_ADMIN_BODY_BYTES", "BodyLimit", "Hardened"]

MAX_ADMIN_BODY_BYTES: Final = 262_144


class BodyLimit:
    """Refuses bodies longer than `limit` bytes with 413: by their Content-Length unread, else as soon as they are."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        message = f"the body is longer than {self._limit} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._limit:
            await error_response(413, message)(scope, receive, send)
            return
        left = self._limit

        async def counted() -> Message:
            nonlocal left
            received = await receive()
            left -= len(received.get("body", b""))
            if left < 0:
                raise ApiError(413, message)
            return received

        await self._app(scope, counted, send)


class Hardened:
    """Puts `X-Content-Type-Options: nosniff` on every answer, and refuses what no database can look up: a NUL."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with the header."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-content-type-options"] = "nosniff"
            await send(message)

        if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
            await error_response(400, "the URL contains a NUL character")(scope, receive, hardened)
            return
        await self._app(scope, receive, hardened)
