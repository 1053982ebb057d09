"""An endpoint that somebody else looks after: `deployer.url`, or the `url` that the training returned.

The training's result may name the `model` to ask for, too; that is how a fine-tuned model of a hosted API is deployed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from proxy.config.loop import DeployerConfig
from proxy.errors import PermanentError
from proxy.loop.adapters.deployers.health import trusts_unseen, why_unhealthy
from proxy.loop.ports import Endpoint, Handle, NotReady, Readiness

__all__ = ["StaticDeployer"]


class StaticDeployer:
    """Nothing is started and nothing stopped."""

    def __init__(self, config: DeployerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`options.model` names the model to ask for; `options.health_check = "false"` trusts the url unseen.
        `tls`: whom to trust beside the system's authorities."""
        self._tls = tls
        self._url = config.url
        self._model = config.options.get("model")
        self._health_path = config.health_path
        self._checked = not trusts_unseen(config)

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Note the endpoint. Raises PermanentError where none is known."""
        url = detail.get("url") or self._url
        if not isinstance(url, str):
            raise PermanentError(f"{name} has no endpoint: deployer.url is not set and its training returned no url")
        return {"kind": "static", "url": url, "model": detail.get("model") or self._model}

    async def ready(self, handle: Handle) -> Readiness:
        """Whether the endpoint is healthy."""
        reason = await why_unhealthy(handle["url"], self._health_path, self._tls) if self._checked else None
        return Endpoint(url=handle["url"], model=handle["model"]) if reason is None else NotReady(reason=reason)

    async def healthy(self, handle: Handle) -> bool:
        """Whether the endpoint is healthy."""
        return isinstance(await self.ready(handle), Endpoint)

    async def ensure(self, handle: Handle) -> Handle:
        """Nothing of ours can be lost."""
        return handle

    async def retire(self, handle: Handle) -> None:
        """Nothing of ours is running."""
