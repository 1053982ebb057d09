"""Judge: how well it agrees with people's votes, where the two differ, what it failed at, and what it costs."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.agreement import GOOD_FROM, LEAST_BOUND, LEAST_LABELS, LEAST_OF_EACH
from proxy.web.console.page import Console

__all__ = ["judge_routes"]

_SHOWN: Final = 50


def judge_routes(console: Console) -> list[Route]:
    """GET /judge."""

    async def judge(request: Request) -> Response:
        store, status = console.store, await console.status()
        seen = status.judge
        differing = () if seen is None else await store.judgements.disagreements(seen.scorer, _SHOWN)
        context = {
            "status": status,
            "judge": seen,
            "config": console.services.config.judge,
            "disagreements": differing,
            "most": _SHOWN,
            "good_from": GOOD_FROM,
            "needed": {"labels": LEAST_LABELS, "each": LEAST_OF_EACH, "bound": LEAST_BOUND},
        }
        return await console.render(request, "judge.html", context)

    return [Route("/judge", console.page(judge))]
