"""A fresh model answers a few recorded requests before its first user.

Loading, compiling and filling caches are then not charged to users, nor to the model in its experiment; and a model
that is healthy but answers nothing never gets a user. An answer is read as those are that users get: an error inside
of a 200 is none. Wraps any deployer: `ready` says "not yet" while the answers are awaited in the background, so that no
tick waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import aiohttp
import orjson

from proxy.config.serving import ChampionConfig
from proxy.loop.adapters.session import open_session
from proxy.loop.ports import Deployer, DeployFailed, Endpoint, Handle, NotReady, Readiness
from proxy.routes import origin
from proxy.store.store import Store
from proxy.store.tables.values import RecordFlag
from proxy.tasks import cancel_and_wait, spawn
from proxy.wire.decode import UnknownEncodingError, decode
from proxy.wire.extract import CapturedExchange, extract

__all__ = ["Replayable", "Replays", "WarmingDeployer", "recorded"]

_LOOK_BACK: Final = 500
"""Newest records among which replayable ones are looked for."""
_MOST_READ: Final = 1 << 24
"""Bytes of an unpacked answer that are read."""
_KEPT_HEADERS: Final = ("content-type", "accept", "anthropic-version", "openai-organization")
_UNFIT: Final = RecordFlag.TRUNCATED_REQUEST | RecordFlag.NO_TRAIN | RecordFlag.UNREAD
_NOT_ALLOWED: Final = (401, 403)
_STATUS: Final = re.compile(r"HTTP \d{3}(?: with an error inside)?")
_REFUSED: Final = re.compile(r"HTTP 4\d\d")
"""It does not know the model, or the request: that does not pass by itself."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayable:
    """A request that a model has answered well once."""

    target: str
    """Path and query."""
    headers: Mapping[str, str]
    body: bytes


Replays: TypeAlias = Callable[[], Awaitable[Sequence[Replayable]]]


async def recorded(store: Store, count: int) -> list[Replayable]:
    """The newest requests of an understood shape that were answered well, whole, and free to be used again."""
    found: list[Replayable] = []
    seen = 0
    async for view in store.records.iter(newest_first=True, chunk=50):
        row, body = view.row, view.body
        if body is not None and row.method == "POST" and RecordFlag.SAMPLE in row.flags and not row.flags & _UNFIT:
            headers = {name: body.request_headers[name] for name in _KEPT_HEADERS if name in body.request_headers}
            found.append(Replayable(target=body.target, headers=headers, body=body.request))
        seen += 1
        if len(found) == count or seen == _LOOK_BACK:
            break
    return found


class WarmingDeployer:
    """`inner`, whose models are ready when they have answered what `replays` gives."""

    def __init__(self, inner: Deployer, replays: Replays, champion: ChampionConfig, *, timeout_s: float) -> None:
        """`champion` lends its credential to models on its own server; `timeout_s` is for each answer."""
        self._inner = inner
        self._replays = replays
        self._champion = champion
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._warming: dict[bytes, asyncio.Task[DeployFailed | None]] = {}

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """As `inner` does; the handle is this model's alone, also where another one was at the same place before."""
        handle = await self._inner.deploy(model_id, name, model_path, detail)
        return {**handle, "model_id": model_id}

    async def ready(self, handle: Handle) -> Readiness:
        """What `inner` says, but an endpoint only once the recorded requests are through."""
        readiness = await self._inner.ready(handle)
        if not isinstance(readiness, Endpoint):
            return readiness
        task = self._warming.get(key := _key(handle))
        if task is None:
            task = self._warming[key] = spawn(self._warm(readiness), name=f"warm-up of {readiness.url}")
        done, _ = await asyncio.wait((task,), timeout=0.2)
        if not done:
            return NotReady(reason="it is being warmed up with recorded requests")
        return task.result() or readiness

    async def healthy(self, handle: Handle) -> bool:
        """As `inner` says."""
        return await self._inner.healthy(handle)

    async def ensure(self, handle: Handle) -> Handle:
        """As `inner` does."""
        return await self._inner.ensure(handle)

    async def retire(self, handle: Handle) -> None:
        """Stop warming it, and as `inner` does."""
        if (task := self._warming.pop(_key(handle), None)) is not None:
            await cancel_and_wait([task])
        await self._inner.retire(handle)

    async def close(self) -> None:
        """Stop whatever is being warmed; a restarted controller begins again."""
        await cancel_and_wait(self._warming.values())

    async def _warm(self, endpoint: Endpoint) -> DeployFailed | None:
        """One request after the other; a failure only where none of them was answered."""
        try:
            requests = await self._replays()
        except Exception as exc:  # noqa: BLE001 - a store that is away must not delay a model
            _log.warning("%s is not warmed up: %s", endpoint.url, exc)
            return None
        async with open_session(self._timeout) as session:
            refusals = [await self._refusal(session, endpoint, request) for request in requests]
        failed = [refusal for refusal in refusals if refusal is not None]
        if requests and len(failed) == len(requests):
            none = f"it answered none of {len(failed)} recorded requests"
            status = _STATUS.search(failed[-1])  # what follows it, the model says
            kept = none if status is None else f"{none}; the last: {status[0]}"
            may_pass = not any(_REFUSED.search(refusal) for refusal in failed)
            return DeployFailed(reason=f"{none}; the last: {failed[-1]}", kept=kept, may_pass=may_pass)
        return None

    async def _refusal(self, session: aiohttp.ClientSession, endpoint: Endpoint, request: Replayable) -> str | None:
        """Why there was no answer; None where there was one."""
        url = endpoint.url.rstrip("/") + request.target
        credential = self._credential(endpoint)
        headers = {**request.headers, **credential}
        try:
            data = _renamed(request.body, endpoint.model)
            async with session.post(url, data=data, headers=headers, auto_decompress=False) as response:
                body = _decoded(await response.read(), response.headers.get("content-encoding", ""))
        except TimeoutError:
            return f"POST {request.target} took longer than {self._timeout.total:.0f} s"
        except (aiohttp.ClientError, ValueError) as exc:
            return f"POST {request.target}: {str(exc) or type(exc).__name__}"
        if response.status in _NOT_ALLOWED and not credential:
            return None  # clients bring their own credentials, which are never kept: this says nothing of the model
        why = _failure(request, response.status, response.headers.get("content-type", ""), body)
        return why and f"POST {request.target}: {why}"

    def _credential(self, endpoint: Endpoint) -> Mapping[str, str]:
        header = self._champion.credential_header()
        if header is None or origin(endpoint.url) != origin(self._champion.url):
            return {}
        return dict((header,))


def _key(handle: Handle) -> bytes:
    return orjson.dumps(handle, option=orjson.OPT_SORT_KEYS)


def _decoded(body: bytes, encoding: str) -> bytes:
    """The body as its encoding says, or as it came where it is not what that says: users get it all the same."""
    try:
        return decode(body, encoding, _MOST_READ) or body
    except UnknownEncodingError:
        return body


def _failure(request: Replayable, status: int, media_type: str, body: bytes) -> str | None:
    """What says that this is no answer, in words; None where nothing does."""
    found = extract(
        CapturedExchange(
            target=request.target,
            status=status,
            request=request.body,
            response=body,
            request_type=request.headers.get("content-type", ""),
            response_type=media_type,
        )
    )
    said = f", {found.error}" if found.error else ""
    if status >= 400:
        return f"HTTP {status}{said}"
    if found.failed:
        return f"HTTP {status} with an error inside{said}"
    return "a stream that was cut off" if found.whole is False else None


def _renamed(body: bytes, model: str | None) -> bytes:
    """The body with its `model` field set to `model`, where it is a JSON object that has one."""
    if model is None:
        return body
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(fields, dict) or "model" not in fields:
        return body
    return orjson.dumps({**fields, "model": model})
