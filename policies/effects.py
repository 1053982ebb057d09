"""What the outside made of an action: reported by what executed it (`proxy/loop/act`), judged by `transition`.

An effect is a fact, not a decision: it says what a trainer, a deployer or a database has answered, and nothing of what
follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from policies.experiment import ArmStats
from policies.rows import Json, Model, Run

__all__ = ["Begun", "Challenged", "Counted", "Declined", "Done", "Effect", "Measured", "Prepared", "Redeployed",
           "Reserved", "Served", "Stopped", "Taken", "Trained"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It is done, and there is nothing more to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """It will never be done: whoever was asked says so."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A dataset was written."""

    manifest: Json
    """As it is kept with the run; `samples` and `data_path` are in it."""
    usable: int
    """Samples that are not rehearsal."""
    left_out: Mapping[str, int]
    """What selection dropped, by reason."""
    trainer: str
    """Kind of the trainer that is to have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Trainer or deployer has taken it."""

    handle: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the training returned, registered as a model."""

    model: Model
    result: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where the deployer says that the model answers now."""

    url: str
    model: str | None
    credential: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a new experiment is begun with."""

    experiment_id: int
    served: Served
    slow_s: float | None
    """The champion's 95th percentile of latency, in seconds; None without traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The id of a new check, and where the challenger answers."""

    check_id: int
    served: Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a new epoch freezes where it was not known before: seconds as in `Begun`."""

    slow_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The old champion's arm at the promotion; None where nothing was tested."""

    before: ArmStats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A server was stopped, or could not be."""

    failed: bool = False
    """It may still run: that is tried again."""
    model: Model | None = None
    """The row of a model that the state does not name; None where it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeployed:
    """An earlier run's model is deployed again."""

    run: Run
    model: Model
    handle: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenged:
    """A challenger that a person brought is registered, and its deployer has it."""

    model: Model
    handle: Mapping[str, Any]


Effect: TypeAlias = (
    Done
    | Declined
    | Prepared
    | Taken
    | Trained
    | Served
    | Begun
    | Reserved
    | Measured
    | Counted
    | Stopped
    | Redeployed
    | Challenged
)
