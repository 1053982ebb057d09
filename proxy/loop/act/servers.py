"""Servers of models: deployed, asked where they answer, stopped.

A model whose deployment failed is kept, row and files, and can be deployed again without a training: by itself, where
what it failed of may pass (`deployer.retries`), or by a person (`ratchet deploy RUN`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from policies.actions import Redeploy
from policies.effects import Declined, Effect, Redeployed, Served, Stopped, Taken
from policies.rows import Model, ModelState
from policies.transition import Position
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.ports import Deployer, Endpoint
from proxy.routes import origin
from proxy.store.store import Store

__all__ = ["Servers"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Asks the deployer."""

    store: Store
    deployer: Deployer

    async def deploy(self, model: Model) -> Effect:
        """Hand the model to the deployer."""
        try:
            handle = await self.deployer.deploy(model.id, model.name, model.path, model.detail.get("result", {}))
        except PermanentError as exc:
            return Declined(reason=str(exc))
        return Taken(handle=handle)

    async def redeploy(self, action: Redeploy, position: Position) -> Effect:
        """Serve what an earlier run returned."""
        run = await self.store.runs.get(action.run_id)
        if run is None:
            return Declined(reason=f"there is no run {action.run_id}")
        model = next((row for row in reversed(await self.store.models.list()) if row.run_id == run.id), None)
        if model is None:
            return Declined(reason=f"{run.id} has returned no model: it is {run.state.replace('_', ' ')}")
        if model.id == position.champion.id:
            return Declined(reason=f"{model.name} is the champion already")
        if model.state is ModelState.FAILED and any(left.id == model.id for left in position.state.ledger.retiring):
            await self.stop(model)  # what came up ill then could not be stopped, and is not what is wanted now
        match await self.deploy(model):
            case Taken(handle=handle):
                return Redeployed(run=run, model=model, handle=handle)
            case Declined(reason=reason):
                return Declined(reason=f"{model.name} cannot be deployed: {reason}")
            case effect:
                return effect

    async def served(self, model: Model, champion: Model) -> Served:
        """The endpoint that the deployer names now. Raises TemporaryError where it names none.

        On the champion's own server (a fine-tuned model of the same API, an adapter) it needs the same credential;
        a server elsewhere must not see it.
        """
        readiness = await self.deployer.ready(dict(model.detail.get("handle", {})))
        if not isinstance(readiness, Endpoint):
            raise TemporaryError(f"{model.name} was ready, but its deployer now says {readiness}")
        credential = champion.credential if origin(readiness.url) == origin(champion.url or "") else None
        return Served(url=readiness.url, model=readiness.model, credential=credential)

    async def stop(self, model: Model) -> None:
        """Stop what was deployed of the model, if anything was. Raises what the deployer does."""
        if "handle" in model.detail:
            await self.deployer.retire(dict(model.detail["handle"]))

    async def stop_if_it_can(self, model: Model) -> Stopped:
        """As `stop`, but what cannot be stopped delays nothing: that is tried again later."""
        try:
            await self.stop(model)
        except Exception as exc:  # noqa: BLE001 - a plug-in's edge
            _log.warning("%s could not be stopped, that is tried again: %s", model.name, exc)
            return Stopped(failed=True)
        return Stopped()
