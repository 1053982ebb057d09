"""What people are told (`proxy.loop.adapters.notify`): of what was done, and of a test that waits for one of them."""

from __future__ import annotations

from typing import Any

from policies.plan import Plan
from policies.state import LoopState
from policies.transition import Context, Position, Transition
from proxy.loop.look.observe import Observation
from proxy.store.tables.control import JournalEntry

__all__ = ["done_event", "held_event", "rests_on_few"]


def done_event(
    entry: JournalEntry, before: Position, done: Transition, now: Context, state: LoopState
) -> dict[str, Any]:
    """A notification of what was done."""
    return {
        "event": done.event.value,
        "at": now.at,
        "phase": state.phase.name,
        "phase_before": before.state.phase.name,
        "reason": done.reason,
        "why": entry.why,
        "who": entry.who,
        "journal_seq": entry.seq,
        "run_id": entry.run_id,
        "experiment_id": getattr(state.phase, "experiment_id", None),
    }


def rests_on_few(decided: Plan) -> bool:
    """Whether a promotion waits because few clusters carry its evidence."""
    carried = decided.assessment.carried if decided.assessment else None
    return carried is not None and carried.holds


def held_event(seen: Observation, decided: Plan, now: float, event: str) -> dict[str, Any]:
    """A notification that a person is asked for."""
    phase = seen.snapshot.phase.value
    return {
        "event": event,
        "at": now,
        "phase": phase,
        "phase_before": phase,
        "reason": decided.reasons[0],
        "who": "ratchet",
        "journal_seq": None,
        "run_id": getattr(seen.position.state.phase, "run_id", None),
        "experiment_id": getattr(seen.position.state.phase, "experiment_id", None),
    }
