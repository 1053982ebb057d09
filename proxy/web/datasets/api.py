"""The datasets API of the admin port: one dataset, its lines page by page, and what changed since the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.store.store import Store
from proxy.web.datasets.folder import SPLITS, WHY
from proxy.web.datasets.reader import DatasetReader
from proxy.web.numbers import whole_of
from proxy.web.responses import ApiError, JsonResponse, reachable

__all__ = ["DatasetsApi", "page_of", "split_of", "why_of"]

_MAX_LINES: Final = 100
_LAST_PAGE: Final = 10**9 - 1


class DatasetsApi:
    """GET /api/datasets/{run}, /api/datasets/{run}/lines and /api/datasets/{run}/diff."""

    def __init__(self, store: Callable[[], Store | None], training_dir: Path) -> None:
        self._store = store
        self._training_dir = training_dir

    def routes(self) -> list[Route]:
        """Where the three are found."""
        return [
            Route("/api/datasets/{run}", self.show),
            Route("/api/datasets/{run}/lines", self.lines),
            Route("/api/datasets/{run}/diff", self.diff),
        ]

    async def show(self, request: Request) -> Response:
        """Counts, reasons with examples, whose answers, size and cost."""
        try:
            return JsonResponse(await self._reader().document(request.path_params["run"]))
        except LookupError as exc:
            raise ApiError(404, str(exc)) from exc

    async def lines(self, request: Request) -> Response:
        """A page of lines as conversations, with their provenance."""
        limit = whole_of(request, "limit", 20, most=_MAX_LINES)
        reader, run = self._reader(), request.path_params["run"]
        try:
            await reader.document(run, examples=0)
            return JsonResponse(await reader.lines(run, split_of(request), page_of(request), limit, why_of(request)))
        except LookupError as exc:
            raise ApiError(404, str(exc)) from exc

    async def diff(self, request: Request) -> Response:
        """What changed since the dataset before it, or since that of the run `with`."""
        former = request.query_params.get("with")
        try:
            return JsonResponse(await self._reader().difference(request.path_params["run"], former))
        except LookupError as exc:
            raise ApiError(404, str(exc)) from exc

    def _reader(self) -> DatasetReader:
        return DatasetReader(self._training_dir, reachable(self._store()))


def split_of(request: Request) -> str:
    """The `split` that a request names, train without. Raises ApiError 400."""
    split = request.query_params.get("split", "train")
    if split not in SPLITS:
        raise ApiError(400, f"split: not one of {', '.join(SPLITS)}", field="split")
    return split


def why_of(request: Request) -> str | None:
    """By what a request chooses lines (`why`); None without. Raises ApiError 400."""
    why = request.query_params.get("why")
    if why is not None and why not in WHY:
        raise ApiError(400, f"why: not one of {', '.join(WHY)}", field="why")
    return why


def page_of(request: Request) -> int:
    """The `page` that a request names, from 1 on. Raises ApiError 400."""
    return whole_of(request, "page", 1, most=_LAST_PAGE)
