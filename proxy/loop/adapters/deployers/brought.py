"""Endpoints that a person has named (`ratchet challenge URL`), beside whatever the configured deployer serves.

Nothing is started for one and nothing stopped, and it need have no health path: a hosted API has none. It is there as
soon as its server answers at all; whether it answers well is the gate's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.rows import BROUGHT
from proxy.errors import PermanentError
from proxy.loop.ports import Deployer, Endpoint, Handle, NotReady, Probe, Readiness

__all__ = ["WithBrought"]

_KIND: Final = "brought"


class WithBrought:
    """A deployer that knows the endpoints which people bring, and leaves all else to `inner`."""

    def __init__(self, inner: Deployer, probe: Probe) -> None:
        self._inner = inner
        self._probe = probe

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Note the endpoint, or as `inner` does. Raises PermanentError where there is none."""
        if not detail.get(BROUGHT):
            return await self._inner.deploy(model_id, name, model_path, detail)
        if not detail.get("url"):
            raise PermanentError(detail.get("no_endpoint") or f"{name} has no endpoint: name its URL")
        return {"kind": _KIND, "url": detail["url"], "model": detail.get("model")}

    async def ready(self, handle: Handle) -> Readiness:
        """Whether its server answers."""
        if handle.get("kind") != _KIND:
            return await self._inner.ready(handle)
        if await self._probe.answers(handle["url"]):
            return Endpoint(url=handle["url"], model=handle["model"])
        return NotReady(reason=f"no answer from {handle['url']}")

    async def healthy(self, handle: Handle) -> bool:
        """Whether its server answers."""
        if handle.get("kind") != _KIND:
            return await self._inner.healthy(handle)
        return await self._probe.answers(handle["url"])

    async def ensure(self, handle: Handle) -> Handle:
        """There is nothing of ours to bring back."""
        return handle if handle.get("kind") == _KIND else await self._inner.ensure(handle)

    async def retire(self, handle: Handle) -> None:
        """There is nothing of ours to stop."""
        if handle.get("kind") != _KIND:
            await self._inner.retire(handle)
