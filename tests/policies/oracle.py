"""Numbers of an independent reference implementation of docs/statistics.md, pinned: see data/oracle.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policies.estimates import Moments, UserTotals

ORACLE: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "data" / "oracle.json").read_text())


def moments(users: list[list[list[float]]]) -> Moments:
    """An arm from its users' (counts, sums)."""
    total = Moments()
    for n, s in users:
        total = total.replaced(None, UserTotals(n=tuple(n), s=tuple(s)).vector())
    return total
