"""The picture at the end: what was really right over time, with every retrain and decision marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.demo.users import Window

__all__ = ["Mark", "draw", "smoothed"]

_COLOURS = {"champion": "#2563eb", "challenger": "#d97706"}
_KILLED = "#6b7280"
_MARGIN = 0.12
"""Room to the right of the end for what is written there, as a share of the time."""
_STYLES = {"retrain": ("#6b7280", ":"), "promoted": ("#15803d", "-"), "sent back": ("#b91c1c", "-")}
_SMOOTHING_S = 3
_LEAST = 5
"""Answers behind a point: fewer only make it jump."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What to draw: seconds since the customers came, "killed" or one of the `_STYLES`, and what to write."""

    at_s: float
    kind: str
    text: str


def smoothed(windows: Sequence[Window], arm: str) -> list[tuple[float, float | None]]:
    """(seconds, accuracy over the last few windows) of an arm; None where it had hardly any traffic."""
    points: list[tuple[float, float | None]] = []
    for index, window in enumerate(windows):
        near = [w for w in windows[max(0, index - _SMOOTHING_S + 1) : index + 1] if arm in w.asked]
        asked = sum(w.asked[arm] for w in near)
        current = arm in window.asked and asked >= _LEAST
        points.append((window.at_s, sum(w.right.get(arm, 0) for w in near) / asked if current else None))
    return points


def draw(windows: Sequence[Window], marks: Sequence[Mark], path: Path) -> None:
    """Write the PNG `path`, 1,200 × 600 pixels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 5), dpi=120)
    for arm, colour in _COLOURS.items():
        points = smoothed(windows, arm)
        values = [float("nan") if value is None else 100 * value for _, value in points]
        axes.plot([at for at, _ in points], values, color=colour, linewidth=2, marker=".", label=arm)
    for number, mark in enumerate(mark for mark in marks if mark.kind in _STYLES):
        _draw_decision(axes, mark, number)
    for number, mark in enumerate(mark for mark in marks if mark.kind not in _STYLES):
        _draw_kill(axes, mark, number)
    end_s = max((window.at_s for window in windows), default=1.0)
    axes.set(xlabel="seconds", xlim=(-0.02 * end_s, (1 + _MARGIN) * end_s))
    axes.set(ylabel="answers that were right, %", ylim=(0, 118), yticks=range(0, 101, 20))
    axes.set_title(
        "A model that improves itself: right answers as the users know them, which Ratchet never sees", fontsize=11
    )
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.06), ncols=2, frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _draw_decision(axes: Any, mark: Mark, number: int) -> None:
    colour, style = _STYLES[mark.kind]
    axes.axvline(mark.at_s, color=colour, linestyle=style, linewidth=1.2, alpha=0.8)
    _write(axes, mark, 114 - 5 * (number % 3), colour)


def _draw_kill(axes: Any, mark: Mark, number: int) -> None:
    height = 3 + 5 * (number % 2)
    axes.plot([mark.at_s], [height], color=_KILLED, marker="x", markersize=6, markeredgewidth=1.8)
    _write(axes, mark, height - 0.8, _KILLED)


def _write(axes: Any, mark: Mark, height: float, colour: str) -> None:
    axes.annotate(
        mark.text,
        (mark.at_s, height),
        textcoords="offset points",
        xytext=(6, 0),
        color=colour,
        fontsize=8,
    )
