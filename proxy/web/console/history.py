"""History: every decision, newest first, and each with the evidence that it was made on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.actions import TAGS, PrepareData
from policies.vocabulary import HOLD
from proxy.errors import TemporaryError
from proxy.status import watch_of_decision
from proxy.store.tables.control import JournalEntry
from proxy.web.console.page import Console
from proxy.web.numbers import instant_of
from proxy.web.responses import ApiError

__all__ = ["history_routes"]

_PAGE: Final = 50
_BUILDS: Final = TAGS[PrepareData]


def history_routes(console: Console) -> list[Route]:
    """GET /history and /history/{seq}."""

    async def history(request: Request) -> Response:
        if console.services.history is None:
            raise TemporaryError("the loop does not run here", retry_after_s=5.0)
        before = instant_of(request, "before")
        entries = await console.services.history(_PAGE, before)
        holds = request.query_params.get("holds") == "1"
        context = {
            "entries": [entry for entry in entries if holds or entry["action"] != HOLD],
            "left_out": sum(entry["action"] == HOLD for entry in entries) if not holds else 0,
            "older": entries[-1]["at"] if len(entries) == _PAGE else None,
            "first_page": before is None,
            "holds": holds,
        }
        return await console.render(request, "history.html", context)

    async def decision(request: Request) -> Response:
        store = console.store
        entry = await store.journal.get(request.path_params["seq"])
        if entry is None:
            raise ApiError(404, f"there is no decision {request.path_params['seq']}")
        settings = await store.configs.get(entry.config_id)
        run = None if entry.run_id is None else await store.runs.get(entry.run_id)
        context = {
            "entry": entry,
            "built": entry.action == _BUILDS and run is not None and run.manifest is not None,
            "reasons": entry.inputs.get("reasons", [entry.why]),
            "assessment": entry.inputs.get("assessment"),
            "watch": entry.inputs.get("watch"),
            "watched": watch_of_decision(entry.inputs),
            "evidence": _evidence(entry, None if settings is None else settings.content),
        }
        return await console.render(request, "decision.html", context)

    return [Route("/history", console.page(history)), Route("/history/{seq:row}", console.page(decision))]


def _evidence(entry: JournalEntry, settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the decision was made on, part by part, as indented JSON."""
    parts: dict[str, Any] = {
        "What the loop saw": entry.inputs.get("snapshot"),
        "Rules in force": entry.inputs.get("rules"),
        "Action, as decided": entry.inputs.get("action"),
        "Outcome": entry.outcome,
        "Settings in force": settings,
    }
    return [(name, json.dumps(part, indent=2, ensure_ascii=False)) for name, part in parts.items() if part]
