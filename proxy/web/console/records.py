"""Records: search and filter, and one exchange with everything that is known about it.

Lists are pages by key (never an offset, never a count), so the last page of a million costs what the first does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.ballots import can_be_judged
from policies.kinds import TASK
from policies.records import Arm, Outcome
from policies.wording import many
from proxy.errors import TemporaryError
from proxy.store.tables.columns import SHOWN
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import RecordFilter, RecordRow
from proxy.web.console.downloads import COUNTED, count_of, download
from proxy.web.console.page import Console
from proxy.web.console.pending import PendingVotes
from proxy.web.console.voting import name_of, standing_votes, voting_context
from proxy.web.console.wording import no_sample_words
from proxy.web.documents import iso, parse_filter, row_document
from proxy.web.records import find_record, full_document
from proxy.web.responses import ApiError
from proxy.wire.extract.shapes import KINDS
from proxy.wire.lenient import crowded

__all__ = ["record_routes"]

_PAGE: Final = 50
_HASH_DIGITS: Final = 16
_SHOWN_CHARS: Final = 65_536
_HASHES: Final = {"user_hash": "user_hash", "conversation_hash": "conversation"}
"""Fields that give a hash itself, as pages link to it, and what they look for."""
_FIELDS: Final = ("text", "since", "arm", "model", "status", "outcome", "kind", "feedback", "min_quality",
                  "max_quality", "tag", "user", "conversation", "experiment", *_HASHES)  # fmt: skip


def record_routes(console: Console, pending: PendingVotes) -> list[Route]:
    """GET /records, its records as a file, their number, and /records/{id}."""
    pages = _Pages(console, pending)
    return [
        Route("/records", console.page(pages.list)),
        Route("/records/download", console.page(pages.download)),
        Route("/records/count", console.page(pages.count)),
        Route("/records/{id}", console.page(pages.show)),
    ]


class _Pages:
    def __init__(self, console: Console, pending: PendingVotes) -> None:
        self._console = console
        self._pending = pending

    async def list(self, request: Request) -> Response:
        fields, cursor = _fields(request), request.query_params.get("cursor", "").strip() or None
        store = self._console.store
        models = {model.name: model.id for model in await store.models.list()}
        context: dict[str, Any] = {
            "fields": dict.fromkeys(_FIELDS, "") | fields,
            "models": list(models),
            "arms": [arm.label for arm in Arm],
            "outcomes": [outcome.label for outcome in Outcome],
            "kinds": [*KINDS, f"-{TASK.name}"],
            "first_page": cursor is None,
            "rows": [],
            "older": None,
            "searched_to": None,
            "newest": f"/records?{urlencode(fields)}",
            "filter": urlencode(fields),
            "mistake": None,
            "who": (who := name_of(request)),
            "can_vote": self._console.services.vote is not None,
            "own": {},
        }
        try:
            if cursor is not None and not is_record_id(cursor):
                raise ValueError("cursor: not valid; use the cursor that the list returned")
            criteria = self._criteria(fields, models)
            page = await store.records.list(criteria, cursor=cursor, limit=_PAGE)
        except ValueError as exc:
            return await self._console.render(request, "records.html", context | {"mistake": str(exc)}, status_code=400)
        context["rows"] = [row_document(row, self._console.ids) for row in page.rows]
        if context["can_vote"]:
            context["own"] = await self._own_votes(who, page.rows)
        if page.cursor and page.searched_to_us is not None:
            context["searched_to"] = iso(page.searched_to_us)
            context["older"] = f"/records?{urlencode({**fields, 'cursor': page.cursor})}"
        return await self._console.render(request, "records.html", context)

    async def _own_votes(self, who: str, rows: Sequence[RecordRow]) -> dict[str, Any]:
        """What this person says of each record of a page, whether a vote on it waits to be stored, and whether one
        would count."""
        found: dict[str, Any] = {}
        stored = await self._console.store.records.votes_on([row.id for row in rows])
        for row in rows:
            waiting = self._pending.waiting(row.id, stored[row.id])
            found[row.id] = {
                **standing_votes(row.id, self._pending.joined(row.id, stored[row.id]), who),
                "pending": waiting[-1].fid if waiting else None,
                "judgeable": can_be_judged(row.outcome, row.status),
            }
        return found

    async def download(self, request: Request) -> Response:
        """All records of the filter, not only a page of them."""
        return await download(self._console, request, await self._asked(request))

    async def count(self, request: Request) -> Response:
        """How many that are, as far as a page can count."""
        try:
            found, more = await count_of(self._console.store, await self._asked(request))
        except TemporaryError as exc:
            return await self._console.partial("count.html", {"why": str(exc)})
        return await self._console.partial("count.html", {"found": found, "more": more, "most": COUNTED, "why": None})

    async def _asked(self, request: Request) -> RecordFilter:
        models = {model.name: model.id for model in await self._console.store.models.list()}
        try:
            return self._criteria(_fields(request), models)
        except ValueError as exc:
            raise ApiError(400, str(exc)) from exc

    def _criteria(self, fields: dict[str, str], models: dict[str, int]) -> RecordFilter:
        services = self._console.services
        named = {name: text for name, text in fields.items() if name not in _HASHES}
        criteria = parse_filter(named, services.keys, models, services.clock.now())
        hashes: dict[str, Any] = {_HASHES[name]: _hash(name, text) for name, text in fields.items() if name in _HASHES}
        return replace(criteria, **hashes)

    async def show(self, request: Request) -> Response:
        view = await find_record(self._console.store, self._console.ids, request.path_params["id"])
        if view is None:
            raise ApiError(404, "There is no such record. It may not have been ingested yet, or retention dropped it.")
        record = await full_document(self._console.store, self._console.ids, view)
        exchange = record["exchange"]
        shown = None if exchange is None else {
            **exchange,
            "request": _readable(exchange["request"]),
            "rewritten": exchange["rewritten"] and _readable(exchange["rewritten"]),
            "response": _readable(exchange["response"]),
        }  # fmt: skip
        context = {
            "record": record,
            "exchange": shown,
            "created_s": view.row.created_us / 1e6,
            **voting_context(view, self._pending, name_of(request), self._console.services.vote is not None),
            "no_sample": no_sample_words(view),
            "more": [(column.label, record[name]) for name, column in SHOWN if column.label is not None],
        }
        return await self._console.render(request, "record.html", context)


def _fields(request: Request) -> dict[str, str]:
    """What the filter says, by field: only what is filled in."""
    params = {name: text.strip() for name, text in request.query_params.items()}
    return {name: text for name, text in params.items() if text and name in _FIELDS}


def _hash(name: str, text: str) -> int:
    """The inverse of `documents.user_text`; `name` is the field's, for the message."""
    try:
        value = int(text, 16)
    except ValueError as exc:
        raise ValueError(f"{name}: not hexadecimal") from exc
    if len(text) > _HASH_DIGITS:
        raise ValueError(f"{name}: more than 16 digits")
    return value - 2**64 if value >= 2**63 else value


def _readable(text: str) -> str:
    """JSON indented, other text as it is; long ones cut, with a word about it. What is not shown is not written."""
    shown = text
    if not crowded(text):
        with suppress(ValueError, RecursionError):
            shown = _indented(json.loads(text))
    if len(shown) <= _SHOWN_CHARS:
        return shown
    return f"{shown[:_SHOWN_CHARS]}\n… cut; all of its {many(len(text))} characters: see /api/records"


def _indented(value: Any) -> str:
    """JSON text, one character more of it than is shown at most: indented, a kilobyte of brackets is a megabyte."""
    pieces: list[str] = []
    left = _SHOWN_CHARS
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        pieces.append(piece[: left + 1])
        left -= len(piece)
        if left < 0:
            break
    return "".join(pieces)
