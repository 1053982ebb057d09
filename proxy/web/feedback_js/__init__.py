"""GET /-/feedback.js: thumbs under answers, for any page. The script itself says how it is used.

It is one small file without dependencies, read once when the side app starts, with an entity tag: browsers keep it for
a day and then ask whether it changed.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["feedback_js_route"]

_DAY_S: Final = 86_400


def feedback_js_route() -> Route:
    """The route of the script, for `create_public_app(routes=…)`."""
    script = (files(__name__) / "feedback.js").read_bytes()
    tag = f'"{sha256(script).hexdigest()[:16]}"'
    headers = {
        "etag": tag,
        "cache-control": f"public, max-age={_DAY_S}",
        "x-content-type-options": "nosniff",
        # any page may embed it, isolated ones and ones that pin its hash included
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
    }

    async def answer(request: Request) -> Response:
        known = [name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(script, headers=headers, media_type="text/javascript")

    return Route("/-/feedback.js", answer)
