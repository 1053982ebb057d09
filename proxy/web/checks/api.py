"""The checks API of the admin port: what each check found, and the answers that it compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.store.store import Store
from proxy.web.checks.documents import check_document, comparison_document, known_check, page_of, wanted_of
from proxy.web.numbers import whole_of
from proxy.web.responses import ApiError, JsonResponse, reachable

__all__ = ["ChecksApi"]

_MOST_CHECKS: Final = 500
_MOST_COMPARISONS: Final = 200


class ChecksApi:
    """GET /api/checks, /api/checks/{id} and /api/checks/{id}/comparisons."""

    def __init__(self, store: Callable[[], Store | None]) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """Where the three are found."""
        return [
            Route("/api/checks", self.list),
            Route("/api/checks/{id:row}", self.show),
            Route("/api/checks/{id:row}/comparisons", self.comparisons),
        ]

    async def list(self, request: Request) -> Response:
        """Checks, newest first; those of one model with `challenger`."""
        store = reachable(self._store())
        limit = whole_of(request, "limit", 50, most=_MOST_CHECKS)
        names = {model.id: model.name for model in await store.models.list()}
        wanted = request.query_params.get("challenger")
        ids = {name: model_id for model_id, name in names.items()}
        if wanted is not None and wanted not in ids:
            raise ApiError(400, f"challenger: there is no model {wanted[:80]!r}", field="challenger")
        found = await store.checks.list(None if wanted is None else ids[wanted], limit)
        return JsonResponse({"checks": [check_document(check, names) for check in found]})

    async def show(self, request: Request) -> Response:
        """One check with its report, its counts, and how people chose."""
        store = reachable(self._store())
        check = await known_check(store, request.path_params["id"])
        names = {model.id: model.name for model in await store.models.list()}
        counts, chosen = await store.comparison_pages.counts(check.id), await store.preferences.counts(check.id)
        more = {
            "comparisons": {"total": counts.compared, "worse": counts.worse, "better": counts.better},
            "preferences": {
                "champion": chosen.champion,
                "challenger": chosen.challenger,
                "tie": chosen.tie,
            },
        }
        return JsonResponse(check_document(check, names) | more)

    async def comparisons(self, request: Request) -> Response:
        """A page of the answers that were compared: {"comparisons": […], "cursor": …}."""
        store = reachable(self._store())
        limit = whole_of(request, "limit", 50, most=_MOST_COMPARISONS)
        wanted = wanted_of(request.query_params)
        check = await known_check(store, request.path_params["id"])
        page = await page_of(store.comparison_pages, check.id, wanted, request.query_params.get("cursor"), limit)
        chosen = await store.preferences.of(check.id, [row.item for row in page.rows])
        rows = [comparison_document(row, chosen.get(row.item, {})) for row in page.rows]
        return JsonResponse({"comparisons": rows, "cursor": page.cursor})
