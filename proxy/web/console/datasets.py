"""Datasets: what a training file teaches, line by line; whose answers these are, what was left out, what changed."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.wording import many
from proxy.web.console.page import Console
from proxy.web.datasets import SPLITS, DatasetReader
from proxy.web.datasets.api import page_of, split_of, why_of
from proxy.web.responses import ApiError

__all__ = ["dataset_routes"]

_PAGE: Final = 20
_SHOWN_CHARS: Final = 6_000
"""Of one thing that was said; `/api/datasets` has all of it."""
_PICTURES_CHARS: Final = 3_000_000
"""Thumbnails on one page."""

_T = TypeVar("_T")


def dataset_routes(console: Console, training_dir: Path) -> list[Route]:
    """GET /runs/{id}/data and /runs/{id}/diff."""

    def reader() -> DatasetReader:
        return DatasetReader(training_dir, console.store)

    async def data(request: Request) -> Response:
        run, split, number = request.path_params["id"], split_of(request), page_of(request)
        why, reason = why_of(request), request.query_params.get("reason")
        datasets = reader()
        document = await _there(datasets.document(run))
        page = await datasets.lines(run, split, number, _PAGE, why)
        if page["lines"] is not None:
            page["lines"] = _fitting(page["lines"])
        context = {
            "d": document,
            "page": page,
            "splits": [name for name in SPLITS if document["files"][name] is not None],
            "left": await datasets.left(run, _PAGE) if page["lines"] is None else [],
            "why": why,
            "reason": None if reason is None else await _there(datasets.left_out(run, reason)),
            **_pager(run, split, page, why),
        }
        return await console.render(request, "dataset.html", context)

    async def diff(request: Request) -> Response:
        run, datasets = request.path_params["id"], reader()
        document = await _there(datasets.document(run, examples=0))
        former = request.query_params.get("with") or document["former"]
        found = None if former is None else await _there(datasets.difference(run, former))
        context = {"d": document, "diff": found, "former": former, "others": await datasets.others(run)}
        return await console.render(request, "difference.html", context)

    return [Route("/runs/{id}/data", console.page(data)), Route("/runs/{id}/diff", console.page(diff))]


async def _there(work: Awaitable[_T]) -> _T:
    try:
        return await work
    except LookupError as exc:
        raise ApiError(404, str(exc)) from exc


def _fitting(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Long texts cut, with a word about it; no more pictures than a page can bear."""
    left = _PICTURES_CHARS
    for line in lines:
        for row in line["rows"]:
            if len(row["text"]) > _SHOWN_CHARS:
                more = len(row["text"]) - _SHOWN_CHARS
                row["text"] = f"{row['text'][:_SHOWN_CHARS]}\n… {many(more)} more characters"
            if row["picture"] is not None:
                left -= len(row["picture"])
                row["picture"] = row["picture"] if left >= 0 else None
    return lines


def _pager(run: str, split: str, page: dict[str, Any], why: str | None) -> dict[str, Any]:
    """Links around a page; the last one is the newest."""
    last = max(1, -(-(page["total"] or 0) // _PAGE))
    number, chosen = page["page"], {} if why is None else {"why": why}

    def link(to: int) -> str:
        return f"/runs/{run}/data?{urlencode({'split': split, **chosen, 'page': to})}#lines"

    return {
        "last": last,
        "to_older": link(min(number - 1, last)) if number > 1 else None,
        "to_newer": link(number + 1) if number < last else None,
        "to_last": link(last) if number < last else None,
    }
