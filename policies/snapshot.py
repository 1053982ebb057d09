"""Everything that `plan` needs to know, as one frozen value with three readers: plan, /status and /metrics.

The loop observes it once a tick, stores it with every decision, and can read it back: the same snapshot gives
the same decision for ever. Instants are Unix seconds; `None` is unknown, and unknown holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from policies.experiment import ExperimentFacts
from policies.lifecycle import Phase
from policies.promotion import WatchFacts
from policies.state import LoopTotals, Retiring, Retry
from policies.triggers import TriggerFacts

__all__ = ["CheckView", "Command", "ExperimentView", "ModelView", "RunStatus", "RunView", "Snapshot", "new_run_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a person asked for, waiting for the loop."""

    id: int
    at: float
    verb: str
    """A `vocabulary.Verb`; text, because an unknown one is refused, not lost."""
    args: Mapping[str, bool | float | str] = field(default_factory=dict)
    """trigger: `no_train` (bool). share: `share` (0 to 1). deploy: `run` (its id) or `path`. challenge: `name`, `url`,
    `model`, `credential`, `rewrite` (JSON text), of which some may be missing."""
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model that has, had, or is about to have traffic."""

    id: int
    name: str
    path: str | None = None
    """What training returned; None for the configured champion."""
    deployed: bool = False
    """The deployer has taken it (there is a handle). A configured champion was never deployed by us."""
    ready: bool = False
    """It has answered its readiness check."""
    healthy: bool | None = None
    """As of this look; None where it could not be asked."""
    unhealthy_since: float | None = None
    """Since when it has not been seen healthy."""
    failed: str | None = None
    """Why it will never answer, as the deployer says."""
    may_pass: bool = False
    """What it failed of may be over by the next attempt."""
    restarts: int = 0
    """Deployments of it that did not come up before this one."""
    waiting_for: str = ""
    """What the deployer says while it is not ready."""


class RunStatus(StrEnum):
    """What the trainer says of a run."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """The retrain that is under way."""

    id: str
    trigger: str
    status: RunStatus
    progress: float | None = None
    """Done so far (0 to 1)."""
    message: str = ""
    """Latest word of the trainer; the reason where it failed."""
    samples: int | None = None
    """Lines in its training file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """The check, or the shadowing, that is under way."""

    id: int
    done: bool = False
    """It is over: `verdict` is known."""
    verdict: str | None = None
    """A `policies.gate.GateVerdict`: pass, reject, undecided or hold."""
    reasons: tuple[str, ...] = ()
    """Sentences, the deciding one first; while it runs, how far it is."""
    progress: float | None = None
    """Done so far (0 to 1)."""
    answers: bool = True
    """False: the challenger has answered none of the requests that it was warmed up with."""
    may_pass: bool = False
    """Another deployment of it may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    """The running experiment."""

    id: int
    epoch: int | None = None
    """The one that runs; None in what an earlier version has journalled."""
    facts: ExperimentFacts
    terms: Mapping[str, str] | None = None
    """Settings that its epoch was begun under, as JSON by their path; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The situation at one look."""

    phase: Phase
    phase_since: float
    phase_reason: str
    """Why the loop is in this phase: what the last transition said."""
    paused: bool = False
    installed_at: float
    triggers: TriggerFacts
    commands: tuple[Command, ...] = ()
    """Oldest first."""
    run: RunView | None = None
    champion: ModelView
    challenger: ModelView | None = None
    previous: ModelView | None = None
    """The old champion, kept warm while watching."""
    retiring: tuple[Retiring, ...] = ()
    check: CheckView | None = None
    experiment: ExperimentView | None = None
    users_a_day: float | None = None
    """Who came in the last days, a day on average, before a test begins; None where nobody asked."""
    watch: WatchFacts | None = None
    retries: tuple[Retry, ...] = ()
    totals: LoopTotals = field(default_factory=LoopTotals)
    last_rejection_at: float | None = None
    """When the last challenger was rejected or rolled back."""
    notes: tuple[str, ...] = ()
    """Oddities found while looking: a clock that jumped, a trainer that cannot be reached, restored data."""
    routes_version: int = 0
    config_id: int = 0


def new_run_id(snapshot: Snapshot, now: float) -> str:
    """Name of a run that starts at `now`: unique by time, also after a restore of an older database."""
    moment = datetime.fromtimestamp(max(now, 0.0), UTC)
    return f"run-{moment:%Y%m%d-%H%M%S}-{snapshot.totals.runs + 1}"
