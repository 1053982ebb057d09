"""From a model that a training returned to a server that answers: deployed, deployed again, given up.

A model whose deployment failed is kept, row and files, and can be deployed again without a training: by itself, where
what it failed of may pass (`deployer.retries`), or by a person (`ratchet deploy RUN`). What cannot be stopped holds
nothing up: it goes on the list of the retiring, where stopping it is tried again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.actions import AbandonModel, Redeploy, RestartDeployment, Retire, StartDeployment, target_of
from policies.lifecycle import Event
from policies.snapshot import Retiring, Retry
from proxy.errors import PermanentError
from proxy.loop.act.context import (
    NOBODY,
    ActionContext,
    ActionResult,
    challenger_of,
    changed,
    count,
    ended,
    refused,
    retiring,
)
from proxy.loop.ports import Deployer
from proxy.loop.state import with_retry, without_retry
from proxy.store.store import Store
from proxy.store.tables.control import Model, ModelState

__all__ = ["Deployments", "stop", "stopped"]

_RESTART_S: Final = 5.0
"""Wait before the second deployment of a model; doubles with each …"""
_LONGEST_RESTART_S: Final = 300.0
"""… up to this."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployments:
    """Performs the actions on models that serve nobody yet."""

    store: Store
    deployer: Deployer

    async def deploy(self, action: StartDeployment, now: ActionContext) -> ActionResult:
        """Hand the model to the deployer."""
        model = challenger_of(now)
        try:
            handle = await self.deployer.deploy(model.id, model.name, model.path, model.detail.get("result", {}))
        except PermanentError as exc:
            return await self.abandon(AbandonModel(model_id=action.model_id, reason=str(exc)), now)
        reason = f"the deployer has taken {model.name}"
        model = replace(model, state=ModelState.DEPLOYING, detail={**model.detail, "handle": handle})
        state = changed(now, Event.DEPLOYMENT_STARTED, reason, phase_since=now.at)  # its time to come up begins here
        return ActionResult(event=Event.DEPLOYMENT_STARTED, state=state, reason=reason, models=(model,))

    async def restart(self, action: RestartDeployment, now: ActionContext) -> ActionResult:
        """Stop what did not come up. Its next deployment waits, longer each time."""
        model = challenger_of(now)
        await stop(self.deployer, model)
        restarts = int(model.detail.get("restarts", 0)) + 1
        reason = f"{model.name} did not come up, and is deployed again: {action.reason}"
        model = replace(model, detail={**_undeployed(model), "restarts": restarts})
        again = StartDeployment(model_id=model.id)
        wait_s = min(_RESTART_S * 2.0 ** (restarts - 1), _LONGEST_RESTART_S)
        retry = Retry(action=type(again).__name__, target=target_of(again), at=now.at + wait_s, attempts=1,
                      reason=action.reason)  # fmt: skip
        state = with_retry(changed(now, Event.DEPLOYMENT_RESTARTED, reason), retry)
        return ActionResult(event=Event.DEPLOYMENT_RESTARTED, state=state, reason=reason, models=(model,))

    async def redeploy(self, action: Redeploy, now: ActionContext) -> ActionResult:
        """Serve what an earlier run returned. It is no retrain: neither data nor cool-down nor totals know of it."""
        run = await self.store.runs.get(action.run_id)
        if run is None:
            return refused(now, f"there is no run {action.run_id}")
        model = next((row for row in reversed(await self.store.models.list()) if row.run_id == run.id), None)
        if model is None:
            return refused(now, f"{run.id} has returned no model: it is {run.state.replace('_', ' ')}")
        if model.id == now.participants.champion.id:
            return refused(now, f"{model.name} is the champion already")
        if model.state is ModelState.FAILED and any(left.id == model.id for left in now.state.retiring):
            await stop(
                self.deployer, model
            )  # what came up ill then could not be stopped, and is not what is wanted now
        try:
            handle = await self.deployer.deploy(model.id, model.name, model.path, model.detail.get("result", {}))
        except PermanentError as exc:
            return refused(now, f"{model.name} cannot be deployed: {exc}")
        reason = f"{model.name} of {run.id} is deployed again: {now.reason}"
        left = tuple(other for other in now.state.retiring if other.id != model.id)
        state = changed(now, Event.REDEPLOYED, reason, run_id=run.id, challenger_id=model.id, retiring=left)
        detail = {**_undeployed(model), "restarts": 0, "redeployed": True, "handle": handle}
        model = replace(model, state=ModelState.DEPLOYING, url=None, model=None, credential=None, retired_us=None,
                        detail=detail)  # fmt: skip
        return ActionResult(
            event=Event.REDEPLOYED,
            state=without_retry(state, Retire(model_id=model.id)),
            reason=reason,
            models=(model,),
            runs=(replace(run, state="trained", error=None),),
            outcome={"model": model.name},
        )

    async def abandon(self, action: AbandonModel, now: ActionContext) -> ActionResult:
        """The model cannot be served: stop what was started; the back-off of failed retrains holds the next.

        The model stays, row and files: `ratchet deploy` serves it once what was in its way is gone.
        """
        model = challenger_of(now)
        reason = f"{model.name} cannot be deployed: {action.reason}"
        state = changed(
            now, Event.DEPLOYMENT_FAILED, reason, **NOBODY, retiring=await stopped(self.deployer, model, now)
        )
        if not model.detail.get("redeployed"):  # the retrain had failed, or had its test, before
            totals = count(now.state.totals, "failed_retrains")
            failures = now.state.failures_in_a_row + 1
            state = replace(state, failures_in_a_row=failures, last_failure_at=now.at, totals=totals)
        model = replace(model, state=ModelState.FAILED, retired_us=now.at_us)
        runs = ended(now, "failed", action.reason)
        return ActionResult(event=Event.DEPLOYMENT_FAILED, state=state, reason=reason, models=(model,), runs=runs)


async def stop(deployer: Deployer, model: Model) -> None:
    """Stop what was deployed of the model, if anything was. Raises what the deployer does."""
    if "handle" in model.detail:
        await deployer.retire(dict(model.detail["handle"]))


async def stopped(deployer: Deployer, model: Model, now: ActionContext) -> tuple[Retiring, ...]:
    """As `stop`, but what cannot be stopped holds nothing up: the list of the retiring, with this one then."""
    try:
        await stop(deployer, model)
    except Exception as exc:  # noqa: BLE001 - a plug-in's edge
        _log.warning("%s could not be stopped, that is tried again: %s", model.name, exc)
        return retiring(now, model, 0.0)
    return now.state.retiring


def _undeployed(model: Model) -> dict[str, Any]:
    """Its detail without what is left of an earlier deployment."""
    return {name: value for name, value in model.detail.items() if name != "handle"}
