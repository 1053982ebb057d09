"""What is particular to each deployer."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.config.loop import DeployerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters import processes
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.ports import Deployer, DeployFailed, Endpoint, NotReady
from tests.contract.deployers.rigs import CommandRig, VllmRig, rig_of
from tests.contract.deployers.services import DeploymentService
from tests.harness.webserver import serving


def build(config: DeployerConfig, folder: Path) -> Deployer:
    return build_deployer(config, folder, ManualClock())


# static


async def test_the_training_may_name_the_endpoint(tmp_path: Path) -> None:
    config = DeployerConfig(kind="static", url="http://default", options={"health_check": "false", "model": "m"})
    deployer = build(config, tmp_path)
    own = await deployer.deploy(1, "one", None, {"url": "http://own", "model": "ft:one"})
    assert await deployer.ready(own) == Endpoint(url="http://own", model="ft:one")
    assert await deployer.ready(await deployer.deploy(2, "two", None, {})) == Endpoint(url="http://default", model="m")


async def test_without_any_url_there_is_no_endpoint(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"deployer\.url is not set"):
        await build(DeployerConfig(kind="static"), tmp_path).deploy(1, "one", None, {})


async def test_a_server_that_is_down_is_not_ready(tmp_path: Path) -> None:
    deployer = build(DeployerConfig(kind="static", url=f"http://127.0.0.1:{unused_port()}"), tmp_path)
    handle = await deployer.deploy(1, "one", None, {})
    assert isinstance(await deployer.ready(handle), NotReady)
    assert not await deployer.healthy(handle)


# command


async def test_a_server_that_keeps_dying_is_restarted_at_most_every_ten_seconds(tmp_path: Path) -> None:
    clock = ManualClock()
    config = DeployerConfig(kind="command", command=("false",))
    deployer = build_deployer(config, tmp_path, clock)
    handle = await deployer.deploy(1, "one", None, {})
    await gone(handle["process"])
    status = await deployer.ready(handle)
    assert isinstance(status, DeployFailed)
    assert "exit code 1" in status.reason
    assert await deployer.ensure(handle) == handle
    clock.advance(10.0)
    again = await deployer.ensure(handle)
    assert again["process"] != handle["process"]
    assert again["port"] == handle["port"]
    await gone(again["process"])


async def test_a_server_that_loads_for_minutes_loses_its_port_to_no_other_connection(tmp_path: Path) -> None:
    """The kernel gives ports of its own range to whoever asks for any, and to every connection that goes out."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    deployer = build(DeployerConfig(kind="command", command=("sleep", "{port}")), tmp_path)
    handle = await deployer.deploy(1, "one", None, {})
    await deployer.retire(handle)
    assert handle["port"] < first


async def test_a_port_taken_meanwhile_is_not_fought_over(tmp_path: Path) -> None:
    async with rig_of("command", tmp_path) as rig:
        path = rig.model("good")
        handle = await rig.deployer().deploy(1, "one", path, {})
        await processes.stop(ProcessId.from_json(handle["process"]), grace_s=5.0)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", handle["port"]))
            taken.listen()
            mended = await rig.deployer().ensure(handle)
        assert mended["port"] != handle["port"]
        await rig.deployer().retire(mended)


async def test_the_server_is_asked_for_by_the_configured_name(tmp_path: Path) -> None:
    async with rig_of("command", tmp_path) as rig:
        assert isinstance(rig, CommandRig)
        deployer = rig.deployer()
        handle = await deployer.deploy(1, "one", rig.model("good"), {})
        while not isinstance(status := await deployer.ready(handle), Endpoint):
            assert isinstance(status, NotReady), status
        assert status.model == "one"
        assert (tmp_path / "models/one/server.log").exists()
        await deployer.retire(handle)


async def test_another_model_of_the_same_name_does_not_take_over_the_server(tmp_path: Path) -> None:
    async with rig_of("command", tmp_path) as rig:
        path = rig.model("good")
        first = await rig.deployer().deploy(1, "one", path, {})
        second = await rig.deployer().deploy(2, "one", path, {})
        assert second["process"] != first["process"]
        assert processes.alive(ProcessId.from_json(first["process"]))
        await rig.deployer().retire(second)
        await rig.deployer().retire(first)
        assert not processes.alive(ProcessId.from_json(first["process"]))


@pytest.mark.parametrize(
    ("name", "path", "says"),
    [
        ("one", None, "has no model_path"),
        ("one", "/no/such/model", "does not exist"),
        ("../one", "/dev/null", "cannot be a folder name"),
    ],
)
async def test_what_can_not_be_started_is_refused(tmp_path: Path, name: str, path: str | None, says: str) -> None:
    deployer = build(DeployerConfig(kind="command", command=("serve", "{model_path}")), tmp_path)
    with pytest.raises(PermanentError, match=says):
        await deployer.deploy(1, name, path, {})


async def test_a_program_that_does_not_exist_is_a_permanent_error(tmp_path: Path) -> None:
    deployer = build(DeployerConfig(kind="command", command=("/no/such/program",)), tmp_path)
    with pytest.raises(PermanentError, match=r"deployer\.command cannot be started"):
        await deployer.deploy(1, "one", None, {})


# http


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "ready"}, DeployFailed(reason="the deployment service says ready, but gives no url")),
        ({"status": "warming"}, NotReady(reason="the deployment service says: warming")),
        ({}, NotReady(reason="the deployment service says: nothing")),
    ],
)
async def test_odd_answers_of_a_deployment_service(tmp_path: Path, answer: dict[str, Any], status: Any) -> None:
    service = DeploymentService()
    service.answer = answer
    async with serving(service.app) as url:
        deployer = build(DeployerConfig(kind="http", url=f"{url}/deploy"), tmp_path)
        handle = await deployer.deploy(1, "one", "/model", {})
        assert await deployer.ready(handle) == status


async def test_a_deployment_that_is_refused_or_has_to_wait(tmp_path: Path) -> None:
    service = DeploymentService()
    async with serving(service.app) as url:
        deployer = build(DeployerConfig(kind="http", url=f"{url}/deploy"), tmp_path)
        service.refuse = 400
        with pytest.raises(PermanentError, match="no GPU left"):
            await deployer.deploy(1, "one", "/model", {})
        service.refuse = 503
        with pytest.raises(TemporaryError, match="no GPU left"):
            await deployer.deploy(1, "one", "/model", {})
    gone_handle = {"kind": "http", "model_id": 1, "name": "one", "model_path": "/model", "result": {}}
    assert not await deployer.healthy(gone_handle)
    with pytest.raises(TemporaryError, match="was not answered: connection refused"):
        await deployer.retire(gone_handle)


# vllm_lora


async def vllm(rig: VllmRig) -> tuple[Deployer, dict[str, Any]]:
    deployer = rig.deployer()
    return deployer, await deployer.deploy(7, "model-7", rig.model("good"), {})


async def test_every_replica_gets_the_adapter_and_requests_ask_for_it(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        deployer, handle = await vllm(rig)
        assert [replica.adapters for replica in rig.replicas] == [{"model-7": str(tmp_path / "adapter")}] * 2
        assert await deployer.ready(handle) == Endpoint(url=rig.config.urls[0], model="model-7")
        await deployer.retire(handle)
        assert [replica.adapters for replica in rig.replicas] == [{}, {}]


async def test_a_path_that_is_no_adapter_is_never_loaded(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        for path in ("/no/such/adapter", str(tmp_path), None):
            with pytest.raises(PermanentError, match=r"adapter_config\.json|no model_path"):
                await rig.deployer().deploy(7, "model-7", path, {})
        assert rig.replicas[0].loads == 0


async def test_an_adapter_that_is_listed_but_can_not_generate_fails(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        deployer, handle = await vllm(rig)
        rig.replicas[1].unusable.add("model-7")
        status = await deployer.ready(handle)
        assert isinstance(status, DeployFailed)
        assert "cannot use it" in status.reason


@pytest.mark.parametrize("listed", [None, {}, "x", [None, "x", 4, [], {"id": None}]])
async def test_a_list_of_models_that_is_none_has_no_adapter(tmp_path: Path, listed: object) -> None:
    """Servers that are not vLLM say null where they have no models."""
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        deployer, handle = await vllm(rig)
        rig.replicas[0].oddly.append(listed)
        status = await deployer.ready(handle)
        assert isinstance(status, NotReady)
        assert "does not list model-7" in status.reason


async def test_an_adapter_of_the_same_name_from_elsewhere_is_not_ours(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        rig.replicas[1].adapters["model-7"] = "/somewhere/else"
        deployer, handle = await vllm(rig)
        status = await deployer.ready(handle)
        assert isinstance(status, DeployFailed)
        assert "/somewhere/else" in status.reason


async def test_a_replica_that_is_down_waits_for_its_return(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        _, handle = await vllm(rig)
        down = f"http://127.0.0.1:{unused_port()}"
        deployer = build(DeployerConfig(kind="vllm_lora", urls=(rig.config.urls[0], down)), tmp_path)
        assert isinstance(await deployer.ready(handle), NotReady)
        assert await deployer.healthy(handle), "the other replica answers"
        assert await deployer.ensure(handle) == handle
        with pytest.raises(TemporaryError, match="was not answered: connection refused"):
            await deployer.retire(handle)


async def test_a_server_without_runtime_loading_says_what_to_switch_on(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        rig.replicas[0].enabled = False
        with pytest.raises(PermanentError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await vllm(rig)


@pytest.mark.parametrize("refusing", [0, 1])
async def test_an_adapter_that_one_replica_refused_is_unloaded_from_the_others(tmp_path: Path, refusing: int) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        rig.replicas[refusing].refuse = "rank 64 is greater than max_lora_rank 16"
        for _ in range(2):
            with pytest.raises(PermanentError, match="rank 64"):
                await vllm(rig)
            assert [replica.adapters for replica in rig.replicas] == [{}, {}]
        rig.replicas[refusing].refuse = None
        _, handle = await vllm(rig)
        assert [set(replica.adapters) for replica in rig.replicas] == [{"model-7"}] * 2
        rig.replicas[refusing].adapters.clear()
        rig.replicas[refusing].refuse = "no memory"
        with pytest.raises(PermanentError, match="no memory"):
            await rig.deployer().ensure(handle)
        assert rig.replicas[1 - refusing].adapters, "with users on it, it stays where it is"


async def test_what_was_loaded_from_elsewhere_is_not_taken_back(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        rig.replicas[0].adapters["model-7"] = "/somewhere/else"
        rig.replicas[1].refuse = "no memory"
        with pytest.raises(PermanentError, match="no memory"):
            await vllm(rig)
        assert rig.replicas[0].adapters == {"model-7": "/somewhere/else"}


async def test_a_replica_that_is_down_during_a_deployment_keeps_none_loaded(tmp_path: Path) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        down = f"http://127.0.0.1:{unused_port()}"
        deployer = build(DeployerConfig(kind="vllm_lora", urls=(down, *rig.config.urls)), tmp_path)
        with pytest.raises(TemporaryError):
            await deployer.deploy(7, "model-7", rig.model("good"), {})
        assert [replica.adapters for replica in rig.replicas] == [{}, {}]
        _, handle = await vllm(rig)
        with pytest.raises(TemporaryError):
            await deployer.retire(handle)
        assert [replica.adapters for replica in rig.replicas] == [{}, {}], "and none while it is being stopped"


async def test_one_that_will_not_give_it_back_is_said_and_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        rig.replicas[0].keeps = True
        rig.replicas[1].refuse = "no memory"
        with pytest.raises(PermanentError, match="no memory"):
            await vllm(rig)
        assert f"LoRA adapter model-7 could not be unloaded: POST {rig.config.urls[0]}/v1/unload" in caplog.text


async def test_the_token_is_read_from_its_file_and_stays_out_of_the_handle(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    async with rig_of("vllm_lora", tmp_path) as rig:
        assert isinstance(rig, VllmRig)
        config = DeployerConfig(kind="vllm_lora", urls=rig.config.urls, token_file=str(tmp_path / "token"))
        handle = await build(config, tmp_path).deploy(7, "model-7", rig.model("good"), {})
        assert set(rig.replicas[0].tokens) == {"Bearer s3cret"}
        assert "s3cret" not in json.dumps(handle)
        (tmp_path / "token").unlink()
        with pytest.raises(PermanentError, match="token file"):
            await build(config, tmp_path).deploy(7, "model-7", rig.model("good"), {})


@pytest.mark.parametrize("kind", ["command", "http", "vllm_lora"])
def test_settings_that_do_not_suffice_are_refused(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(ConfigError, match="deployer"):
        build(DeployerConfig(kind=kind), tmp_path)


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def gone(process: dict[str, Any]) -> None:
    """Wait until it has ended by itself."""
    while processes.alive(ProcessId.from_json(process)):
        await asyncio.sleep(0.01)
