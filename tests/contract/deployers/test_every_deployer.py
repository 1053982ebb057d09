"""What every deployer does, wherever the model is served: one suite, run on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import pytest

from proxy.config import DeployerConfig, parse_config
from proxy.errors import ConfigError
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.ports import Deployer, DeployFailed, Endpoint, Handle, NotReady, Readiness
from tests.contract.deployers.rigs import Rig, rig_of

KINDS: Final = get_args(get_type_hints(DeployerConfig)["kind"])


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each kind of deployer in its world."""
    async with rig_of(request.param, tmp_path) as built:
        built.model("good")
        yield built


async def deployed(deployer: Deployer, path: str) -> Handle:
    return await deployer.deploy(7, "model-7", path, {"loss": 0.25})


async def settled(deployer: Deployer, handle: Handle) -> Readiness:
    """The first answer other than "not ready"."""
    while isinstance(status := await deployer.ready(handle), NotReady):
        await asyncio.sleep(0.02)
    return status


async def test_a_deployed_model_gets_an_endpoint(rig: Rig) -> None:
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("good"))
    status = await settled(deployer, handle)
    assert isinstance(status, Endpoint), status
    assert status.url.startswith("http://")
    assert await deployer.healthy(handle)
    assert await deployer.ensure(handle) == handle, "there is nothing to mend"
    await deployer.retire(handle)


async def test_a_model_is_deployed_once_however_often_it_is_asked_for(rig: Rig) -> None:
    path = rig.model("good")
    handle = await deployed(rig.deployer(), path)
    again = await deployed(rig.deployer(), path)
    assert again == handle
    assert isinstance(await settled(rig.deployer(), again), Endpoint)
    assert await deployed(rig.deployer(), path) == handle
    assert rig.starts() == 1
    await rig.deployer().retire(handle)


async def test_a_model_that_is_loading_is_not_ready_yet(rig: Rig) -> None:
    if not rig.waits:
        pytest.skip("a LoRA adapter is loaded when the load has answered")
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("loading"))
    assert isinstance(await deployer.ready(handle), NotReady)
    assert not await deployer.healthy(handle)
    rig.model("good")
    assert isinstance(await settled(deployer, handle), Endpoint)
    assert await deployer.healthy(handle)
    await deployer.retire(handle)


async def test_what_a_restart_has_lost_is_brought_back(rig: Rig) -> None:
    if not rig.restores:
        pytest.skip("a static endpoint is somebody else's to bring back")
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("good"))
    first = await settled(deployer, handle)
    rig.lose(handle)
    assert not await rig.deployer().healthy(handle)
    mended = await rig.deployer().ensure(handle)
    assert await settled(deployer, mended) == first, "it comes back where it was"
    assert await rig.deployer().healthy(mended)
    await rig.deployer().retire(mended)


async def test_a_crash_between_mending_and_writing_it_down_does_no_harm(rig: Rig) -> None:
    """The loop still has the old handle: it finds what the first `ensure` brought back, and can retire it."""
    if not rig.restores:
        pytest.skip("a static endpoint is somebody else's to bring back")
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("good"))
    await settled(deployer, handle)
    rig.lose(handle)
    mended = await rig.deployer().ensure(handle)
    assert isinstance(await settled(deployer, mended), Endpoint)
    starts = rig.starts()
    assert await rig.deployer().ensure(handle) == mended
    assert rig.starts() == starts
    await rig.deployer().retire(handle)
    assert not await rig.deployer().healthy(mended)


async def test_a_retired_model_is_gone_and_may_be_retired_again(rig: Rig) -> None:
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("good"))
    await settled(deployer, handle)
    await deployer.retire(handle)
    assert await deployer.healthy(handle) == (not rig.restores)
    await rig.deployer().retire(handle)


async def test_a_model_that_will_never_be_ready_says_why(rig: Rig) -> None:
    if not rig.waits or not rig.restores:
        pytest.skip("this kind cannot tell slow from broken")
    deployer = rig.deployer()
    handle = await deployed(deployer, rig.model("broken"))
    status = await settled(deployer, handle)
    assert isinstance(status, DeployFailed)
    assert "CUDA out of memory" in status.reason
    await deployer.retire(handle)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_needs_is_missed_before_the_start(kind: Any, tmp_path: Path) -> None:
    """Settings of which no deployer can be built are a mistake that `ratchet check-config` names."""
    try:
        build_deployer(DeployerConfig(kind=kind), tmp_path)
    except ConfigError:
        with pytest.raises(ConfigError, match=rf"deployer\.\w+: not set, although deployer\.kind is {kind}"):
            parse_config({"deployer": {"kind": kind}})
