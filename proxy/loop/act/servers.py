"""Servers of models: deployed, asked where they answer, stopped.

A model whose deployment failed is kept, row and files, and can be deployed again without a training: by itself, where
what it failed of may pass (`deployer.retries`), or by a person (`ratchet deploy RUN`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from policies.actions import Challenge, Redeploy
from policies.effects import Challenged, Declined, Effect, Redeployed, Served, Stopped, Taken
from policies.rewrite import Rewrite, RewriteError
from policies.rows import BROUGHT, Model, ModelState
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
            detail = {**model.detail.get("result", {}), **({BROUGHT: True} if model.detail.get(BROUGHT) else {})}
            handle = await self.deployer.deploy(model.id, model.name, model.path, detail)
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

    async def challenge(self, action: Challenge, position: Position, at: float) -> Effect:
        """Register the challenger that a person brings, and hand it to its deployer. Done again it is the same one."""
        try:
            rewrite = None if action.rewrite is None else Rewrite.of(action.rewrite)
        except RewriteError as exc:
            return Declined(reason=str(exc))
        asked_us = round(at * 1e6)
        known = await self.store.models.named(action.name)
        if known is not None and known.detail.get("asked_us") != asked_us:
            return Declined(reason=f"name: there is a model {action.name} already; give the challenger another one")
        result = {"url": action.url, "model": action.model}
        if action.path is None:
            result["url"] = action.url or position.champion.url
            result["model"] = action.model or (position.champion.model if action.url is None else None)
        model = known or await self.store.models.add(
            action.name,
            path=action.path,
            credential=action.credential,
            rewrite=None if rewrite is None else rewrite.as_json(),
            detail={
                "asked_us": asked_us,
                BROUGHT: action.path is None,
                "result": {name: value for name, value in result.items() if value is not None},
                "trained_beside": position.champion.id,
            },
        )
        match await self.deploy(model):
            case Taken(handle=handle):
                return Challenged(model=model, handle=handle)
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
        same = origin(readiness.url) == origin(champion.url or "")
        credential = model.credential or (champion.credential if same else None)
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
