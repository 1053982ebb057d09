"""Whoever reads a model server's log knows who asked, and where nobody is to ask, nobody does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

import proxy
from proxy.checks.asking import Asker
from proxy.checks.ports import Asked, AskedModel
from proxy.clock import ManualClock
from proxy.config.loop import DeployerConfig
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.adapters.deployers.health import trusts_unseen, why_unhealthy
from proxy.loop.adapters.messages import NotifyTarget
from proxy.loop.adapters.notify import WebhookNotifier
from proxy.loop.adapters.probe import HttpProbe
from proxy.loop.adapters.webhook import Webhook
from proxy.version import __version__
from tests.harness.upstream import Upstream, serve_upstream

STATIC = DeployerConfig(kind="static")
UNSEEN = replace(STATIC, options={"health_check": "false"})


async def ready(upstream: Upstream, folder: Path, config: DeployerConfig = STATIC) -> None:
    made = build_deployer(replace(config, url=upstream.url), folder, ManualClock())
    handle = await made.deploy(1, "one", None, {})
    await made.ready(handle)
    await made.healthy(handle)


async def checked(upstream: Upstream, folder: Path) -> None:
    asked = Asked(target="/v1/chat/completions", body=b"{}")
    async with Asker(ManualClock(), timeout_s=120.0, connections=1) as asker:
        await asker.ask(AskedModel(name="one", url=upstream.url), asked, model_name=False)


async def lora(upstream: Upstream, folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    made = build_deployer(DeployerConfig(kind="vllm_lora", url=upstream.url), folder, ManualClock())
    handle = await made.deploy(1, "one", str(folder), {})
    await made.ready(handle)
    await made.healthy(handle)


async def told(upstream: Upstream, folder: Path) -> None:
    notifier = WebhookNotifier([NotifyTarget(f"{upstream.url}/hook")], timeout_s=120.0)
    notifier.start()
    notifier.notify({"event": "promoted"})
    await upstream.arrived.wait()
    await notifier.close()


ASKERS: dict[str, Callable[[Upstream, Path], Awaitable[object]]] = {
    "the loop's probe": lambda upstream, folder: HttpProbe(timeout_s=120.0).answers(upstream.url),
    "a health check": lambda upstream, folder: why_unhealthy(upstream.url, "/health"),
    "a static deployer": ready,
    "a check": checked,
    "a LoRA deployer": lora,
    "a webhook": lambda upstream, folder: Webhook("trainer.url", upstream.url, None).call("POST", "/x", body={}),
    "a notification": told,
}


@pytest.mark.parametrize("name", ASKERS)
async def test_every_request_of_ours_says_so(name: str, tmp_path: Path) -> None:
    async with serve_upstream() as upstream:
        await ASKERS[name](upstream, tmp_path)
    assert {seen.header("user-agent") for seen in upstream.seen} == {f"ratchet/{__version__}".encode()}


def test_there_is_one_place_that_opens_a_session() -> None:
    root = Path(proxy.__file__).parent
    places = [path for path in (root / "loop").rglob("*.py") if "ClientSession(" in path.read_text()]
    assert [path.name for path in places] == ["session.py"]
    others = re.compile(r"urlopen|http\.client|import requests|import httpx")
    assert not [path for path in (root / "loop").rglob("*.py") if others.search(path.read_text())]


@pytest.mark.parametrize(
    ("config", "unseen"),
    [
        (STATIC, False),
        (UNSEEN, True),
        (replace(STATIC, options={"health_check": "False"}), True),
        (replace(STATIC, options={"health_check": "true"}), False),
        (replace(UNSEEN, kind="command"), False),
    ],
)
def test_what_is_trusted_unseen(config: DeployerConfig, unseen: bool) -> None:
    assert trusts_unseen(config) is unseen


async def test_without_a_health_check_nobody_asks(tmp_path: Path) -> None:
    async with serve_upstream() as upstream:
        await ready(upstream, tmp_path, UNSEEN)
        assert await HttpProbe(trusting=trusts_unseen(UNSEEN)).answers(upstream.url)
        assert await HttpProbe(trusting=trusts_unseen(UNSEEN)).answers("http://127.0.0.1:1")
    assert upstream.seen == []
