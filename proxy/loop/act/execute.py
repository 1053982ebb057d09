"""Execute one action: ask the trainer, the deployer or the dataset builder, and report what they made of it.

Nothing is written and nothing decided here: `policies.transition` says what follows from an effect, and the tick writes
it in one transaction. Every effect is idempotent by the id in the action, so that after a crash the same intent is
simply executed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from policies.actions import (
    AbandonModel,
    AcceptModel,
    Action,
    BeginEpoch,
    BeginPromotion,
    CancelRun,
    Challenge,
    FailCheck,
    FailRun,
    PrepareData,
    Promote,
    RaiseShare,
    Redeploy,
    RestartDeployment,
    Retire,
    SetShare,
    StartCheck,
    StartDeployment,
    StartExperiment,
    StartShadow,
    StartTraining,
)
from policies.effects import Begun, Counted, Done, Effect, Measured, Reserved, Stopped
from policies.experiment import ArmStats
from policies.records import Arm
from policies.rows import Experiment, Model, Run
from policies.transition import Position
from proxy.errors import PermanentError
from proxy.loop.act.retrains import Retrains
from proxy.loop.act.servers import Servers
from proxy.loop.ports import Gate
from proxy.store.store import Store

__all__ = ["Executor"]

_R = TypeVar("_R")
_WEEK_US: Final = 7 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Knows whom an action asks."""

    store: Store
    retrains: Retrains
    servers: Servers
    gate: Gate

    async def execute(self, action: Action, position: Position, at: float) -> Effect:
        """What came of `action`, decided at `at` (Unix seconds).

        Raises TemporaryError where it may succeed later, PermanentError where a row that it needs is gone, and whatever
        a plug-in raises.
        """
        match action:
            case PrepareData():
                return await self.retrains.prepare(action, at)
            case StartTraining():
                return await self.retrains.start(_run(position), position.champion)
            case AcceptModel():
                return await self.retrains.accept(_run(position), position.champion)
            case FailRun():
                return await self.retrains.give_up(_run(position))
            case CancelRun():
                if position.run is not None:
                    await self.retrains.cancel(position.run)
                await self._end_check(position)
                return Done() if position.challenger is None else await self.servers.stop_if_it_can(position.challenger)
            case StartDeployment():
                return await self.servers.deploy(_challenger(position))
            case RestartDeployment():
                await self._end_check(position)
                await self.servers.stop(_challenger(position))
                return Done()
            case Redeploy():
                return await self.servers.redeploy(action, position)
            case Challenge():
                return await self.servers.challenge(action, position, at)
            case StartCheck() | StartShadow():
                await self._end_check(position)
                served = await self.servers.served(_challenger(position), position.champion)
                return Reserved(check_id=await self.store.checks.next_id(), served=served)
            case AbandonModel() | FailCheck():
                await self._end_check(position)
                return await self.servers.stop_if_it_can(_challenger(position))
            case StartExperiment():
                await self._end_check(position)
                return Begun(
                    experiment_id=await self.store.experiments.next_id(),
                    served=await self.servers.served(_challenger(position), position.champion),
                    slow_s=await self._slow_s(position.champion, at),
                )
            case SetShare() | RaiseShare() | BeginEpoch():
                known = _experiment(position).frozen.get("l95_s")
                return Measured(slow_s=await self._slow_s(position.champion, at) if known is None else known)
            case BeginPromotion(experiment_id=None):
                await self._end_check(position)
                return await self.servers.served(_challenger(position), position.champion)
            case Promote():
                return Counted(before=await self._champion_arm(position.experiment))
            case Retire():
                model = await self.store.models.get(action.model_id)
                if model is not None:
                    await self.servers.stop(model)
                return Stopped(model=model)
            case _:
                return Done()

    async def _end_check(self, position: Position) -> None:
        if position.check is not None:
            await self.gate.cancel(position.check.id)

    async def _champion_arm(self, experiment: Experiment | None) -> ArmStats | None:
        if experiment is None:
            return None
        return (await self.store.statistics.arms(experiment.id, experiment.epoch)).get(Arm.CHAMPION)

    async def _slow_s(self, champion: Model, at: float) -> float | None:
        """L95: the champion's 95th percentile of latency over the last week, in seconds; None without traffic.

        Where none is under the champion's name, that of all: an application that logs by itself may call it otherwise.
        """
        since_us = round(at * 1e6) - _WEEK_US
        own = await self.store.traffic.duration_quantile(champion.id, since_us, 0.95)
        return await self.store.traffic.duration_quantile(None, since_us, 0.95) if own is None else own


def _run(position: Position) -> Run:
    return _there(position.run, "the run")


def _challenger(position: Position) -> Model:
    return _there(position.challenger, "the challenger")


def _experiment(position: Position) -> Experiment:
    return _there(position.experiment, "the experiment")


def _there(row: _R | None, what: str) -> _R:
    if row is None:
        raise PermanentError(f"{what} is not in the database; was an older one restored?")
    return row
