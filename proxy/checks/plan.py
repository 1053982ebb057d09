"""What one check is to do: whom it asks what, how it compares, and when it ends."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.draw import Drawn
from policies.scoring import ScoringConfig
from proxy.checks.golden import GoldenFile
from proxy.checks.ports import Asked, AskedModel
from proxy.checks.prompts import Recorded
from proxy.checks.weighing import Weigher
from proxy.config.gate import ChecksConfig

__all__ = ["CheckPlan", "Conversations"]


class Conversations(Protocol):
    """Where recorded questions come from (`proxy.checks.prompts`)."""

    async def draw(self) -> Sequence[Drawn]:
        """What to ask, in order; the same for whoever goes on with the check."""
        ...

    async def get(self, record_id: str) -> Recorded | None:
        """One of them; None where it is gone by now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """What is checked, and how."""

    challenger: AskedModel
    champion: AskedModel | None
    """None: nobody can be asked anew, and a golden case is lost by whoever does not pass it."""
    config: ChecksConfig
    scoring: ScoringConfig
    cases: GoldenFile | None = None
    conversations: Conversations | None = None
    weigher: Weigher | None = None
    """Compares conversations; None: only what is visible counts."""
    rubrics: Weigher | None = None
    """Judges golden cases that have a rubric."""
    warm_up: Sequence[Asked] = ()
    warmed: int = 0
    """How many of them were answered before this process began."""
    deadline_s: float
    """Of the clock's wall time (Unix seconds)."""
    tls: ssl.SSLContext | None = None
    """Whom to trust beside the system's authorities."""
    patience_s: float
    """How long a server may be away before that holds the check."""
