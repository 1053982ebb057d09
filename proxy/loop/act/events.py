"""What people are told (`proxy.loop.adapters.notify`): of what was done, and of a test that waits for one of them."""

from __future__ import annotations

from typing import Any

from policies.plan import Plan
from proxy.loop.act.context import ActionContext, ActionResult
from proxy.loop.look.observe import Observation
from proxy.loop.state import LoopState
from proxy.store.tables.control import JournalEntry

__all__ = ["done_event", "held_event", "rests_on_few"]


def done_event(entry: JournalEntry, change: ActionResult, now: ActionContext, state: LoopState) -> dict[str, Any]:
    """A notification of what was done."""
    return {
        "event": change.event.value,
        "at": now.at,
        "phase": state.phase.value,
        "phase_before": now.state.phase.value,
        "reason": change.reason,
        "who": entry.who,
        "journal_seq": entry.seq,
        "run_id": entry.run_id,
        "experiment_id": state.experiment_id,
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
        "run_id": seen.state.run_id,
        "experiment_id": seen.state.experiment_id,
    }
