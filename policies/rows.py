"""Who takes part, as the database has it: models, the experiment, the run. The fields are the columns.

The loop reads them, `policies.transition` says which of them change, and they are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

__all__ = ["BROUGHT", "Check", "CheckKind", "Experiment", "ExperimentStage", "Json", "Model", "ModelState", "Run"]

Json: TypeAlias = Mapping[str, Any]
"""A JSON object."""
BROUGHT: Final = "brought"
"""In the detail of a model, and of its deployment: it is an endpoint that is there, and nothing is to be started."""


class ModelState(StrEnum):
    """Where a model stands."""

    REGISTERED = "registered"
    DEPLOYING = "deploying"
    READY = "ready"
    CHAMPION = "champion"
    CHALLENGER = "challenger"
    RETIRED = "retired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model and its endpoint."""

    id: int
    name: str
    """Unique."""
    path: str | None = None
    """What training wrote."""
    url: str | None = None
    """Endpoint; None until deployed."""
    model: str | None = None
    """Rewrite the JSON `model` field to this."""
    credential: str | None = None
    """Name of the credential in the configuration."""
    rewrite: Json | None = None
    """What is rewritten in a request on its way to the model (`policies.rewrite`); None: nothing."""
    state: ModelState = ModelState.REGISTERED
    run_id: str | None = None
    created_us: int = 0
    retired_us: int | None = None
    detail: Json = field(default_factory=dict)
    """The loop's own notes: `handle` (of its deployer), `result` (of its training), `restarts`, `redeployed`,
    `trained_beside` (id of the champion of that time), `configured` (it is the champion of the settings)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One challenger against one champion."""

    id: int
    champion_model_id: int
    challenger_model_id: int
    salt: str
    """Hex."""
    share: float
    epoch: int = 1
    epoch_started_us: int = 0
    started_us: int = 0
    ended_us: int | None = None
    verdict: str | None = None
    frozen: Json = field(default_factory=dict)
    """Fixed with the epoch. The store reads `l95_s` (the champion's p95 in seconds, or null: nothing is slow) and
    `icc` (default 0.1) when it counts; all other keys are the loop's."""
    state: Json = field(default_factory=dict)
    """`stages`: those of the running evidence, as `Stage` says; `highest`: the largest share that there ever was."""

    @property
    def stages(self) -> tuple[ExperimentStage, ...]:
        """In order of rising share; the last one runs. What an earlier version has begun has one."""
        found = tuple(ExperimentStage(**stage) for stage in self.state.get("stages", ()))
        return found or (ExperimentStage(epoch=self.epoch, share=self.share, started_us=self.epoch_started_us),)

    @property
    def tested_epoch(self) -> int:
        """The test's last one: the parts of the watch have epochs of their own."""
        return next((stage.epoch for stage in reversed(self.stages) if not stage.watch), self.epoch)

    @property
    def watch_epochs(self) -> tuple[int, ...]:
        """Of the parts of its watch, in order; of one that an earlier version has begun the running epoch."""
        return tuple(stage.epoch for stage in self.stages if stage.watch) or (self.epoch,)

    @property
    def highest(self) -> float:
        """The largest share that the challenger has had, also before a person lowered it."""
        known: float = self.state.get("highest", 0.0)
        return max([known, *(stage.share for stage in self.stages if not stage.watch)])

    def with_stages(self, stages: Iterable[ExperimentStage]) -> Experiment:
        """The same with other stages."""
        state = {**self.state, "highest": self.highest, "stages": [asdict(stage) for stage in stages]}
        return replace(self, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentStage:
    """An epoch whose rows count beside those of the epochs after it, which have a higher share."""

    epoch: int
    share: float
    """The challenger's; of the watch what the new champion has."""
    started_us: int
    by_hand: bool = False
    """A person has set this share."""
    watch: bool = False
    """After the promotion, with the old champion as control."""


class CheckKind(StrEnum):
    """Where the prompts of a check come from, and who asked for it."""

    GATE = "gate"
    """Held-out conversations and the golden file, before the challenger has users."""
    SHADOW = "shadow"
    """Copies of live requests, whose answers go to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One challenger compared with the champion, answer by answer, without users."""

    id: int
    kind: CheckKind
    challenger_id: int
    champion_id: int
    started_us: int
    ended_us: int | None = None
    verdict: str | None = None
    """A `policies.gate.GateVerdict`; None while it runs."""
    terms: Json = field(default_factory=dict)
    """Fixed when it began: settings, salt of the draw, hash of the golden file, name of the judge."""
    summary: Json = field(default_factory=dict)
    """What it has found so far: a `policies.gate.CheckReport`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining."""

    id: str
    state: str
    """preparing, prepared, training, trained, data_only, too_small, failed, cancelled; then what became of its model:
    promoted, reject, roll_back."""
    trigger: str
    started_us: int
    ended_us: int | None = None
    manifest: Json | None = None
    trainer: str = ""
    handle: Json | None = None
    result: Json | None = None
    error: str | None = None
