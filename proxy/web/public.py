"""The public side app: what Ratchet itself answers on the port that clients use, all of it under /-/.

It runs inside each worker behind a Unix socket; the gateway hands it the requests whose path begins with /-/. It
imports neither store nor loop, so that a worker starts fast and serves without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.clock import Clock
from proxy.config.checks import is_loopback
from proxy.config.model import Config
from proxy.ids import RecordIds
from proxy.version import __version__
from proxy.web.ballot_box import (
    FOR_ANOTHER_HEADER,
    Ambiguous,
    BallotBox,
    FeedbackCounters,
    FeedbackSpool,
    Redact,
    client_address,
)
from proxy.web.feedback import FEEDBACK_COUNTERS, FeedbackEndpoint
from proxy.web.limits import Hardened
from proxy.web.others import other_routes
from proxy.web.responses import EXCEPTION_HANDLERS, JsonResponse
from proxy.web.vote_page import VotePage

__all__ = ["FEEDBACK_COUNTERS", "Health", "create_public_app"]

Health = Callable[[], Mapping[str, Any]]
"""Facts about this worker; `status` is "ok" while it may get traffic, anything else takes it out of rotation."""


def create_public_app(
    config: Config,
    spool: FeedbackSpool,
    ids: RecordIds,
    counters: FeedbackCounters,
    clock: Clock,
    *,
    health: Health | None = None,
    ambiguous: Ambiguous | None = None,
    routes: Sequence[BaseRoute] = (),
    redact: Redact | None = None,
) -> Starlette:
    """The app of one worker. `ambiguous` tells which aliases are several people's; without, that is found out later.
    `routes` are further ones under /-/, such as the feedback script's; `redact` cleans the words of votes."""

    box = BallotBox(config.feedback, spool, ids, counters, clock, redact, ambiguous)
    feedback, page = FeedbackEndpoint(box), VotePage(box)

    async def answer_feedback(request: Request) -> Response:
        return await (feedback.post if request.method == "POST" else page.show)(request)

    async def answer_health(request: Request) -> Response:
        facts = {"status": "ok", **(health() if health is not None else {})}
        if "verbose" in request.query_params and _may_know(request, config):
            facts |= {"version": __version__}
        else:
            facts = {"status": facts["status"]}
        return JsonResponse(facts, 200 if facts["status"] == "ok" else 503)

    cors = Middleware(
        CORSMiddleware,
        allow_origins=config.feedback.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        max_age=86_400,
    )
    app = Starlette(
        routes=[
            Route("/-/feedback", answer_feedback, methods=["GET", "POST"]),
            Route("/-/feedback/page", page.take, methods=["POST"]),
            Route("/-/health", answer_health),
            *other_routes(box),
            *routes,
        ],
        middleware=[Middleware(Hardened), *([cors] if config.feedback.cors_origins else [])],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.state.scheme = "https" if config.server.tls_cert_file else "http"
    app.state.public_url = (config.server.public_url or "").rstrip("/")
    return app


def _may_know(request: Request, config: Config) -> bool:
    """Whether process ids, versions and the store's troubles are any business of whoever asks: this machine itself (and
    nobody for whom a proxy on it speaks), or who has the admin token."""
    token = (config.admin.token or "").encode()
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and compare_digest(given.strip().encode(), token):
        return True
    return is_loopback(client_address(request)) and FOR_ANOTHER_HEADER not in request.headers
