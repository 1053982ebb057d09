"""What a check works on: two models, what they are asked, and a place to keep what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from policies.gate import CheckReport
from policies.rewrite import Rewrite
from proxy.store.control.comparisons import ComparedRow

__all__ = ["Asked", "AskedModel", "CheckLedger", "Headers"]

Headers: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedModel:
    """Where a model is asked, and how."""

    name: str
    url: str
    """Base URL."""
    model: str | None = None
    """What the JSON `model` field of requests is set to; None leaves what they say."""
    headers: Headers = field(default_factory=dict, repr=False)
    """The credential, where there is one."""
    rewrite: Rewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, as a client once sent it or somebody wrote it into the golden file."""

    target: str
    """Path and query."""
    body: bytes
    headers: Headers = field(default_factory=dict)
    """Without credentials, which are never kept."""


class CheckLedger(Protocol):
    """What a check has found so far: whoever goes on with it asks nothing again that stands here."""

    async def rows(self) -> Sequence[ComparedRow]:
        """Everything, without texts."""
        ...

    async def texts(self, item: str) -> Mapping[str, Any] | None:
        """The texts of one item, see `ComparedRow.data`; None where there is no such item."""
        ...

    async def add(self, row: ComparedRow) -> None:
        """Keep both answers; an item that is there already stays."""
        ...

    async def settle(self, item: str, outcome: float | None, facts: Mapping[str, Any]) -> None:
        """Write down what is known of an item by now."""
        ...

    async def report(self, report: CheckReport) -> None:
        """Keep what can be said so far."""
        ...
