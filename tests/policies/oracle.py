"""Numbers of an independent reference implementation of docs/statistics.md, pinned: see data/oracle.json.

The reference knows six metrics, in our order; of those that came later nobody is observed there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policies.estimates import METRICS, Moments, UserTotals

ORACLE: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "data" / "oracle.json").read_text())


def moments(users: list[list[list[float]]]) -> Moments:
    """An arm from its users' (counts, sums)."""
    total = Moments()
    for n, s in users:
        later = [0.0] * (len(METRICS) - len(n))
        total = total.replaced(None, UserTotals(n=(*n, *later), s=(*s, *later)).vector())
    return total
