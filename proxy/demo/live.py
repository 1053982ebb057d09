"""What the terminal shows while the demo runs: one screen, redrawn in place."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from policies import wording
from policies.vocabulary import trigger_label
from policies.wording import many
from proxy.demo.kills import Kill
from proxy.demo.story import Scene, Theatre
from proxy.demo.training import Bug
from proxy.status import Status

__all__ = ["part", "render"]

_PHASES = ("idle", "training", "deploying", "checking", "testing", "promoting", "watching")
_COLOURS = {"promoted": "green", "rolled_back": "red", "rejected": "red", "returned": "red", "check_rejected": "red",
            "training_started": "cyan"}  # fmt: skip
_MOST_LINES = 9
_LEAST_LINES = 2
_OTHER_ROWS = 22
"""Rows of the screen without the decisions."""


def render(theatre: Theatre, scene: Scene, rows: int) -> RenderableType:
    """The screen of this moment, for a terminal with so many rows."""
    shown = max(_LEAST_LINES, min(_MOST_LINES, rows - _OTHER_ROWS))
    return Group(
        Text.assemble(
            ("Ratchet demo", "bold"), "   console ", (theatre.admin_url, "cyan underline"), "   proxy ", theatre.url
        ),
        Panel(_phases(scene.status), padding=(0, 1)),
        Panel(_truth(scene), title="right answers, as only the users know them", title_align="left", padding=(0, 1)),
        Panel(_experiment(scene.status), title="what Ratchet knows", title_align="left", padding=(0, 1)),
        Panel(_kills(scene), title="kill -9 during traffic", title_align="left", padding=(0, 1)),
        Panel(_decisions(scene, shown), title="what it decided, and why", title_align="left", padding=(0, 1)),
    )


def _phases(status: Status) -> RenderableType:
    name = status.phase.name
    line = Text(" → ").join(Text(phase, style="reverse bold" if phase == name else "dim") for phase in _PHASES)
    reasons = (status.next and status.next.reasons) or ("starting",)
    return Group(line, Text(reasons[0], overflow="ellipsis", no_wrap=True))


def _truth(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for arm in ("champion", "challenger"):
        value = scene.tally.recent(arm)
        bar = ProgressBar(total=1.0, completed=value or 0.0, width=40)
        table.add_row(arm, bar, "no traffic" if value is None else part(value))
    which = {Bug.EVERY_LINE: "a bug", Bug.CUSTOMERS_LINES: "a subtler bug"}
    planted = scene.bug is not None and scene.bug not in scene.caught
    said = f"  {which[scene.bug]} has been planted in the training code" if scene.bug is not None and planted else ""
    bug = Text(said, style="red")
    failed = f", {scene.tally.failures} failed" if scene.tally.failures else ""
    return Group(
        table,
        Text.assemble(f"{many(scene.tally.asked)} answers{failed}, {many(scene.tally.votes)} votes", bug),
    )


def _experiment(status: Status) -> RenderableType:
    experiment = status.experiment
    if experiment is None or (found := experiment.assessment) is None:
        return _triggers(status)
    counts = f"{found.challenger_requests} of {found.challenger_requests + found.champion_requests}"
    bounds = f"{_percent(found.lower)} … {_percent(found.upper)}"
    verdict = f"{found.verdict.replace('_', ' ')}: {found.reasons[0]}"
    return Group(
        Text(f"challenger serves {wording.share(experiment.share)} of the users: {counts} requests"),
        Text(f"estimated gain {_percent(found.theta)}, always-valid bounds {bounds}"),
        Text(verdict, overflow="ellipsis", no_wrap=True),
    )


def _triggers(status: Status) -> RenderableType:
    progress = [one for one in status.triggers.progress if one.enabled] if status.triggers else []
    if not progress:
        return Text("no experiment is running")
    table = Table.grid(padding=(0, 2))
    for trigger in progress[:2]:
        bar = ProgressBar(total=1.0, completed=min(1.0, trigger.fraction), width=40)
        table.add_row(trigger_label(trigger.name), bar, trigger.reason)
    return table


def _kills(scene: Scene) -> RenderableType:
    ledger = scene.tally.ledger
    killed = ", ".join(f"{kill.victim.value} {_back(kill)}" for kill in scene.kills)
    pids = ", ".join(f"{pid} ({name})" for name, pid in scene.processes.items())
    return Group(
        Text(f"back after: {killed}" if killed else "none killed yet", overflow="ellipsis", no_wrap=True),
        Text(f"{many(ledger.answers)} answers received, {many(ledger.logged)} of them in the log already"),
        Text(f"kill -9 one yourself: {pids}", style="dim", overflow="ellipsis", no_wrap=True),
    )


def _back(kill: Kill) -> str:
    return "…" if kill.back_s is None else wording.took(kill.back_s)


def _decisions(scene: Scene, shown: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for at_s, event, why in scene.lines[-shown:]:
        table.add_row(
            f"{many(at_s):>3} s",
            Text(event.replace("_", " "), style=_COLOURS.get(event, "")),
            Text(why, overflow="ellipsis", no_wrap=True),
        )
    return table


def part(value: float) -> str:
    """0.653 → "65.3 %"."""
    return wording.percent(value)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else wording.signed_percent(value)
