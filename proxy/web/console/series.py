"""What a chart is made of, as the script in the page understands it: columns over one axis of time, plus a sentence.

    {"x": [Unix s], "step": s, "unit", "axis", "lines": [{"label", "value"}], "summary",
     "series": [{"label", "role", "values", "n": [whole numbers], "of": what they count}]}

`role` decides colour and dashes: champion, challenger, control, estimate, or bound; two series of role bound enclose a
band. `n` says what each value rests on, `axis` what the values are; `step` is the time between two of them, 0 where
they come as they like. A chart never shows a shorter time than a few steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from policies.records import Arm

__all__ = ["ArmLine", "Unit", "arm_chart", "chart", "series"]

Unit = Literal["share", "change", "seconds", "count", "score"]


def series(
    label: str, role: str, values: Sequence[float | None], n: Sequence[int | None] = (), of: str = "requests"
) -> dict[str, Any]:
    """One line of a chart; None leaves a gap."""
    return {"label": label, "role": role, "values": list(values), "n": list(n), "of": of}


def chart(
    x: Sequence[float],
    lines: Sequence[Mapping[str, Any]],
    *,
    unit: Unit,
    axis: str,
    summary: str,
    step: float = 0,
    marks: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A chart as JSON. `marks` are horizontal lines by name."""
    named = [{"label": label, "value": value} for label, value in (marks or {}).items()]
    return {
        "x": list(x), "step": step, "series": list(lines), "unit": unit, "axis": axis, "lines": named,
        "summary": summary,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArmLine:
    """What a chart draws of one arm, and what each value rests on."""

    values: Sequence[float | None]
    n: Sequence[int | None] = ()


def arm_chart(
    x: Sequence[float],
    by_arm: Mapping[Arm, ArmLine],
    *,
    unit: Unit,
    axis: str,
    summary: str,
    step: float,
    of: str = "requests",
) -> dict[str, Any]:
    """One line for each arm that had traffic; one without a value is named in the legend, and says so."""
    shown = [series(arm.label, arm.label, line.values, line.n, of) for arm, line in by_arm.items()]
    return chart(x, shown, unit=unit, axis=axis, summary=summary, step=step)
