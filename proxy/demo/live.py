"""What the terminal shows while the demo runs: one screen, redrawn in place."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from proxy.demo.story import Scene, Stage

__all__ = ["render"]

_PHASES = ("idle", "training", "deploying", "testing", "promoting", "watching")
_COLOURS = {"promoted": "green", "rolled_back": "red", "rejected": "red", "returned": "red", "training_started": "cyan"}
_SHOWN_LINES = 9


def render(stage: Stage, scene: Scene) -> RenderableType:
    """The screen of this moment."""
    return Group(
        Text.assemble(
            ("Ratchet demo", "bold"), "   console ", (stage.admin_url, "cyan underline"), "   proxy ", stage.url
        ),
        Panel(_phases(scene.status), padding=(0, 1)),
        Panel(_truth(scene), title="right answers, as only the customers know", title_align="left", padding=(0, 1)),
        Panel(_experiment(scene.status), title="what Ratchet knows", title_align="left", padding=(0, 1)),
        Panel(_decisions(scene), title="what it decided, and why", title_align="left", padding=(0, 1)),
    )


def _phases(status: dict[str, Any]) -> RenderableType:
    name = status.get("phase", {}).get("name")
    line = Text(" → ").join(Text(phase, style="reverse bold" if phase == name else "dim") for phase in _PHASES)
    reasons = status.get("next", {}).get("reasons") or ["starting"]
    return Group(line, Text(reasons[0], overflow="ellipsis", no_wrap=True))


def _truth(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for arm in ("champion", "challenger"):
        value = scene.tally.recent(arm)
        bar = ProgressBar(total=1.0, completed=value or 0.0, width=40)
        table.add_row(arm, bar, "no traffic" if value is None else f"{value:.0%}")
    bug = Text("  a bug has been planted in the training code", style="red") if scene.bug_planted else Text("")
    failed = f", {scene.tally.failures} failed" if scene.tally.failures else ""
    return Group(table, Text.assemble(f"{scene.tally.asked} questions{failed}, {scene.tally.votes} votes", bug))


def _experiment(status: dict[str, Any]) -> RenderableType:
    experiment: dict[str, Any] = status.get("experiment") or {}
    assessment = experiment.get("assessment")
    if not assessment:
        return _triggers(status)
    theta, lower, upper = (assessment[key] for key in ("theta", "lower", "upper"))
    counts = (
        f"{assessment['challenger_requests']} of {assessment['challenger_requests'] + assessment['champion_requests']}"
    )
    return Group(
        Text(f"challenger serves {experiment['share']:.0%} of the users: {counts} requests"),
        Text(f"estimated gain {_percent(theta)}, always-valid bounds {_percent(lower)} … {_percent(upper)}"),
        Text(f"{assessment['verdict']}: {assessment['reasons'][0]}", overflow="ellipsis", no_wrap=True),
    )


def _triggers(status: dict[str, Any]) -> RenderableType:
    progress = [p for p in status.get("triggers", {}).get("progress", []) if p["enabled"]]
    if not progress:
        return Text("no experiment is running")
    table = Table.grid(padding=(0, 2))
    for trigger in progress[:2]:
        fraction = min(1.0, trigger["fraction"] or 0.0)
        table.add_row(
            trigger["name"].replace("_", " "), ProgressBar(total=1.0, completed=fraction, width=40), trigger["reason"]
        )
    return table


def _decisions(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for at_s, event, why in scene.lines[-_SHOWN_LINES:]:
        table.add_row(
            f"{at_s:5.1f} s",
            Text(event.replace("_", " "), style=_COLOURS.get(event, "")),
            Text(why, overflow="ellipsis", no_wrap=True),
        )
    return table


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1%}"
