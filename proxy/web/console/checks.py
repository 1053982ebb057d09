"""Checks: what each challenger's check found before users saw it, and the answers that it compared, as a list.

A list has outcomes, so it is not blind; `side_by_side` shows one comparison at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.gate import CheckReport
from policies.rows import Check
from proxy.store.control.comparison_pages import ComparisonFilter, Show
from proxy.store.control.comparisons import ComparedRow
from proxy.web.checks.answers import asked_words, found_words
from proxy.web.checks.documents import known_check, page_of, wanted_of
from proxy.web.console.page import Console

__all__ = ["SHOWN", "check_routes", "report_of", "tags_of"]

_LISTED: Final = 100
_PAGE: Final = 50
_FAULTS: Final = {"text": "other words", "calls": "other tool calls", "language": "another language"}
"""What tells the challenger's answer from the champion's; defects have names that say themselves."""
SHOWN: Final = {
    Show.ALL: "All",
    Show.WORSE: "Challenger worse",
    Show.BETTER: "Challenger better",
    Show.DISAGREES: "Judge disagrees with people",
}
"""What a list can show, and its name."""


def check_routes(console: Console) -> list[Route]:
    """GET /checks and /checks/{id}."""
    pages = _Pages(console)
    return [Route("/checks", console.page(pages.list)), Route("/checks/{id:row}", console.page(pages.show))]


class _Pages:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def list(self, request: Request) -> Response:
        store = self._console.store
        found = await store.checks.list(limit=_LISTED)
        context = {
            "checks": [(check, report_of(check)) for check in found],
            "names": {model.id: model.name for model in await store.models.list()},
            "most": _LISTED,
        }
        return await self._console.render(request, "checks.html", context)

    async def show(self, request: Request) -> Response:
        store, params = self._console.store, request.query_params
        check = await known_check(store, request.path_params["id"])
        wanted = wanted_of(params)
        cursor = params.get("cursor")
        page = await page_of(store.comparison_pages, check.id, wanted, cursor, _PAGE)
        chosen = await store.preferences.of(check.id, [row.item for row in page.rows])
        here, report = f"/checks/{check.id}", report_of(check)
        context = {
            "check": check,
            "report": report,
            "faults": faults_of(report),
            "names": {model.id: model.name for model in await store.models.list()},
            "siblings": [one for one in await store.checks.list(check.challenger_id) if one.id != check.id],
            "counts": await store.comparison_pages.counts(check.id),
            "chosen": await store.preferences.counts(check.id),
            "rows": await asyncio.to_thread(_lines, page.rows, chosen, wanted),
            "wanted": wanted,
            "shown": SHOWN,
            "tags": tags_of(check, page.rows),
            "first_page": cursor is None,
            "older": f"{here}?{urlencode(_query(wanted) | {'cursor': page.cursor})}" if page.cursor else None,
        }
        return await self._console.render(request, "check.html", context)


def report_of(check: Check) -> dict[str, Any]:
    """What it has found so far, with everything that a report has; an older version's may lack something."""
    return CheckReport().document() | dict(check.summary)


def faults_of(report: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """What answers show: how many of the champion's, and of the challenger's, by which they are sorted."""
    champion, challenger = (report["differences"].get(side, {}) for side in ("champion", "challenger"))
    names = sorted({*champion, *challenger}, key=lambda name: (-challenger.get(name, 0), name))
    return [(_FAULTS.get(name, name), champion.get(name, 0), challenger.get(name, 0)) for name in names]


def tags_of(check: Check, rows: Sequence[ComparedRow]) -> list[str]:
    """Tags that a person may choose: those of the golden file, and those in view."""
    groups = [group for part in report_of(check)["parts"] for group in part.get("groups", ())]
    golden = {group["tag"] for group in groups if group.get("tag")}
    return sorted(golden.union(*(row.tags for row in rows)))


def _query(wanted: ComparisonFilter) -> dict[str, str]:
    return {"show": wanted.show.value} | ({"tag": wanted.tag} if wanted.tag else {})


def _lines(
    rows: Sequence[ComparedRow], chosen: Mapping[str, Mapping[str, str]], wanted: ComparisonFilter
) -> list[dict[str, Any]]:
    """What the list says of each, and where it leads: to both answers, with their names."""
    more = _query(wanted) | {"blind": "0"}
    return [
        {
            "item": row.item,
            "link": f"/checks/{row.check_id}/side-by-side?{urlencode({'item': row.item, **more})}",
            "words": asked_words(row),
            "golden": row.record_id is None,
            "outcome": row.outcome,
            "found": found_words(row),
            "tags": row.tags,
            "chosen": chosen.get(row.item, {}),
        }
        for row in rows
    ]
