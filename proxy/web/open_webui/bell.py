"""POST /-/openwebui: where Open WebUI's webhook says that somebody has voted.

It says too little for a vote, and nobody can prove that it comes from there: it is a bell. The controller looks sooner
when it rings, and however often it rings, it rings once a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.clock import Clock
from proxy.web.responses import JsonResponse

__all__ = ["open_webui_bell"]

_LEAST_S: Final = 1.0
_MOST_BYTES: Final = 1 << 20


def open_webui_bell(ring: Callable[[], None], clock: Clock, *, wanted: bool) -> Route:
    """The route, for `create_public_app(routes=…)`; `ring` is called once a second at most, and only where what it
    would tell is `wanted`."""
    rung_at = float("-inf")

    async def answer(request: Request) -> Response:
        nonlocal rung_at
        if wanted and clock.monotonic() - rung_at >= _LEAST_S:
            rung_at = clock.monotonic()
            ring()
        await _pass_over(request)
        told = {} if wanted else {"note": "feedback.open_webui.url is not set, so nothing is fetched"}
        return JsonResponse({"ok": True, **told})

    return Route("/-/openwebui", answer, methods=["POST"])


async def _pass_over(request: Request) -> None:
    """The body, unread: whoever sends it wants to be done with it."""
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > _MOST_BYTES:
                return
    except ClientDisconnect:
        return
