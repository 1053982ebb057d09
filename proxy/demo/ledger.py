"""What customers have received against what is in the log, record by record: was anything lost?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

__all__ = ["ClientLedger"]

_PAGE: Final = 500
_PAUSE_S: Final = 0.2


@dataclass(slots=True)
class ClientLedger:
    """Answers received and votes accepted, less those that were found in the log."""

    answers: int = 0
    votes: int = 0
    unlogged: set[str] = field(default_factory=set)
    """Record ids of answers that were not found in the log yet."""
    uncounted: set[str] = field(default_factory=set)
    """Record ids whose vote was not found there yet."""

    @property
    def logged(self) -> int:
        """Answers that were found in the log."""
        return self.answers - len(self.unlogged)

    @property
    def counted(self) -> int:
        """Votes that were found there."""
        return self.votes - len(self.uncounted)

    @property
    def lost(self) -> int:
        """Answers and votes that were not found."""
        return len(self.unlogged) + len(self.uncounted)

    def answered(self, record_id: str) -> None:
        """A customer has the whole answer."""
        self.answers += 1
        self.unlogged.add(record_id)

    def voted(self, record_id: str) -> None:
        """A customer's vote was accepted."""
        self.votes += 1
        self.uncounted.add(record_id)

    async def look(self, admin: aiohttp.ClientSession) -> None:
        """Tick off what is among the newest records, page by page until a page settles nothing."""
        cursor: str | None = None
        while self.lost:
            page = await _page(admin, cursor)
            settled, cursor = self._tick_off(page["records"]), page["cursor"]
            if not settled or cursor is None:
                return

    async def settle(self, admin: aiohttp.ClientSession, *, limit_s: float) -> None:
        """Once nobody asks any more: search the whole log until everything is found, `limit_s` at the most."""
        try:
            async with asyncio.timeout(limit_s):
                while self.lost:
                    await self._search(admin)
                    await asyncio.sleep(_PAUSE_S if self.lost else 0)
        except TimeoutError:
            return  # what is left then is lost

    async def _search(self, admin: aiohttp.ClientSession) -> None:
        cursor: str | None = None
        try:
            while self.lost:
                page = await _page(admin, cursor)
                self._tick_off(page["records"])
                cursor = page["cursor"]
                if cursor is None:
                    return
        except aiohttp.ClientError:
            return  # the controller may be restarting

    def _tick_off(self, records: list[dict[str, Any]]) -> int:
        before = self.lost
        self.unlogged.difference_update(record["record_id"] for record in records)
        self.uncounted.difference_update(record["record_id"] for record in records if record["feedback"] is not None)
        return before - self.lost


async def _page(admin: aiohttp.ClientSession, cursor: str | None) -> dict[str, Any]:
    params = {"limit": str(_PAGE)} | ({} if cursor is None else {"cursor": cursor})
    async with admin.get("/api/records", params=params) as response:
        response.raise_for_status()
        found: dict[str, Any] = await response.json()
        return found
