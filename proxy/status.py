"""The status document: one type, which the loop builds and `/status`, `ratchet status` and the console read.

A field is added here, with a line that says what it is, and filled where it is known: by the loop
(`proxy/loop/look/status.py`) or by the controller (`proxy/app/loop_service.py`). The page docs/reference/http.md and
the JSON schema beside it are written from these classes (`make docs`).

Instants are Unix seconds, shares 0 to 1; null is unknown. Every field but the phase has a default: a controller that
starts knows little, and a document of another version may lack what this one has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from policies.agreement import JudgeStanding
from policies.experiment import Assessment
from policies.promotion import WatchAssessment, WatchFacts
from policies.snapshot import CheckView, Command, ModelView, RunView
from policies.state import LoopTotals, Retiring, Retry
from policies.triggers import TriggerFacts, TriggerReport

__all__ = [
    "STARTING",
    "ActionStatus",
    "ChampionStatus",
    "DatasetStatus",
    "ErrorStatus",
    "ExperimentStatus",
    "JudgeStatus",
    "NextStatus",
    "PhaseStatus",
    "ReplicaStatus",
    "RetryStatus",
    "Status",
    "TrafficStatus",
    "TriggerStatus",
    "TroubleStatus",
    "WatchStatus",
    "read_status",
    "status_json",
    "status_schema",
    "watch_of_decision",
    "watch_status",
]

STARTING = "starting"
"""The phase's name until the loop has seen its database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStatus:
    """Where the loop is."""

    name: str
    """A phase of the lifecycle, or `starting` until the loop has read its database."""
    since: float | None = None
    """When the phase began."""
    reason: str = ""
    """Why the loop is in this phase."""
    paused: bool = False
    """Whether a person has paused the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionStatus:
    """An action with what it acts on; what it has not is left out."""

    action: str
    """Its tag (see the lifecycle)."""
    run_id: str | msgspec.UnsetType | None = msgspec.UNSET
    """The run that it acts on; null: none is behind the challenger."""
    model_id: int | msgspec.UnsetType | None = msgspec.UNSET
    """The model that it acts on."""
    experiment_id: int | msgspec.UnsetType | None = msgspec.UNSET
    """The experiment that it acts on."""
    epoch: int | msgspec.UnsetType | None = msgspec.UNSET
    """The experiment's epoch that it ends."""
    trigger: str | msgspec.UnsetType = msgspec.UNSET
    """Which trigger fired."""
    train: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether the prepared data is trained on."""
    share: float | msgspec.UnsetType = msgspec.UNSET
    """The challenger's share of the users."""
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether the loop is to pause."""
    silent: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether the model's server does not answer."""
    check_id: int | msgspec.UnsetType = msgspec.UNSET
    """The check that it ends."""
    name: str | msgspec.UnsetType = msgspec.UNSET
    """Name of the challenger that a person brings."""
    path: str | msgspec.UnsetType | None = msgspec.UNSET
    """What of it is to be deployed."""
    url: str | msgspec.UnsetType | None = msgspec.UNSET
    """Its endpoint."""
    model: str | msgspec.UnsetType | None = msgspec.UNSET
    """What the `model` field of its requests is set to."""
    credential: str | msgspec.UnsetType | None = msgspec.UNSET
    """Name of its API key."""
    rewrite: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether its requests are rewritten."""
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """Why it failed or was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStatus:
    """What the loop does next."""

    action: ActionStatus | None = None
    """What it does now; null: nothing."""
    held: ActionStatus | None = None
    """What it would do, but for a pause or a wait after a failure."""
    reasons: tuple[str, ...] = ()
    """Why: sentences, the deciding one first."""
    wake_at: float | None = None
    """When it checks again at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatus:
    """A failed request."""

    text: str
    """What went wrong."""
    at: float
    """When."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionStatus(ModelView):
    """The champion, with how it is judged by its own traffic."""

    id: int = 0
    """Its number; 0 until the loop has read its database."""
    since: float | None = None
    """Since when it has been healthy, or not."""
    failed_share: float | None = None
    """Share of the last minute's requests that failed."""
    requests: int = 0
    """Requests of the last minute that were answered or failed."""
    last_error: ErrorStatus | None = None
    """The latest failure."""
    last_answer_at: float | None = None
    """When it answered last, well or badly."""
    seen_by: str | None = None
    """The host whose traffic this is judged by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerStatus(TriggerReport):
    """The triggers, and the numbers that they look at."""

    facts: TriggerFacts | None = None
    """What the triggers look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentStatus:
    """The running experiment."""

    id: int
    """Its number."""
    share: float
    """The challenger's share of the users."""
    started_at: float
    """When it began."""
    epoch_started_at: float | None = None
    """When its present epoch began."""
    slow_threshold_s: float | None = None
    """From how many seconds on an answer counts as slow."""
    assessment: Assessment | None = None
    """The latest evaluation; null before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStatus(WatchAssessment):
    """The watch of a new champion, with what it rests on."""

    holdback_share: float = 0.0
    """Share of the users who stay on the old champion, as a control; 0: nobody."""
    requests: int = 0
    """Requests of the new champion since the promotion."""
    users: int | None = None
    """Its users since then, in the part of the watch that has most; null: not counted, for there was no test."""
    control_requests: int | None = None
    """Requests of the old champion since then, from the users who are held back; null: nobody is."""
    control_users: int | None = None
    """These users, as far as they have come, counted as `users`; null: nobody is held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStatus(Retry):
    """An action that failed and is tried again."""

    about: str = ""
    """The name of what it acts on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """A training dataset that is being prepared."""

    seen: int
    """Records read so far."""
    kept: int
    """Samples kept so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStatus:
    """What became of the latest requests."""

    minutes: int
    """How far back this goes."""
    requests: int = 0
    """All requests."""
    failed: int = 0
    """Requests that the model failed."""
    refused: int = 0
    """Requests that the model's server declined with a 4xx."""
    fallbacks: int = 0
    """Requests that the champion answered for the challenger, or for the control."""
    positive: int = 0
    """Thumbs up."""
    negative: int = 0
    """Thumbs down."""
    quality: float | None = None
    """Mean score, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStatus:
    """The judge, and whether its score counts."""

    scorer: str
    """Kind, model or function, and a hash of rubric and options; another scorer starts anew."""
    trust: str
    """`rectified` or `unrectified`: `judge.trust`."""
    standing: JudgeStanding
    """How well it agrees with people's votes, and whether its score counts."""
    judged: int = 0
    """Answers that it scored in the last 24 hours."""
    mean: float | None = None
    """Their mean score, 0 to 1."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Answers of the last 24 hours without a score, by reason."""
    tokens: int = 0
    """Tokens that it used in the last 24 hours, as it counts them."""
    asked_hour: int = 0
    """Answers asked about in the last hour, of `judge.max_per_hour`."""
    asked_day: int = 0
    """Answers asked about in the last 24 hours, of `judge.max_per_day`."""
    lag_s: float | None = None
    """Age of the oldest answer that waits to be judged, in seconds; null: none waits, or another controller judges."""
    trouble: str | None = None
    """Why the latest answers have no score; null while they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleStatus:
    """One thing that is wrong."""

    sentence: str
    """What, and what to do about it."""
    since: float
    """Since when."""
    starting: bool = False
    """Whether it belongs to a start that is under way: nothing to mend so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One of the controllers that share the database."""

    id: str
    """Its name."""
    host: str
    """The host that it runs on."""
    this: bool = False
    """Whether this is the one that was asked."""
    version: str = ""
    """Its version."""
    started_at: float | None = None
    """When it started."""
    seen_s_ago: float | None = None
    """Seconds since its last heartbeat."""
    alive: bool = False
    """Whether that is recent."""
    leader: bool = False
    """Whether it runs the loop."""
    public: str | None = None
    """Its public address."""
    admin: str | None = None
    """Its admin address."""
    routes_version: int | None = None
    """The route table that it follows."""
    pending_bytes: int | None = None
    """Bytes in its spool that are not stored yet."""
    lag_s: float = 0.0
    """Age of its oldest record that is not stored yet, in seconds."""
    clock_ahead_s: float | None = None
    """How far its clock is ahead of the database's, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`GET /status`: what the loop sees and decides, and how this host is."""

    at: float | None = None
    """When the loop looked; null until it has."""
    leader: bool = False
    """Whether this controller runs the loop, for all replicas."""
    phase: PhaseStatus
    """Where the loop is, and why."""
    next: NextStatus | None = None
    """What it does next or waits for, and why."""
    champion: ChampionStatus | None = None
    """The model in production."""
    challenger: ModelView | None = None
    """The new model, from its deployment until its promotion or return."""
    previous: ModelView | None = None
    """The old champion, while the new one is watched."""
    retiring: tuple[Retiring, ...] = ()
    """Models without traffic that are about to be stopped."""
    run: RunView | None = None
    """The retrain under way."""
    triggers: TriggerStatus | None = None
    """How near each trigger is, and what keeps a retrain from starting."""
    check: CheckView | None = None
    """What the check of the challenger, or its shadowing, has found so far."""
    experiment: ExperimentStatus | None = None
    """The running experiment."""
    watch: WatchStatus | None = None
    """How the new champion does in its watch window."""
    judge: JudgeStatus | None = None
    """The judge, where there is one."""
    traffic: TrafficStatus | None = None
    """What became of the requests of the last minutes."""
    commands: tuple[Command, ...] = ()
    """Commands that wait for the loop."""
    totals: LoopTotals | None = None
    """Counts since installation."""
    retries: tuple[RetryStatus, ...] = ()
    """Actions that failed and are tried again."""
    notes: tuple[str, ...] = ()
    """Anything unusual, as sentences."""
    building: DatasetStatus | msgspec.UnsetType = msgspec.UNSET
    """How far the training dataset is; only while one is being prepared."""
    installed_at: float | None = None
    """When this installation first ran."""
    last_retrain_at: float | None = None
    """When the last retrain began."""
    routes_version: int | None = None
    """Version of the route table that the loop has published."""
    config_id: int | None = None
    """Number of the settings in force."""
    version: str | None = None
    """Ratchet's version."""
    replicas: tuple[ReplicaStatus, ...] = ()
    """The controllers that share the database; empty where only one can."""
    trouble: str | None = None
    """The first of `troubles`, as a sentence."""
    troubles: Mapping[str, TroubleStatus] = field(default_factory=dict)
    """What is wrong at the moment, by subject."""


def watch_status(facts: WatchFacts | None, found: WatchAssessment | None) -> WatchStatus | None:
    """An assessment of the watch with the facts that it was made from; None without one."""
    if facts is None or found is None:
        return None
    return WatchStatus(
        **{part.name: getattr(found, part.name) for part in fields(WatchAssessment)},
        holdback_share=0.0 if facts.control is None else facts.holdback_share,
        requests=facts.requests,
        users=facts.users if facts.users or not facts.requests else None,
        control_requests=facts.control_requests,
        control_users=facts.control_users,
    )


def watch_of_decision(inputs: Mapping[str, Any]) -> WatchStatus | None:
    """The watch that a journal entry's inputs show; None where there was none, or its version kept it otherwise."""
    facts, found = (inputs.get("snapshot") or {}).get("watch"), inputs.get("watch")
    try:
        return watch_status(
            msgspec.convert(facts, WatchFacts | None, str_keys=True),
            msgspec.convert(found, WatchAssessment | None, str_keys=True),
        )
    except msgspec.ValidationError:
        return None


def status_json(status: Status) -> dict[str, Any]:
    """The document as plain JSON types."""
    document: dict[str, Any] = msgspec.to_builtins(status, str_keys=True)
    return document


def read_status(document: Any) -> Status:
    """The inverse of `status_json`. Fields of a newer version are ignored; raises ValueError where it is no status."""
    try:
        return msgspec.convert(document, Status, str_keys=True)
    except msgspec.ValidationError as exc:
        raise ValueError(f"not a status document of this version: {exc}") from None


def status_schema() -> dict[str, Any]:
    """The document's JSON schema."""
    return msgspec.json.schema(Status)
