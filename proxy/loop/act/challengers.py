"""Challengers and champions: tested, promoted, sent back, retired (`proxy.loop.act.deployments` has what comes before).

Traffic moves by the route table, which follows from the state; nothing here stops a server that may still have
answers to finish. A model that loses its traffic is put on the list of the retiring and stopped later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

from policies import wording
from policies.actions import (
    BeginEpoch,
    BeginPromotion,
    FailPromotion,
    FinishWatch,
    HaltWatch,
    Promote,
    Reject,
    Retire,
    ReturnTraffic,
    RollBack,
    SetShare,
    StartExperiment,
)
from policies.lifecycle import Event
from policies.records import Arm
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.act.context import (
    NOBODY,
    ActionContext,
    ActionResult,
    challenger_of,
    changed,
    count,
    ended,
    idle_model,
    retiring,
)
from proxy.loop.act.deployments import stop
from proxy.loop.ports import Deployer, Endpoint
from proxy.routes import origin
from proxy.store.store import Store
from proxy.store.tables.control import Experiment, Model, ModelState

__all__ = ["Challengers"]

_WEEK_US: Final = 7 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Challengers:
    """Performs the actions on models and experiments."""

    store: Store
    deployer: Deployer
    drain_s: float
    icc: float
    terms: Mapping[str, str] = field(default_factory=dict)
    """Frozen with every epoch: see `proxy.loop.look.terms`."""

    async def start_experiment(self, action: StartExperiment, now: ActionContext, experiment_id: int) -> ActionResult:
        """Give the challenger its users: a new salt, a new epoch, and the champion's p95 frozen."""
        champion = now.participants.champion
        model = await self._with_endpoint(challenger_of(now), champion)
        slow_s = await self._slow_s(now)
        experiment = Experiment(
            id=experiment_id,
            champion_model_id=champion.id,
            challenger_model_id=model.id,
            salt=_salt(model, now),
            share=action.share,
            epoch=now.next_version,
            epoch_started_us=now.at_us,
            started_us=now.at_us,
            frozen={"l95_s": slow_s, "icc": self.icc, "terms": dict(self.terms)},
        )
        reason = f"{model.name} serves {wording.share(action.share)} of the users"
        state = changed(now, Event.DEPLOYED, reason, experiment_id=experiment.id)
        model = replace(model, state=ModelState.CHALLENGER)
        return ActionResult(
            event=Event.DEPLOYED,
            state=state,
            reason=reason,
            models=(model,),
            experiments=(experiment,),
            outcome=_epoch_of(experiment),
        )

    async def set_share(self, action: SetShare, now: ActionContext) -> ActionResult:
        """Another share, another epoch: the numbers of different shares are never pooled.

        The champion's p95 is frozen now where it was not known at the start.
        """
        experiment = _experiment(now)
        shares = f"{wording.share(experiment.share)} to {wording.share(action.share)}"
        reason = f"the challenger's share goes from {shares}; a new epoch begins"
        return await self._new_epoch(replace(experiment, share=action.share), Event.SHARE_CHANGED, reason, now)

    async def begin_epoch(self, action: BeginEpoch, now: ActionContext) -> ActionResult:
        """The same share under other terms: what was measured under the former ones is not pooled with what comes."""
        return await self._new_epoch(_experiment(now), Event.TERMS_CHANGED, action.reason, now)

    async def _new_epoch(self, experiment: Experiment, event: Event, reason: str, now: ActionContext) -> ActionResult:
        slow_s = experiment.frozen.get("l95_s")
        if slow_s is None:
            slow_s = await self._slow_s(now)
        experiment = replace(
            experiment,
            epoch=now.next_version,
            epoch_started_us=now.at_us,
            frozen={**experiment.frozen, "l95_s": slow_s, "icc": self.icc, "terms": dict(self.terms)},
        )
        state = changed(now, event, reason)
        return ActionResult(
            event=event,
            state=state,
            reason=reason,
            experiments=(experiment,),
            outcome=_epoch_of(experiment),
        )

    async def begin_promotion(self, action: BeginPromotion, now: ActionContext) -> ActionResult:
        """Decide for the challenger; it is checked once more before it gets everybody."""
        model = challenger_of(now)
        if action.experiment_id is None:
            model = await self._with_endpoint(model, now.participants.champion)
        event = Event.DEPLOYED_UNTESTED if action.experiment_id is None else Event.WON
        reason = f"{model.name} is to become champion: {now.reason}"
        state = changed(now, event, reason)
        return ActionResult(event=event, state=state, reason=reason, models=(model,))

    async def promote(self, action: Promote, now: ActionContext) -> ActionResult:
        """All users to the challenger. The old champion's numbers are frozen to watch the new one by."""
        model, old, experiment = challenger_of(now), now.participants.champion, now.participants.experiment
        before = None
        if experiment is not None:
            before = (await self.store.arm_stats(experiment.id, experiment.epoch)).get(Arm.CHAMPION)
            experiment = replace(
                experiment,
                share=0.0,
                epoch=now.next_version,
                epoch_started_us=now.at_us,
                ended_us=now.at_us,
                verdict="promote",
            )
        reason = f"{model.name} serves all users; {old.name} is kept warm"
        state = changed(
            now,
            Event.PROMOTED,
            reason,
            champion_id=model.id,
            previous_id=old.id,
            challenger_id=None,
            run_id=None,
            promoted_at=now.at,
            before=before,
            baseline=None,
            totals=count(now.state.totals, "promotions"),
        )
        models = (replace(model, state=ModelState.CHAMPION), idle_model(old))
        experiments = () if experiment is None else (experiment,)
        runs = ended(now, "promoted")
        return ActionResult(
            event=Event.PROMOTED, state=state, reason=reason, models=models, experiments=experiments, runs=runs
        )

    async def fail_promotion(self, action: FailPromotion, now: ActionContext) -> ActionResult:
        """The winner died before the switch."""
        return self._sent_back(now, Event.PROMOTION_FAILED, action.reason, "promotion_failed")

    async def roll_back(self, action: RollBack, now: ActionContext) -> ActionResult:
        """The challenger goes, because of harm or because a person says so."""
        return self._sent_back(now, Event.ROLLED_BACK, now.reason, "manual" if now.manual else "harm")

    async def reject(self, action: Reject, now: ActionContext) -> ActionResult:
        """The challenger goes, because it cannot win."""
        change = self._sent_back(now, Event.REJECTED, now.reason, None)
        return replace(change, state=replace(change.state, totals=count(now.state.totals, "rejections")))

    def _sent_back(self, now: ActionContext, event: Event, why: str, counted: str | None) -> ActionResult:
        model, totals = challenger_of(now), now.state.totals
        if counted is not None:
            totals = replace(totals, rollbacks={**totals.rollbacks, counted: totals.rollbacks.get(counted, 0) + 1})
        reason = f"{model.name} goes back: {why}"
        state = changed(
            now, event, reason, **NOBODY, totals=totals, last_rejection_at=now.at,
            retiring=retiring(now, model, self.drain_s),
        )  # fmt: skip
        verdict = "reject" if event is Event.REJECTED else "roll_back"
        experiments = (
            () if now.participants.experiment is None else (_closed(now.participants.experiment, now, verdict),)
        )
        return ActionResult(
            event=event,
            state=state,
            reason=reason,
            models=(idle_model(model),),
            experiments=experiments,
            runs=ended(now, verdict),
        )

    async def return_traffic(self, action: ReturnTraffic, now: ActionContext) -> ActionResult:
        """The old champion serves everybody again; the promoted model goes."""
        old, new = _previous(now), now.participants.champion
        reason = f"{old.name} serves all users again: {now.reason}"
        state = changed(
            now,
            Event.RETURNED,
            reason,
            champion_id=old.id,
            previous_id=None,
            experiment_id=None,
            before=None,
            promoted_at=None,
            baseline=None,
            last_rejection_at=now.at,
            totals=count(now.state.totals, "returns"),
            retiring=retiring(now, new, self.drain_s),
        )
        experiments = (
            () if now.participants.experiment is None else (_closed(now.participants.experiment, now, "returned"),)
        )
        models = (replace(old, state=ModelState.CHAMPION), idle_model(new))
        return ActionResult(event=Event.RETURNED, state=state, reason=reason, models=models, experiments=experiments)

    async def finish_watch(self, action: FinishWatch, now: ActionContext) -> ActionResult:
        """The new champion has held; the old one may go."""
        return self._unwatched(now, Event.WATCH_FINISHED)

    async def halt_watch(self, action: HaltWatch, now: ActionContext) -> ActionResult:
        """Nothing to return to: the new champion stays, although a guardrail broke."""
        return self._unwatched(now, Event.WATCH_HALTED)

    def _unwatched(self, now: ActionContext, event: Event) -> ActionResult:
        old = _previous(now)
        reason = f"{now.participants.champion.name} stays champion: {now.reason}"
        state = changed(
            now,
            event,
            reason,
            previous_id=None,
            experiment_id=None,
            before=None,
            promoted_at=None,
            retiring=retiring(now, old, self.drain_s),
        )
        return ActionResult(event=event, state=state, reason=reason)

    async def retire(self, action: Retire, now: ActionContext, model: Model | None) -> ActionResult:
        """Stop a model that has no traffic."""
        name = next((other.name for other in now.state.retiring if other.id == action.model_id), str(action.model_id))
        if model is not None:
            await stop(self.deployer, model)
        reason = f"{name} is stopped"
        others = tuple(other for other in now.state.retiring if other.id != action.model_id)
        state = changed(now, Event.RETIRED, reason, retiring=others)
        end = ModelState.FAILED if model is not None and model.state is ModelState.FAILED else ModelState.RETIRED
        models = () if model is None else (replace(model, state=end, retired_us=now.at_us),)
        return ActionResult(event=Event.RETIRED, state=state, reason=reason, models=models)

    async def _slow_s(self, now: ActionContext) -> float | None:
        """L95: the champion's 95th percentile of latency over the last week, in seconds; None without traffic.

        Where none is under the champion's name, that of all: an application that logs by itself may call it otherwise.
        """
        since_us = now.at_us - _WEEK_US
        own = await self.store.duration_quantile(now.participants.champion.id, since_us, 0.95)
        return await self.store.duration_quantile(None, since_us, 0.95) if own is None else own

    async def _with_endpoint(self, model: Model, champion: Model) -> Model:
        """`model` with the endpoint that its deployer names now.

        On the champion's own server (a fine-tuned model of the same API, an adapter) it needs the same credential;
        a server elsewhere must not see it.
        """
        readiness = await self.deployer.ready(dict(model.detail.get("handle", {})))
        if not isinstance(readiness, Endpoint):
            raise TemporaryError(f"{model.name} was ready, but its deployer now says {readiness}")
        credential = champion.credential if origin(readiness.url) == origin(champion.url or "") else None
        return replace(model, state=ModelState.READY, url=readiness.url, model=readiness.model, credential=credential)


def _previous(now: ActionContext) -> Model:
    if now.participants.previous is None:
        raise PermanentError(f"old champion {now.state.previous_id} is not in the database; was an older one restored?")
    return now.participants.previous


def _experiment(now: ActionContext) -> Experiment:
    if now.participants.experiment is None:
        raise PermanentError(f"experiment {now.state.experiment_id} is not in the database; was an older one restored?")
    return now.participants.experiment


def _epoch_of(experiment: Experiment) -> dict[str, Any]:
    """What the journal keeps of a new epoch: the experiment's own row knows only the last."""
    return {
        "experiment_id": experiment.id,
        "epoch": experiment.epoch,
        "share": experiment.share,
        "slow_threshold_s": experiment.frozen["l95_s"],
    }


def _salt(model: Model, now: ActionContext) -> str:
    """New for each experiment, the same when the experiment is started again after a crash."""
    return blake2b(f"{model.name}/{now.next_version}/{now.at_us}".encode(), digest_size=16).hexdigest()


def _closed(experiment: Experiment, now: ActionContext, verdict: str) -> Experiment:
    return replace(experiment, share=0.0, ended_us=now.at_us, verdict=verdict)
