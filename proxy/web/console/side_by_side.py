"""Side by side: one question, two answers, and which is better? By keyboard, and blind.

Blind, the page does not say whose answer is whose until this person has chosen: sides are drawn by a keyed hash, no
outcome, no name and no link to the record is on it, and lists that are made of outcomes end it. What a person chose is
sent as `left` or `right`, and only the server knows what that means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from policies.rows import Check
from proxy.errors import TemporaryError
from proxy.store.control.comparison_pages import ComparisonFilter, Show
from proxy.store.control.comparisons import ComparedRow
from proxy.store.control.preferences import Choice
from proxy.web.checks.answers import Place, choice_of, pair_of, place_of
from proxy.web.checks.documents import known_check, wanted_of
from proxy.web.console.actions import form_of, refuse_other_sites
from proxy.web.console.checks import SHOWN, tags_of
from proxy.web.console.page import Console, is_fragment
from proxy.web.responses import ApiError

__all__ = ["side_by_side_routes"]

_BLIND: Final = (Show.OPEN, Show.ALL)
"""Lists that tell nothing of an outcome."""
_LONGEST_ITEM: Final = 100
_PLACES: Final[tuple[str, ...]] = get_args(Place)
_UNNAMED: Final = "Say who you are first: your choices are kept under that name."


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What a person looks at, as the address says."""

    wanted: ComparisonFilter
    blind: bool
    item: str | None = None
    last: str | None = None
    """What was chosen just now, and can be taken back."""

    @classmethod
    def of(cls, params: Mapping[str, str]) -> _View:
        """From query or form. Raises ApiError 400."""
        wanted = wanted_of(params, Show.OPEN)
        item, last = (params.get(name, "").replace("\0", "")[:_LONGEST_ITEM] or None for name in ("item", "last"))
        blind = params.get("blind", "1") != "0" and wanted.show in _BLIND
        return cls(wanted=wanted, blind=blind, item=item, last=last)

    def link(self, check: Check, **changes: str | None) -> str:
        """The address of this view with other parameters; None leaves one out."""
        now = {
            "item": self.item,
            "who": self.wanted.who,
            "show": self.wanted.show.value,
            "tag": self.wanted.tag,
            "blind": "1" if self.blind else "0",
        }
        query = {name: value for name, value in {**now, **changes}.items() if value}
        return f"/checks/{check.id}/side-by-side?{urlencode(query)}"


def side_by_side_routes(console: Console) -> list[Route]:
    """GET /checks/{id}/side-by-side, POST /checks/{id}/prefer."""
    pages = _Pages(console)
    return [
        Route("/checks/{id:row}/side-by-side", console.page(pages.page)),
        Route("/checks/{id:row}/prefer", console.page(pages.prefer), methods=["POST"]),
    ]


class _Pages:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def page(self, request: Request) -> Response:
        store, view = self._console.store, _View.of(request.query_params)
        check = await known_check(store, request.path_params["id"])
        if view.item is not None:
            row = await store.comparisons.get(check.id, view.item)
            if row is None:
                raise ApiError(404, "There is no such comparison. Retention may have deleted it.")
        else:
            row = await store.comparison_pages.first(check.id, view.wanted)
        return await self._render(request, check, view, row)

    async def prefer(self, request: Request) -> Response:
        """Keep a choice and show the next comparison; `undo` takes the last one back and shows it again."""
        refuse_other_sites(request)
        form = await form_of(request)
        store, view = self._console.store, _View.of(form)
        check, who, place = await known_check(store, request.path_params["id"]), view.wanted.who, form.get("choice", "")
        if place != "undo" and place not in _PLACES:
            return await self._said("Choose left, right or tie.")
        if not who:
            return await self._said(_UNNAMED)
        row = None if view.item is None else await store.comparisons.get(check.id, view.item)
        if row is None:
            return await self._said("This comparison is no longer there: retention has deleted it.")
        try:
            if place == "undo":
                await store.preferences.withdraw(check.id, row.item, who)
                shown: ComparedRow | None = row
            else:
                choice = choice_of(cast(Place, place), self._order(check, view, row))
                await store.preferences.put(check.id, row.item, who, choice)
                shown = await store.comparison_pages.after(row, view.wanted)
        except TemporaryError as exc:
            return await self._said(str(exc), 503)
        there = replace(view, item=None if shown is None else shown.item, last=row.item)
        address = there.link(check, last=row.item)
        if not is_fragment(request):
            return RedirectResponse(address, 303)
        response = await self._render(request, check, there, shown, ended=shown is None)
        response.headers["hx-push-url"] = address
        return response

    def _order(self, check: Check, view: _View, row: ComparedRow) -> tuple[Choice, Choice]:
        if not view.blind:
            return "champion", "challenger"
        return place_of(self._console.services.keys, check.id, row.item, view.wanted.who)

    async def _render(
        self, request: Request, check: Check, view: _View, row: ComparedRow | None, *, ended: bool = False
    ) -> Response:
        store, who = self._console.store, view.wanted.who
        items = [item for item in (view.last, None if row is None else row.item) if item is not None]
        chosen = await store.preferences.of(check.id, items)
        context: dict[str, Any] = {
            "check": check,
            "names": {model.id: model.name for model in await store.models.list()},
            "view": view,
            "row": row,
            "ended": ended,
            "counts": await store.comparison_pages.counts(check.id),
            "chosen": await store.preferences.counts(check.id, who),
            "noted": None if view.last is None else view.wanted.who in chosen.get(view.last, {}),
            "shown": {Show.OPEN: "Not chosen yet", **SHOWN},
            "tags": tags_of(check, () if row is None else (row,)),
            "blind_lists": _BLIND,
            "link": lambda **changes: view.link(check, **changes),
        }
        if row is not None:
            context |= await self._compared(check, view, row, chosen.get(row.item, {}))
        return await self._console.render(request, "side_by_side.html", context)

    async def _compared(
        self, check: Check, view: _View, row: ComparedRow, chosen: Mapping[str, Choice]
    ) -> dict[str, Any]:
        """What a page says of one comparison; `mine` is left, right or tie."""
        order, pages = self._order(check, view, row), self._console.store.comparison_pages
        mine = chosen.get(view.wanted.who) if view.wanted.who else None
        return {
            "pair": await asyncio.to_thread(pair_of, row, order),
            "mine": _place(mine, order),
            "open": not view.blind or mine is not None,
            "others": {who: choice for who, choice in chosen.items() if who != view.wanted.who},
            "next": await pages.after(row, view.wanted),
            "former": await pages.before(row, view.wanted),
        }

    async def _said(self, message: str, status_code: int = 422) -> Response:
        response = await self._console.partial("refusal.html", {"message": message}, status_code=status_code)
        response.headers["hx-retarget"] = "#prefer-answer"
        return response


def _place(choice: Choice | None, order: tuple[Choice, Choice]) -> Literal["left", "right", "tie"] | None:
    if choice is None or choice == "tie":
        return choice
    return "left" if choice == order[0] else "right"
