"""The console's static files: read once, named with their digest in the URL, so that browsers may keep them."""

from __future__ import annotations

import mimetypes
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

__all__ = ["PREFIX", "asset_route", "asset_url"]

PREFIX: Final = "/static/"
_SERVED: Final = (
    "app.css",
    "app.js",
    "charts.js",
    "flows.js",
    "htmx.min.js",
    "icon.svg",
    "theme.js",
    "uplot.min.css",
    "uplot.min.js",
)


@cache
def _content(name: str) -> tuple[bytes, str]:
    content = (files("proxy.web.console") / "static" / name).read_bytes()
    return content, sha256(content).hexdigest()[:12]


def asset_url(name: str) -> str:
    """Where the browser finds a file; another address once its content is another."""
    return f"{PREFIX}{name}?v={_content(name)[1]}"


def asset_route() -> Route:
    """The route of all static files."""

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _SERVED:
            return PlainTextResponse("there is no such file", 404)
        content, digest = _content(name)
        current = request.query_params.get("v") == digest
        headers = {
            "cache-control": "public, max-age=31536000, immutable" if current else "no-cache",
            "x-content-type-options": "nosniff",
        }
        return Response(content, headers=headers, media_type=mimetypes.guess_type(name)[0])

    return Route(PREFIX + "{name}", answer)
