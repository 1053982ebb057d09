"""LoRA adapters on running vLLM servers (VLLM_ALLOW_RUNTIME_LORA_UPDATING=True), one load per replica.

A load goes to one replica only and does not survive its restart, so every replica is asked what it has (GET /v1/models)
and loaded again where the adapter is missing. A load can answer 200 for a path that does not exist and then serve the
base model's answers (vllm#18372); hence the path is checked first, and one token is generated before it counts as
ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.config.loop import DeployerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.webhook import ServiceReply, Webhook
from proxy.loop.ports import DeployFailed, Endpoint, Handle, NotReady, Readiness

__all__ = ["VllmLoraDeployer"]

_log = logging.getLogger(__name__)
_TIMEOUT_S = 25.0  # loading reads some hundred megabytes; the loop waits 30 s for an answer


class VllmLoraDeployer:
    """Keeps one adapter per model on every replica. Requests ask for it by the model's name."""

    def __init__(self, config: DeployerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`deployer.url` is where requests go, `deployer.urls` are the replicas behind it (default: the url itself).

        `options.remote_path = "true"`: model paths exist on the replicas, not here. `options.probe = "false"`: no token
        is generated before an adapter counts as ready. `tls`: whom to trust beside the system's authorities. Raises
        ConfigError without any url.
        """
        urls = config.urls or ((config.url,) if config.url else ())
        if not urls:
            raise ConfigError("deployer.url is not set")
        self._url = (config.url or urls[0]).rstrip("/")
        self._replicas = [
            Webhook("deployer.urls", url, config.token_file, timeout_s=_TIMEOUT_S, tls=tls) for url in urls
        ]
        self._remote_path = config.options.get("remote_path", "false") == "true"
        self._probe = config.options.get("probe", "true") != "false"

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Load the adapter wherever it is missing. Where one replica does not take it, none keeps it: a model that is
        not deployed must not take the memory of one that is. Raises what that replica said."""
        if not model_path:
            raise PermanentError(f"{name} has no model_path, which a LoRA adapter is loaded from")
        if (
            not self._remote_path
            and "://" not in model_path
            and not (Path(model_path) / "adapter_config.json").is_file()
        ):
            raise PermanentError(
                f"the model_path of {name} is not a LoRA adapter: there is no {model_path}/adapter_config.json"
            )
        handle = {"kind": "vllm_lora", "name": name, "path": model_path.removeprefix("hf://")}
        loads = (self._load(replica, handle) for replica in self._replicas)
        answers = await asyncio.gather(*loads, return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed:
            await self._take_back(handle)
            raise next((error for error in failed if not isinstance(error, TemporaryError)), failed[0])
        return handle

    async def ready(self, handle: Handle) -> Readiness:
        """Whether every replica lists the adapter, from our path, and can generate with it."""
        for replica in self._replicas:
            try:
                verdict = await self._verify(replica, handle)
            except TemporaryError as error:
                verdict = NotReady(reason=str(error))
            if verdict is not None:
                return verdict
        return Endpoint(url=self._url, model=handle["name"])

    async def healthy(self, handle: Handle) -> bool:
        """Whether every replica that answers lists the adapter, and at least one does."""
        asked = (self._root(replica, handle) for replica in self._replicas)
        roots = await asyncio.gather(*asked, return_exceptions=True)
        known = [root for root in roots if not isinstance(root, TemporaryError)]
        return bool(known) and all(isinstance(root, str) for root in known)

    async def ensure(self, handle: Handle) -> Handle:
        """Load the adapter again where a restart has lost it. A replica that is down is left for the next time."""
        results = await asyncio.gather(
            *(self._load(replica, handle) for replica in self._replicas), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, TemporaryError):
                raise result
        return handle

    async def retire(self, handle: Handle) -> None:
        """Unload it from every replica. Raises TemporaryError where one is not reached; from the others it is gone."""
        errors = await self._unloaded(self._replicas, handle)
        if errors:
            raise errors[0]

    async def _take_back(self, handle: Handle) -> None:
        """Unload what the other replicas have taken. What cannot be reached is said: the next attempt asks it again."""
        mine = []
        for replica in self._replicas:
            with contextlib.suppress(TemporaryError, PermanentError):
                if await self._root(replica, handle) == handle["path"]:
                    mine.append(replica)
        for error in await self._unloaded(mine, handle):
            _log.warning("LoRA adapter %s could not be unloaded: %s", handle["name"], error)

    async def _unloaded(self, replicas: Iterable[Webhook], handle: Handle) -> list[BaseException]:
        """What went wrong, if anything did: one that refuses does not keep it on the others."""
        answers = await asyncio.gather(*(self._unload(one, handle) for one in replicas), return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, BaseException)]

    async def _unload(self, replica: Webhook, handle: Handle) -> None:
        if await self._root(replica, handle) is None:
            return
        answer = await replica.call("POST", "/v1/unload_lora_adapter", body={"lora_name": handle["name"]})
        if not answer.good and answer.status != 404:
            raise PermanentError(f"{replica.url} did not unload {handle['name']}: {answer.excerpt()}")

    async def _load(self, replica: Webhook, handle: Handle) -> None:
        if await self._root(replica, handle) is not None:
            return
        body = {"lora_name": handle["name"], "lora_path": handle["path"]}
        answer = await replica.call("POST", "/v1/load_lora_adapter", body=body)
        if answer.good or "already been loaded" in answer.excerpt():
            return
        hint = ""
        if answer.fields.get("detail") == "Not Found":  # no such route, as opposed to no such adapter
            hint = "; start the server with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        raise PermanentError(f"{replica.url} did not load {handle['name']}: {answer.excerpt()}{hint}")

    async def _root(self, replica: Webhook, handle: Handle) -> str | None:
        """The path from which the replica has the adapter; None where it does not list it."""
        answer = await replica.call("GET", "/v1/models")
        if not answer.good:
            raise PermanentError(f"{replica.url} does not list its models: {answer.excerpt()}")
        listed = answer.fields.get("data")
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, Mapping) and entry.get("id") == handle["name"]:
                return str(entry.get("root") or handle["path"])
        return None

    async def _verify(self, replica: Webhook, handle: Handle) -> NotReady | DeployFailed | None:
        root = await self._root(replica, handle)
        if root is None:
            return NotReady(reason=f"{replica.url} does not list {handle['name']}")
        if root != handle["path"]:
            return DeployFailed(reason=f"{replica.url} has {handle['name']} from {root}, not from {handle['path']}")
        if not self._probe:
            return None
        answer = await self._generate(replica, handle["name"])
        if answer.good:
            return None
        return DeployFailed(reason=f"{replica.url} lists {handle['name']} but cannot use it: {answer.excerpt()}")

    async def _generate(self, replica: Webhook, name: str) -> ServiceReply:
        body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        return await replica.call("POST", "/v1/completions", body=body)
