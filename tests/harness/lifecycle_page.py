"""Draws docs/explanation/lifecycle.md from `policies.lifecycle.TRANSITIONS` and `policies.vocabulary`.

`python -m tests.harness.lifecycle_page` writes the page; a test compares it with the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policies.lifecycle import TRANSITIONS, Arrow, Event, Phase
from policies.vocabulary import ACTIONS, COMMANDS, PHASES

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "lifecycle.md"
_ANYWHERE: Final = frozenset({Event.RETIRED, Event.PAUSED, Event.RESUMED, Event.REFUSED, Event.RECOVERED})


def render() -> str:
    """The page."""
    arrows = [arrow for arrow in TRANSITIONS if arrow.event not in _ANYWHERE]
    lines = [
        "# The lifecycle",
        "",
        "The loop is always in one of eight phases, and only an event changes the phase. This page is generated from",
        "the tables in `policies/lifecycle.py` and `policies/vocabulary.py`; a test compares them.",
        "",
        "```text",
        *_roads(arrows),
        "```",
        "",
        "## Phases",
        "",
        "| phase | what it means | commands that fit |",
        "|---|---|---|",
        *(
            f"| {words.label} | {words.meaning} | {', '.join(f'`{verb}`' for verb in words.commands)} |"
            for words in PHASES.values()
        ),
        "",
        "*Paused* is not a phase but a flag. A paused loop starts nothing new, but still takes users away from a",
        "harmful challenger or a broken new champion. `pause` and `resume` fit every phase.",
        "",
        "## Commands",
        "",
        "| command | button | what it does |",
        "|---|---|---|",
        *(f"| `{verb}` | {words.label} | {words.meaning} |" for verb, words in COMMANDS.items()),
        "",
        "## Actions",
        "",
        "What the loop can do, as pages and commands call it. The journal, the status document and the metrics use the",
        "name in the second column, which never changes.",
        "",
        "| action | written down as | what it does |",
        "|---|---|---|",
        *(f"| {words.label} | `{tag}` | {words.meaning} |" for tag, words in ACTIONS.items()),
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


def _roads(arrows: list[Arrow]) -> Iterator[str]:
    """Each phase, and where it leads by which events. Text, which every reader shows; a diagram's source only some."""
    ways: dict[Phase, dict[Phase, list[Event]]] = {phase: {} for phase in Phase}
    for arrow in arrows:
        if arrow.target is not arrow.source:
            ways[arrow.source].setdefault(arrow.target, []).append(arrow.event)
    for source, targets in ways.items():
        onward = sorted(targets.items(), key=lambda way: (way[0] is Phase.IDLE, list(Phase).index(way[0])))
        for number, (target, events) in enumerate(onward):
            yield f"{'' if number else source:<10} ──→ {target:<10} {', '.join(events)}"


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
