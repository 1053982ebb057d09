"""What a chart is made of, as the script in the page understands it: columns over one axis of time, plus a sentence.

    {"x": [Unix s], "series": [{"label", "role", "values"}], "unit", "lines": [{"label", "value"}], "summary"}

`role` decides the colour: champion, challenger, control, estimate, or bound; two series of role bound enclose a band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from policies.records import Arm

__all__ = ["Unit", "arm_chart", "chart", "series"]

Unit = Literal["share", "change", "seconds", "count", "score"]


def series(label: str, role: str, values: Sequence[float | None]) -> dict[str, Any]:
    """One line of a chart; None leaves a gap."""
    return {"label": label, "role": role, "values": list(values)}


def chart(
    x: Sequence[float],
    lines: Sequence[Mapping[str, Any]],
    *,
    unit: Unit,
    summary: str,
    marks: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A chart as JSON. `marks` are horizontal lines by name."""
    named = [{"label": label, "value": value} for label, value in (marks or {}).items()]
    return {"x": list(x), "series": list(lines), "unit": unit, "lines": named, "summary": summary}


def arm_chart(
    x: Sequence[float], by_arm: Mapping[Arm, Sequence[float | None]], *, unit: Unit, summary: str
) -> dict[str, Any]:
    """One line for each arm that has any value; a champion alone has no empty legend of another beside it."""
    shown = [
        series(arm.label, arm.label, values) for arm, values in by_arm.items() if any(v is not None for v in values)
    ]
    return chart(x, shown, unit=unit, summary=summary)
