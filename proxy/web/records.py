"""The records API of the admin port: lists with filters, and one record with everything about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.clock import Clock
from proxy.ids import ForgedIdError, KeyRing, RecordIds
from proxy.store.store import Store
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import RecordView
from proxy.web.documents import iso, judgement_documents, parse_filter, record_document, row_document
from proxy.web.numbers import whole_of
from proxy.web.responses import ApiError, JsonResponse, reachable

__all__ = ["MAX_LIMIT", "RecordsApi", "find_record", "full_document"]

MAX_LIMIT: Final = 500


class RecordsApi:
    """GET /api/records and GET /api/records/{id}."""

    def __init__(self, store: Callable[[], Store | None], keys: KeyRing, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._ids = RecordIds(keys)
        self._clock = clock

    def routes(self) -> list[Route]:
        """Where the two are found."""
        return [Route("/api/records", self.list), Route("/api/records/{id}", self.show)]

    async def list(self, request: Request) -> Response:
        """A page of records, newest first: {"records": […], "cursor": …, "searched_to": …}.

        Hand the cursor back to go on, from the instant `searched_to` backwards; both are null at the end.
        """
        params = dict(request.query_params)
        limit = whole_of(request, "limit", 50, most=MAX_LIMIT)
        cursor, _ = params.pop("cursor", None), params.pop("limit", None)
        if cursor is not None and not is_record_id(cursor):
            raise ApiError(400, "cursor: not valid; use the cursor that the list returned", field="cursor")
        store = reachable(self._store())
        try:
            models = {model.name: model.id for model in await store.models.list()} if "model" in params else {}
            criteria = parse_filter(params, self._keys, models, self._clock.now())
            page = await store.records.list(criteria, cursor=cursor, limit=limit)
        except ValueError as exc:
            raise ApiError(400, str(exc), field=str(exc).partition(":")[0]) from exc
        rows = [row_document(row, self._ids) for row in page.rows]
        searched_to = iso(page.searched_to_us) if page.searched_to_us is not None else None
        return JsonResponse({"records": rows, "cursor": page.cursor, "searched_to": searched_to})

    async def show(self, request: Request) -> Response:
        """One record by its id, its signed id, or another name of it (provider's or client-chosen id)."""
        store = reachable(self._store())
        view = await find_record(store, self._ids, request.path_params["id"])
        if view is None:
            message = "there is no such record; it may not be stored yet, or retention has deleted it"
            raise ApiError(404, message)
        return JsonResponse(await full_document(store, self._ids, view))


async def full_document(store: Store, ids: RecordIds, view: RecordView) -> dict[str, Any]:
    """Everything about one record, with what judges said of it. Raises TemporaryError."""
    document = record_document(view, ids, await store.models.get(view.row.model_id))
    return {**document, "judgements": judgement_documents(await store.judgements.of_record(view.row.id))}


async def find_record(store: Store, ids: RecordIds, name: str) -> RecordView | None:
    """The record that a person calls `name`: its signed id, its UUID with or without hyphens, or an alias."""
    try:
        return await store.records.get(ids.verify(name))
    except ForgedIdError:
        pass
    compact = name.replace("-", "").lower()
    found = await store.records.get(compact) if is_record_id(compact) else None
    return found or await store.records.get(name)
