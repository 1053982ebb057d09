"""Two places to keep what a check finds: the store, or memory for one that a person runs by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from policies.gate import CheckReport
from proxy.store.control.comparisons import ComparedRow
from proxy.store.store import Store

__all__ = ["MemoryLedger", "StoreLedger"]


class StoreLedger:
    """In the store: a check goes on after whatever ended its process."""

    def __init__(self, store: Store, check_id: int) -> None:
        self._store = store
        self._check_id = check_id

    async def rows(self) -> Sequence[ComparedRow]:
        """See `CheckLedger`."""
        return await self._store.comparisons.of_check(self._check_id)

    async def texts(self, item: str) -> Mapping[str, Any] | None:
        """See `CheckLedger`."""
        row = await self._store.comparisons.get(self._check_id, item)
        return None if row is None else row.data

    async def add(self, row: ComparedRow) -> None:
        """See `CheckLedger`."""
        await self._store.comparisons.add(replace(row, check_id=self._check_id))

    async def settle(self, item: str, outcome: float | None, facts: Mapping[str, Any]) -> None:
        """See `CheckLedger`."""
        await self._store.comparisons.settle(self._check_id, item, outcome, facts)

    async def report(self, report: CheckReport) -> None:
        """See `CheckLedger`."""
        await self._store.checks.report(self._check_id, report.document(), report.verdict and report.verdict.value)


class MemoryLedger:
    """In memory."""

    def __init__(self) -> None:
        self.kept: dict[str, ComparedRow] = {}

    async def rows(self) -> Sequence[ComparedRow]:
        """See `CheckLedger`."""
        return list(self.kept.values())

    async def texts(self, item: str) -> Mapping[str, Any] | None:
        """See `CheckLedger`."""
        return self.kept[item].data if item in self.kept else None

    async def add(self, row: ComparedRow) -> None:
        """See `CheckLedger`."""
        self.kept.setdefault(row.item, row)

    async def settle(self, item: str, outcome: float | None, facts: Mapping[str, Any]) -> None:
        """See `CheckLedger`."""
        self.kept[item] = replace(self.kept[item], outcome=outcome, facts=dict(facts))

    async def report(self, report: CheckReport) -> None:
        """There is nobody to tell before the end."""
