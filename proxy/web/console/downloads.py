"""Everything that a filter of Records finds, as a file: JSON lines, or CSV for a spreadsheet.

The list is walked page by page while the browser takes it, so that no file is ever in memory, and neither how long it
is nor how slow its reader matters. What comes in while it is written is not in it. Should the store go away meanwhile,
the download breaks off: a browser then says that it failed, instead of keeping half of it for the whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter
from proxy.web.console.page import Console
from proxy.web.documents import ROW_NAMES, row_document
from proxy.web.responses import ApiError

__all__ = ["COUNTED", "FORMATS", "count_of", "csv_lines", "download"]

COUNTED: Final = 10_000
"""A page counts so many records; beyond it says "more than"."""
_PAGES_COUNTED: Final = 40
"""Looks at so many pages for it: a filter that finds little may have to look at much."""
_PAGES_READ: Final = 10
"""The same where each record's text has to be read."""
_PAGE: Final = 100
_COUNT_PAGE: Final = 500
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMATS: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


async def download(console: Console, request: Request, criteria: RecordFilter) -> Response:
    """The answer: a file of all records that match, newest first. Raises ApiError 400 for another format."""
    form = request.query_params.get("format", "jsonl")
    if form not in FORMATS:
        raise ApiError(400, f"format: not one of {', '.join(FORMATS)}", field="format")
    store = console.store
    documents = _documents(console, store, criteria)
    at = datetime.fromtimestamp(console.services.clock.now(), UTC).strftime("%Y%m%d-%H%M%S")
    headers = {
        "content-disposition": f'attachment; filename="ratchet-records-{at}.{form}"',
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    lines = csv_lines(documents, ROW_NAMES) if form == "csv" else _json_lines(documents)
    return StreamingResponse(lines, media_type=FORMATS[form], headers=headers)


async def count_of(store: Store, criteria: RecordFilter) -> tuple[int, bool]:
    """How many records match, and whether there may be more of them than were looked for."""
    found, cursor = 0, None
    for _ in range(_PAGES_READ if criteria.text else _PAGES_COUNTED):
        page = await store.records.list(criteria, cursor=cursor, limit=_COUNT_PAGE, texts=False)
        found, cursor = found + len(page.rows), page.cursor
        if cursor is None or found >= COUNTED:
            break
    return found, cursor is not None


async def _documents(console: Console, store: Store, criteria: RecordFilter) -> AsyncIterator[list[dict[str, Any]]]:
    """What lists show of the records, a page at a time."""
    cursor = None
    while True:
        page = await store.records.list(criteria, cursor=cursor, limit=_PAGE)
        yield [row_document(row, console.ids) for row in page.rows]
        if (cursor := page.cursor) is None:
            return


async def _json_lines(pages: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    async for documents in pages:
        yield b"".join(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents)


async def csv_lines(pages: AsyncIterator[list[dict[str, Any]]], names: Sequence[str]) -> AsyncIterator[bytes]:
    """Rows under a header, which is there without rows, too. What a spreadsheet would take for a formula has an
    apostrophe before it."""
    yield _csv([names])
    async for documents in pages:
        yield _csv(_cells(document, names) for document in documents)


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(document: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    return [_cell(document.get(name)) for name in names]


def _cell(value: Any) -> Any:
    """A number as it is, a text as a text, anything else as JSON."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if text.startswith(_FORMULAS) else text
