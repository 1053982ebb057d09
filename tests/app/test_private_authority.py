"""Servers whose certificates a private authority has made: `champion.ca_file` is trusted wherever we call one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

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
from proxy.loop.adapters.probe import HttpProbe
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Endpoint
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


async def alive(url: str, tls: Any) -> bool:
    return await HttpProbe(tls=tls).answers(url)


@pytest.mark.parametrize("call", [asked, judged, deployed, trained, probed, healthy, alive])
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


def test_a_champion_and_its_challenger_behind_a_private_authority_serve(authority: Authority, tmp_path: Path) -> None:
    settings = {"champion": {"ca_file": str(authority.ca_file)}}
    with (
        serving_tls_in_thread(authority) as model,
        RatchetProcess(
            tmp_path, champion=model.url, settings=settings, environ={"RATCHET_SERVER_PORT": "9000"}
        ) as ratchet,
    ):
        assert (
            "RATCHET_SERVER_PORT is not a setting and has no effect; did you mean RATCHET_SERVER__PORT?" in ratchet.log
        )
        body = {"model": "m", "messages": [{"role": "user", "content": "Where are you?"}]}
        answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body=body)
        assert (answer.status, "Behind a private CA." in answer.body.decode()) == (200, True)
        ratchet.await_admin()
        await_true(
            lambda: request(ratchet.admin_url, "/status").json()["champion"]["healthy"] is True, "a healthy champion"
        )
        assert "GET /v1/models HTTP/1.1" in model.asked, "its own question, too"


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("no certificate\n", "no certificate in PEM form")])
def test_a_file_that_is_none_is_named_before_anything_starts(text: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=why) as error:
        trusting(str(file))
    assert str(error.value).startswith(f"champion.ca_file: {file} cannot be used")
