"""Rows of the control plane as values: journal, leases, commands, settings, replicas; `policies.rows` has the others.

The loop reads a row, makes a changed copy (`dataclasses.replace`) and hands it back inside a `LoopTransaction`,
which is written in one transaction under the lease's fence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from policies.rows import Check, Experiment, Json, Model, Run

__all__ = [
    "CommandRow",
    "CommandState",
    "ConfigVersion",
    "JournalEntry",
    "JournalState",
    "Lease",
    "Look",
    "LoopTransaction",
    "Replica",
]


class JournalState(StrEnum):
    """Whether an action that was written down has been done."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"


class CommandState(StrEnum):
    """What became of a control verb."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigVersion:
    """Settings that were in force at some time, without secrets."""

    id: int
    fingerprint: str
    content: Json
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One evaluation of an experiment."""

    experiment_id: int
    at_us: int
    assessment: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One action: why it was decided, on what inputs, and what came of it."""

    seq: int
    at_us: int
    action: str
    state: JournalState
    run_id: str | None
    experiment_id: int | None
    who: str
    why: str
    inputs: Json
    outcome: Json | None
    finished_us: int | None
    config_id: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who may act. `fence` grows with each new holder; a write under an older one is refused."""

    name: str
    holder: str
    fence: int
    expires_us: int
    """In the database's time (PostgreSQL) or this host's (SQLite)."""
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRow:
    """A control verb waiting for the loop, or its fate."""

    id: int
    at_us: int
    verb: str
    args: Json
    who: str
    why: str
    state: CommandState = CommandState.PENDING
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A host that ships records into this store."""

    id: str
    host: str
    version: str
    started_us: int
    seen_us: int
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTransaction:
    """All that one action changes, written together or not at all. Rows replace those with the same id."""

    fence: int
    """Of the lease under which the action was decided."""
    lease: str = "loop"
    seq: int | None = None
    """Journal entry that this finishes."""
    failed: bool = False
    """It ends as FAILED instead of DONE."""
    outcome: Json = field(default_factory=dict)
    state: Json = field(default_factory=dict)
    """Entries of `loop_state` by name."""
    models: tuple[Model, ...] = ()
    checks: tuple[Check, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    looks: tuple[Look, ...] = ()
    commands: tuple[CommandRow, ...] = ()
