"""Servers whose certificates a private authority has made: `champion.ca_file` is trusted wherever we call one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app.model_probe import probe_model
from proxy.checks.asking import Asker, Unreached
from proxy.checks.ports import Asked, AskedModel
from proxy.clock import ManualClock, SystemClock
from proxy.config.authorities import trusting
from proxy.config.judge import JudgeConfig
from proxy.config.loop import DeployerConfig, TrainerConfig
from proxy.errors import ConfigError, TemporaryError
from proxy.judge.build import make_judge
from proxy.judge.ports import JudgeItem
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.adapters.deployers.health import why_unhealthy
from proxy.loop.adapters.messages import NotifyTarget
from proxy.loop.adapters.notify import post
from proxy.loop.adapters.probe import HttpProbe
from proxy.loop.adapters.session import open_session
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Endpoint
from proxy.telemetry.sending import Meaning, OtlpSender
from proxy.web.open_webui.api import OpenWebUI, OpenWebUIError
from tests.harness.authority import Authority, serving_tls, serving_tls_in_thread
from tests.harness.serve import RatchetProcess, await_true, request


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


async def asked(url: str, tls: Any) -> bool:
    async with Asker(SystemClock(), timeout_s=60.0, connections=1, tls=tls) as asker:
        question = Asked(target="/v1/chat/completions", body=b"{}")
        return not isinstance(await asker.ask(AskedModel(name="new", url=url), question, model_name=False), Unreached)


async def judged(url: str, tls: Any) -> bool:
    judge = make_judge(JudgeConfig(kind="openai", url=url, model="j", attempts=1), tls)
    assert judge is not None
    user, said = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}
    await judge.score([JudgeItem(messages=(user,), answer=said)])
    await judge.close()
    return True  # whether it was asked is seen at the server


async def deployed(url: str, tls: Any) -> bool:
    deployer = build_deployer(DeployerConfig(kind="static", url=url), Path("/nonexistent"), ManualClock(), tls=tls)
    return isinstance(await deployer.ready(await deployer.deploy(1, "one", None, {})), Endpoint)


async def trained(url: str, tls: Any) -> bool:
    trainer = build_trainer(TrainerConfig(kind="http", url=url), tls)
    return await trainer.adopt("run-1", {"id": "x"}) is not None


async def probed(url: str, tls: Any) -> bool:
    return await probe_model(url, tls=tls) == ""


async def healthy(url: str, tls: Any) -> bool:
    return await why_unhealthy(url, "/health", tls) is None


async def told(url: str, tls: Any) -> bool:
    async with open_session(aiohttp.ClientTimeout(total=60.0), tls) as session:
        posted = await post(session, NotifyTarget(url), {"event": "test"})
    return untrusted(posted.taken, posted.said)


async def exported(url: str, tls: Any) -> bool:
    async with OtlpSender(url, {}, tls=tls) as sender:
        answer = await sender.send("traces", b"")
    return untrusted(answer.meaning is Meaning.TAKEN, answer.why)


async def fetched(url: str, tls: Any) -> bool:
    """The server is no Open WebUI, which shows that it was asked."""
    async with OpenWebUI(url, "key", tls) as ui:
        with pytest.raises(OpenWebUIError) as error:
            await ui.votes()
    return untrusted("no list of votes" in str(error.value), str(error.value))


def untrusted(reached: bool, said: str) -> bool:
    """`reached`; where not, it is said why and which setting is meant."""
    assert reached or ("its certificate is not trusted" in said and "champion.ca_file" in said), said
    return reached


async def alive(url: str, tls: Any) -> bool:
    return await HttpProbe(tls=tls).answers(url)


@pytest.mark.parametrize("call", [asked, judged, deployed, trained, probed, healthy, alive, told, exported, fetched])
async def test_whatever_calls_a_server_trusts_the_private_authority(
    call: Callable[[str, Any], Awaitable[bool]], authority: Authority
) -> None:
    async with serving_tls(authority) as model:
        assert await call(model.url, trusting(str(authority.ca_file)))
        assert len(model.asked) >= 1
        before = len(model.asked)
        if call is trained:
            with pytest.raises(TemporaryError, match="its certificate is not trusted"):
                await call(model.url, None)
        else:
            assert call is judged or not await call(model.url, None)
        assert len(model.asked) == before, "nobody else is trusted"


CALLS = (
    "POST /v1/chat/completions",
    "GET /v1/models",
    "POST /hook",
    "POST /v1/traces",
    "GET /api/v1/evaluations/feedbacks/all/ids",
)
"""The client's request, our own question, a notification, telemetry and Open WebUI."""


def test_whatever_serve_calls_may_be_behind_a_private_authority(authority: Authority, tmp_path: Path) -> None:
    with serving_tls_in_thread(authority) as model:
        settings = {
            "champion": {"ca_file": str(authority.ca_file)},
            "notify": {"urls": [f"{model.url}/hook"]},
            "telemetry": {"otlp_endpoint": model.url},
            "feedback": {"open_webui": {"url": model.url, "key": "key-of-an-administrator"}},
        }
        with RatchetProcess(
            tmp_path, champion=model.url, settings=settings, environ={"RATCHET_SERVER_PORT": "9000"}
        ) as ratchet:
            meant = "RATCHET_SERVER_PORT is not a setting and has no effect; did you mean RATCHET_SERVER__PORT?"
            assert meant in ratchet.log
            ratchet.await_admin()
            await_true(lambda: request(ratchet.admin_url, "/status").json()["leader"], "a leader, and so telemetry")
            body = {"model": "m", "messages": [{"role": "user", "content": "Where are you?"}]}
            answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body=body)
            assert (answer.status, "Behind a private CA." in answer.body.decode()) == (200, True)
            await_true(
                lambda: request(ratchet.admin_url, "/status").json()["champion"]["healthy"] is True,
                "a healthy champion",
            )
            order = {"verb": "pause", "why": "somebody has to be told"}
            headers = {"x-ratchet-csrf": "1"}
            answer = request(ratchet.admin_url, "/api/commands", method="POST", body=order, headers=headers)
            assert answer.status == 202
            await_true(lambda: set(CALLS) <= {line.removesuffix(" HTTP/1.1") for line in model.asked}, "every call")


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("no certificate\n", "no certificate in PEM form")])
def test_a_file_that_is_none_is_named_before_anything_starts(text: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=why) as error:
        trusting(str(file))
    assert str(error.value).startswith(f"champion.ca_file: {file} cannot be used")
