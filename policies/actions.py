"""The closed set of things that the loop can do: one frozen value each, executed by `proxy/loop/act/execute.py`.

An action names what it acts on by id, and `policies.transition.stale` compares that with where the loop stands: what
was done already, or fits no more, is refused. What has nothing to name (a pause, a refusal) sets what it says, however
often. Most say nothing of why they are done, which stands in the `Plan` that carries them; a `reason` is one that has
to be kept with the row. The journal knows each by a tag of its own, whatever the class is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

__all__ = ["TAGS", "AbandonModel", "AcceptModel", "Action", "BeginEpoch", "BeginPromotion", "CancelRun", "Challenge",
           "FailCheck", "FailPromotion", "FailRun", "FinishWatch", "HaltWatch", "PrepareData", "Promote",
           "RaiseShare", "Recover", "Redeploy", "Refuse", "Reject", "ReleaseControl", "RenewWatch",
           "RestartDeployment", "Retire", "ReturnTraffic", "RollBack", "SetPaused", "SetShare", "StartCheck",
           "StartDeployment", "StartExperiment", "StartShadow", "StartTraining", "tag_of", "target_of"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareData:
    """Write the training file of a new run."""

    run_id: str
    trigger: str
    """Which trigger fired: a value of `policies.triggers.Trigger`."""
    train: bool = True
    """False: prepare the data and stop there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTraining:
    """Hand the run to the trainer."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptModel:
    """Training has succeeded: register the model that it returned."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRun:
    """Training has failed, timed out or was lost: stop what may still run, keep the data."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    """A person cancelled what goes on before the test: a training, a deployment, a check, or the shadowing."""

    run_id: str | None
    """None where no run is behind the challenger."""
    model_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDeployment:
    """Hand the model to the deployer."""

    model_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartDeployment:
    """The model did not come up, for a reason that may pass: stop what was started of it, and deploy it again later."""

    model_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeploy:
    """A person wants the model of an earlier run served as the challenger: nothing is trained."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A person brings a challenger: an endpoint, a model of a server, a path, or the champion asked otherwise."""

    name: str
    """Of the new model; unique."""
    path: str | None = None
    """For the configured deployer, where there is no endpoint yet."""
    url: str | None = None
    """Base URL of an endpoint; None without `path`: the champion's own."""
    model: str | None = None
    """What the JSON `model` field of requests is set to."""
    credential: str | None = None
    """Name under which its API key is kept."""
    rewrite: Mapping[str, Any] | None = None
    """What is rewritten in its requests (`policies.rewrite`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCheck:
    """Compare the challenger with the champion, on questions that the champion has answered, before users see it."""

    model_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartShadow:
    """Send the challenger copies of live requests."""

    model_id: int
    share: float
    """Of the requests (0 to 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailCheck:
    """Send the challenger back before any user has seen it: its answers are worse than the champion's."""

    model_id: int
    check_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonModel:
    """The model cannot be served: stop what was started of it."""

    model_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartExperiment:
    """Give the challenger its share of the users, under a new salt and a new epoch."""

    model_id: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetShare:
    """Another share of the users for the challenger; a new epoch."""

    experiment_id: int
    share: float
    epoch: int | None = None
    """The epoch that this ends; None in what an earlier version has journalled: whichever runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseShare:
    """The next stage of the ramp: a higher share, in a new epoch whose evidence is put together with what there is."""

    experiment_id: int
    epoch: int | None
    """The epoch that this ends."""
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseControl:
    """The old champion cannot serve the users that were held back: the new one gets them all."""

    model_id: int
    """The old champion."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewWatch:
    """The next part of a watch: users and failures are counted afresh beside what there is, so that the good hours
    before do not hide a model that turns bad."""

    model_id: int
    """The old champion."""
    epoch: int
    """The experiment's epoch that this ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginEpoch:
    """The terms of the test have changed: collect its evidence afresh."""

    experiment_id: int
    reason: str
    epoch: int | None = None
    """As in `SetShare`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginPromotion:
    """Decide for the challenger."""

    model_id: int
    experiment_id: int | None
    """None where nothing was tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Give all users to the challenger and keep the old champion warm."""

    model_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailPromotion:
    """The challenger stopped answering before the switch: it goes, the champion stays."""

    model_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """All users back to the champion; the challenger goes."""

    model_id: int
    experiment_id: int | None
    silent: bool = False
    """Its server does not answer: nothing was found out about its answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """End the experiment without harm having been shown: the challenger cannot win."""

    model_id: int
    experiment_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnTraffic:
    """Undo a promotion: the old champion serves everybody again."""

    model_id: int
    """The old champion."""
    silent: bool = False
    """As in `RollBack`, of the new one's server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishWatch:
    """The watch window is over and no guardrail broke: the old champion may go."""

    model_id: int
    """The old champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltWatch:
    """The new champion breaks a guardrail, but the old one is dead: stay, and call a person."""

    model_id: int
    """The old champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Stop a model that has had no traffic for long enough."""

    model_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPaused:
    """Pause the loop, or let it go on."""

    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer a command that does not fit the phase."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """What the phase needs is gone, as after a restore of an older database: back to idle."""

    reason: str


Action: TypeAlias = (
    PrepareData
    | StartTraining
    | AcceptModel
    | FailRun
    | CancelRun
    | StartDeployment
    | RestartDeployment
    | Redeploy
    | Challenge
    | StartCheck
    | StartShadow
    | FailCheck
    | AbandonModel
    | StartExperiment
    | SetShare
    | RaiseShare
    | BeginEpoch
    | BeginPromotion
    | Promote
    | FailPromotion
    | RollBack
    | Reject
    | ReturnTraffic
    | ReleaseControl
    | RenewWatch
    | FinishWatch
    | HaltWatch
    | Retire
    | SetPaused
    | Refuse
    | Recover
)

TAGS: Final[Mapping[type[Action], str]] = MappingProxyType(
    {
        PrepareData: "PrepareData",
        StartTraining: "StartTraining",
        AcceptModel: "AcceptModel",
        FailRun: "FailRun",
        CancelRun: "CancelRun",
        StartDeployment: "StartDeployment",
        RestartDeployment: "RestartDeployment",
        Redeploy: "Redeploy",
        Challenge: "Challenge",
        StartCheck: "StartCheck",
        StartShadow: "StartShadow",
        FailCheck: "FailCheck",
        AbandonModel: "AbandonModel",
        StartExperiment: "StartExperiment",
        SetShare: "SetShare",
        RaiseShare: "RaiseShare",
        BeginEpoch: "BeginEpoch",
        BeginPromotion: "BeginPromotion",
        Promote: "Promote",
        FailPromotion: "FailPromotion",
        RollBack: "RollBack",
        Reject: "Reject",
        ReturnTraffic: "ReturnTraffic",
        ReleaseControl: "ReleaseControl",
        RenewWatch: "RenewWatch",
        FinishWatch: "FinishWatch",
        HaltWatch: "HaltWatch",
        Retire: "Retire",
        SetPaused: "SetPaused",
        Refuse: "Refuse",
        Recover: "Recover",
    }
)
"""What journal, state and metrics call an action. Written down for good: a class may be renamed, a tag may not."""


def tag_of(action: Action) -> str:
    """What the journal calls it."""
    return TAGS[type(action)]


def target_of(action: Action) -> str:
    """What it acts on, as text: a run, else a model, else an experiment.

    Empty where that is nothing in particular, or new at each attempt (the run of `PrepareData`).
    """
    if isinstance(action, PrepareData):
        return ""
    ids = (getattr(action, name, None) for name in ("run_id", "model_id", "experiment_id"))
    return next((str(found) for found in ids if found is not None), "")
