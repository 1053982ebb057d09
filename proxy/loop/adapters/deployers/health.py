"""Is a model server up? GET on its health path, 2xx means yes."""

from __future__ import annotations

import ssl

from proxy.config.loop import DeployerConfig
from proxy.errors import TemporaryError
from proxy.loop.adapters.webhook import Webhook

__all__ = ["trusts_unseen", "why_unhealthy"]


def trusts_unseen(config: DeployerConfig) -> bool:
    """Whether no model's server is asked whether it is up: `options.health_check = "false"` of a static deployer."""
    return config.kind == "static" and config.options.get("health_check", "true").lower() == "false"


async def why_unhealthy(url: str, health_path: str, tls: ssl.SSLContext | None = None) -> str | None:
    """Why the server at `url` is not up, or None when it is. `tls`: whom to trust beside the system's authorities."""
    try:
        answer = await Webhook("deployer.url", url, None, timeout_s=5.0, tls=tls).call("GET", health_path)
    except TemporaryError as error:
        return str(error)
    return None if answer.good else f"GET {url}{health_path} answered {answer.excerpt()}"
