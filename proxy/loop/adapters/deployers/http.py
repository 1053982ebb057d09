"""Deployment behind a webhook of three calls.

POST   {url}              {"model_id", "name", "model_path", "result"}, with the header Idempotency-Key: {model_id}
                          → 200 or 202, or 409 when it is known already
GET    {url}/{model_id}   → 200 {"status": "ready", "url", "model"?}, {"status": "pending" | "failed", "reason"?},
                          or 404 when it is not deployed
DELETE {url}/{model_id}   → 2xx, or 404 when it is gone already
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from proxy.config.loop import DeployerConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.adapters.webhook import Webhook
from proxy.loop.ports import DeployFailed, Endpoint, Handle, NotReady, Readiness

__all__ = ["HttpDeployer"]

_GONE = frozenset({404, 409, 410})


class HttpDeployer:
    """Talks to the webhook; the deployment lives there."""

    def __init__(self, config: DeployerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust beside the system's authorities. Raises ConfigError without a url."""
        self._hook = Webhook("deployer.url", config.url, config.token_file, tls=tls)

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Ask for the deployment, once: the service knows it by its Idempotency-Key."""
        order = {"model_id": model_id, "name": name, "model_path": model_path, "result": dict(detail)}
        await self._post(order)
        return {"kind": "http", **order}

    async def ready(self, handle: Handle) -> Readiness:
        """Ask how it goes."""
        answer = await self._hook.call("GET", f"/{handle['model_id']}")
        if answer.status == 404:
            return DeployFailed(reason=f"the deployment service does not know model {handle['model_id']}")
        if not answer.good:
            return NotReady(reason=f"the deployment service answered {answer.excerpt()}")
        fields = answer.fields
        status = str(fields.get("status", "")).lower()
        reason = str(fields.get("reason") or f"the deployment service says: {status or 'nothing'}")
        if status == "failed":
            return DeployFailed(reason=reason)
        if status != "ready":
            return NotReady(reason=reason)
        if not isinstance(fields.get("url"), str):
            return DeployFailed(reason="the deployment service says ready, but gives no url")
        return Endpoint(url=fields["url"], model=fields.get("model"))

    async def healthy(self, handle: Handle) -> bool:
        """Whether the service still says ready."""
        try:
            return isinstance(await self.ready(handle), Endpoint)
        except TemporaryError:
            return False

    async def ensure(self, handle: Handle) -> Handle:
        """Ask for it again where the service has forgotten it."""
        if (await self._hook.call("GET", f"/{handle['model_id']}")).status == 404:
            await self._post({key: handle[key] for key in ("model_id", "name", "model_path", "result")})
        return handle

    async def retire(self, handle: Handle) -> None:
        """Ask it to stop."""
        answer = await self._hook.call("DELETE", f"/{handle['model_id']}")
        if not answer.good and answer.status not in _GONE:
            raise PermanentError(f"the deployment service did not stop {handle['name']}: {answer.excerpt()}")

    async def _post(self, order: Mapping[str, Any]) -> None:
        answer = await self._hook.call("POST", body=order, headers={"Idempotency-Key": str(order["model_id"])})
        if not answer.good and answer.status != 409:
            raise PermanentError(f"the deployment service refused {order['name']}: {answer.excerpt()}")
