"""Now: what is happening, why, and what happens next."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.lifecycle import Phase
from policies.records import Arm, Outcome
from policies.vocabulary import HOLD, PHASES
from proxy.errors import TemporaryError
from proxy.store.tables.values import RecordFilter, TrafficTotals
from proxy.web.console.page import Console
from proxy.web.console.traffic import ArmStep
from proxy.web.console.welcome import welcome

__all__ = ["now_routes"]

_RECENT_S: Final = 900
_DECISIONS: Final = 6


def now_routes(console: Console) -> list[Route]:
    """GET /."""

    async def now(request: Request) -> Response:
        traffic, decisions, trouble, first = None, [], None, None
        try:
            first = await welcome(console, request)
            traffic = await _recent_traffic(console)
            decisions = await _recent_decisions(console)
        except TemporaryError as exc:
            trouble = str(exc)  # the page still says what it knows: this is when somebody looks at it
        status = await console.status()
        recent = None
        if status.challenger is not None and trouble is None:
            with suppress(TemporaryError):
                recent = await _challengers_failures(console)
        context = {
            "recent": recent,
            "status": status,
            "traffic": traffic,
            "minutes": _RECENT_S // 60,
            "decisions": decisions,
            "store_trouble": trouble,
            "first": first,
            "grafana": console.grafana("traffic", f"now-{_RECENT_S}s"),
            "waits_for": _retrain_waits(status.phase.name),
        }
        return await console.render(request, "now.html", context)

    return [Route("/", console.page(now))]


def _retrain_waits(phase: str) -> str | None:
    """What keeps the next training in each phase, whatever is due; a controller that starts has no phase yet."""
    return PHASES[Phase(phase)].retrain_waits if phase in set(Phase) else None


async def _recent_traffic(console: Console) -> TrafficTotals:
    since_s = console.services.clock.now() - _RECENT_S
    return await console.store.traffic.totals(int(since_s * 1e6))


async def _challengers_failures(console: Console) -> dict[str, Any] | None:
    """What became of the challenger's requests lately, and the latest that failed; None where there were none."""
    now_us = int(console.services.clock.now() * 1e6)
    since_us = now_us - _RECENT_S * 1_000_000
    points = await console.store.traffic.points(since_us, now_us + 60_000_000, 60)
    found = ArmStep([point for point in points if point.arm is Arm.CHALLENGER])
    if not found.requests:
        return None
    latest = None
    if found.error_share:
        wanted = RecordFilter(since_us=since_us, arm=Arm.CHALLENGER, outcome=Outcome.UPSTREAM_ERROR)
        latest = next(iter((await console.store.records.list(wanted, limit=1, texts=False)).rows), None)
    return {"requests": found.requests, "failed": found.error_share, "latest": latest}


async def _recent_decisions(console: Console) -> list[Mapping[str, Any]]:
    """The latest that did something."""
    if console.services.history is None:
        return []
    entries = await console.services.history(_DECISIONS * 5, None)
    return [entry for entry in entries if entry["action"] != HOLD][:_DECISIONS]
