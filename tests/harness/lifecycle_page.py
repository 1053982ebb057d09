"""Draws docs/explanation/lifecycle.md from `policies.lifecycle.TRANSITIONS`.

`python -m tests.harness.lifecycle_page` writes the page; a test compares it with the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from policies.lifecycle import TRANSITIONS, Event, Phase

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "lifecycle.md"
_ANYWHERE: Final = frozenset({Event.RETIRED, Event.PAUSED, Event.RESUMED, Event.REFUSED, Event.RECOVERED})
_PHASES: Final = {
    Phase.IDLE: "No run and no experiment. The loop checks the triggers, and stops models that have no traffic.",
    Phase.TRAINING: "A dataset is ready, and the trainer makes a model from it.",
    Phase.DEPLOYING: "The model exists and its server is starting. It gets no users yet.",
    Phase.TESTING: "The challenger serves its share of the users. Every tick evaluates the experiment.",
    Phase.PROMOTING: "The challenger has won, or tests are off. Its health is checked again before it gets all users.",
    Phase.WATCHING: "The new champion has all users. The old one keeps running, in case a guardrail breaks.",
}


def render() -> str:
    """The page."""
    arrows = [arrow for arrow in TRANSITIONS if arrow.event not in _ANYWHERE]
    lines = [
        "# The lifecycle",
        "",
        "The loop is always in one of six phases, and only an event changes the phase. This page is generated from the",
        "table in `policies/lifecycle.py`; a test compares the two.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> idle",
        *(f"    {arrow.source} --> {arrow.target}: {arrow.event}" for arrow in arrows),
        "```",
        "",
        "## Phases",
        "",
        "| phase | what it means |",
        "|---|---|",
        *(f"| {phase} | {meaning} |" for phase, meaning in _PHASES.items()),
        "",
        "*Paused* is not a phase but a flag. A paused loop starts nothing new, but still takes users away from a",
        "harmful challenger or a broken new champion.",
        "",
        "## Events",
        "",
        "| in phase | event | next phase | when |",
        "|---|---|---|---|",
        *(f"| {arrow.source} | `{arrow.event}` | {arrow.target} | {arrow.meaning} |" for arrow in arrows),
        *_anywhere(),
        "",
        "Each row of the journal (`ratchet history`) names the event that ended an action, the phases before and",
        "after, who asked for the action, and why. `ratchet explain` shows the inputs of a decision.",
        "",
    ]
    return "\n".join(lines)


def _anywhere() -> list[str]:
    seen: dict[Event, str] = {}
    for arrow in TRANSITIONS:
        if arrow.event in _ANYWHERE and arrow.event not in seen:
            target = "idle" if arrow.event is Event.RECOVERED else "the same phase"
            seen[arrow.event] = f"| any | `{arrow.event}` | {target} | {arrow.meaning} |"
    return list(seen.values())


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render())
