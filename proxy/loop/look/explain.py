"""Why the loop did what it did: every decision with its inputs, readable afterwards and decided again.

A journal entry holds the snapshot, the rules and the instant of its decision, so `replay` gives the same plan for
ever. Decisions to do nothing are written down, too, whenever their kind changes (`policies.vocabulary.HOLD`).
"""

from __future__ import annotations

from typing import Any

from policies.plan import LoopRules, Plan, plan
from policies.snapshot import Snapshot
from proxy.loop.codec import action_to_json, from_json, to_json
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry

__all__ = ["entry_document", "explain", "history", "inputs_of", "replay"]


def inputs_of(snapshot: Snapshot, rules: LoopRules, now: float, decided: Plan) -> dict[str, Any]:
    """What a journal entry keeps of a decision."""
    return {
        "now": now,
        "snapshot": to_json(snapshot),
        "rules": to_json(rules),
        "reasons": list(decided.reasons),
        "action": None if decided.action is None else action_to_json(decided.action),
        "held": None if decided.held is None else action_to_json(decided.held),
        "command": None if decided.command is None else decided.command.id,
        "assessment": None if decided.assessment is None else to_json(decided.assessment),
        "watch": None if decided.watch is None else to_json(decided.watch),
    }


def replay(entry: JournalEntry) -> Plan:
    """Decide again on the entry's own inputs. Raises ValueError where it has none that this version can read."""
    inputs = entry.inputs
    if "snapshot" not in inputs:
        raise ValueError(f"journal entry {entry.seq} ({entry.action}) contains no decision")
    return plan(from_json(Snapshot, inputs["snapshot"]), from_json(LoopRules, inputs["rules"]), inputs["now"])


async def explain(store: Store, at: float | None = None) -> dict[str, Any]:
    """The decision in force at `at` (Unix seconds; None: the latest), in full, with the settings it was made under.
    With the latest comes what `ab_test_config.cuped` saves here, or would, once the running server knows it.

    Raises LookupError where nothing had been decided by then.
    """
    latest = await store.journal.recent(limit=1) if at is None else None
    entry = await store.journal.latest_at(round(at * 1e6)) if at is not None else next(iter(latest or []), None)
    if entry is None:
        raise LookupError("nothing has been decided yet" if at is None else "nothing had been decided by then")
    config = await store.configs.get(entry.config_id)
    saving = store.past_savings.known
    return {
        **entry_document(entry),
        "inputs": entry.inputs,
        "past_saving": None if saving is None or at is not None else to_json(saving),
        "config": None if config is None else {"fingerprint": config.fingerprint, "content": config.content},
    }


async def history(store: Store, limit: int = 50, before: float | None = None) -> list[dict[str, Any]]:
    """Decisions with their outcomes, newest first; only those before `before` (Unix seconds), where given."""
    if before is None:
        return [entry_document(entry) for entry in await store.journal.recent(limit=limit)]
    last = await store.journal.latest_at(round(before * 1e6) - 1)
    if last is None:
        return []
    return [entry_document(entry) for entry in await store.journal.recent(before_seq=last.seq + 1, limit=limit)]


def entry_document(entry: JournalEntry) -> dict[str, Any]:
    """One line of the history, as JSON.

    {"seq", "at", "finished_at" (Unix seconds | null), "action", "state": intent | done | failed, "event" | null,
     "phase": {"from", "to"} | null, "run_id", "experiment_id", "who", "why", "reasons": [...], "outcome", "config_id"}
    """
    outcome = entry.outcome or {}
    return {
        "seq": entry.seq,
        "at": entry.at_us / 1e6,
        "finished_at": None if entry.finished_us is None else entry.finished_us / 1e6,
        "action": entry.action,
        "state": entry.state.value,
        "event": outcome.get("event"),
        "phase": outcome.get("phase"),
        "run_id": entry.run_id,
        "experiment_id": entry.experiment_id,
        "who": entry.who,
        "why": entry.why,
        "reasons": entry.inputs.get("reasons", [entry.why]),
        "outcome": dict(outcome),
        "config_id": entry.config_id,
    }
