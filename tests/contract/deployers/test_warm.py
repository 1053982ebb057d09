"""A fresh model answers recorded requests before it counts as ready."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.clock import SystemClock
from proxy.config.loop import DeployerConfig
from proxy.config.serving import ChampionConfig
from proxy.loop.deployers import WarmingDeployer, build_deployer, recorded
from proxy.loop.ports import DeployFailed, Endpoint, NotReady, Readiness
from proxy.store.store import Store
from proxy.store.values import IngestBatch, NewRecord, RecordFlag
from tests.harness.exchanges import exchange
from tests.harness.webserver import serving


class FreshModel:
    """Answers its first request when `warm` is set, with `status`."""

    def __init__(self) -> None:
        self.warm = asyncio.Event()
        self.status = 200
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        chat = Route("/v1/chat/completions", self.chat, methods=["POST"])
        self.app = Starlette(routes=[chat, Route("/health", lambda _: Response())])

    async def chat(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        await self.warm.wait()
        return JSONResponse({}, self.status)


@asynccontextmanager
async def warming(folder: Path, model: FreshModel, records: Sequence[NewRecord]) -> AsyncIterator[WarmingDeployer]:
    """A static deployer on `model`, whose server is the champion's too, with `records` in a real store."""
    store = await Store.open(f"sqlite:///{folder / 'ratchet.db'}", clock=SystemClock())
    await store.apply(IngestBatch(records=tuple(records), writer="test", segment=1, offset=1))
    async with serving(model.app) as url:
        inner = build_deployer(DeployerConfig(url=url, options={"model": "tuned"}), folder)
        champion = ChampionConfig(url=f"{url}/elsewhere", api_key="sk-1")
        deployer = WarmingDeployer(inner, partial(recorded, store, 3), champion, timeout_s=120.0)
        try:
            yield deployer
        finally:
            await deployer.close()
            model.warm.set()
    await store.close()


def history(*changes: dict[str, Any]) -> list[NewRecord]:
    """One exchange for each of `changes`, a second apart, the last one the newest."""
    rng, now_us = random.Random(1), int(time.time() * 1e6)
    return [exchange(now_us - (len(changes) - n) * 1_000_000, rng, **change) for n, change in enumerate(changes)]


async def settled(deployer: WarmingDeployer) -> Readiness:
    """What it says when the warm-up has ended."""
    handle = await deployer.deploy(1, "tuned", None, {})
    async with asyncio.timeout(120):
        while isinstance(readiness := await deployer.ready(handle), NotReady):
            pass
    return readiness


async def test_a_model_is_ready_when_it_has_answered_the_newest_good_requests(tmp_path: Path) -> None:
    model = FreshModel()
    unfit = ({"flags": RecordFlag.NO_TRAIN}, {"flags": RecordFlag.TRUNCATED_REQUEST}, {"status": 500})
    records = history(*[{}] * 4, *unfit)
    async with warming(tmp_path, model, records) as deployer:
        handle = await deployer.deploy(1, "tuned", None, {})
        assert await deployer.ready(handle) == NotReady(reason="it is answering its first recorded requests")
        model.warm.set()
        assert isinstance(await settled(deployer), Endpoint)
        assert isinstance(await deployer.ready(handle), Endpoint)
    bodies = [record.body for record in reversed(records[1:4])]
    assert [asked["messages"][-1]["content"] for asked in model.asked] == [body.query for body in bodies if body]
    assert {asked["model"] for asked in model.asked} == {"tuned"}
    assert set(model.keys) == {"Bearer sk-1"}


async def test_a_model_that_answers_nothing_never_gets_a_user(tmp_path: Path) -> None:
    model = FreshModel()
    model.warm.set()
    model.status = 500
    async with warming(tmp_path, model, history({}, {})) as deployer:
        readiness = await settled(deployer)
    expected = "it answered none of 2 recorded requests; the last: POST /v1/chat/completions: HTTP 500"
    assert readiness == DeployFailed(reason=expected)


async def test_an_answer_that_blames_the_client_is_an_answer(tmp_path: Path) -> None:
    model = FreshModel()
    model.warm.set()
    model.status = 401
    async with warming(tmp_path, model, history({})) as deployer:
        assert isinstance(await settled(deployer), Endpoint)
    assert len(model.asked) == 1


async def test_without_a_history_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    model = FreshModel()
    async with warming(tmp_path, model, []) as deployer:
        assert isinstance(await settled(deployer), Endpoint)
    assert model.asked == []


async def test_a_model_that_is_retired_meanwhile_is_left_in_peace(tmp_path: Path) -> None:
    model = FreshModel()
    async with warming(tmp_path, model, history({})) as deployer:
        handle = await deployer.deploy(1, "tuned", None, {})
        assert isinstance(await deployer.ready(handle), NotReady)
        await deployer.retire(handle)
        assert isinstance(await deployer.ready(handle), NotReady)  # asked again, it begins again
    assert len(model.asked) <= 2
