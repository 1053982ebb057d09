"""One kind of deployer each, and the world around it, for the suite that runs on all of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.config.loop import DeployerConfig
from proxy.loop.adapters import processes
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.ports import Deployer, Handle
from tests.contract.deployers.services import DeploymentService, VllmServer
from tests.harness.webserver import serving

SERVER = Path(__file__).with_name("model_server.py")


class Rig(ABC):
    """What the suite needs of each kind."""

    restores = True
    """Whether `ensure` brings a lost deployment back; the static one has nothing of its own."""
    waits = True
    """Whether a model can be deployed and not ready."""

    def __init__(self, config: DeployerConfig, data_dir: Path) -> None:
        self.config = config
        self.data_dir = data_dir

    def deployer(self) -> Deployer:
        """A new adapter object, as a restarted controller would have."""
        return build_deployer(self.config, self.data_dir)

    def model(self, state: str) -> str:
        """The path of a model that is `good`, `loading` or `broken`."""
        path = self.data_dir / "model"
        path.write_text(state)
        return str(path)

    @abstractmethod
    def lose(self, handle: Handle) -> None:
        """What serves the model restarts and has forgotten it."""

    @abstractmethod
    def starts(self) -> int:
        """How often the model was really deployed."""


class StaticRig(Rig):
    """A server that somebody else looks after."""

    restores = False

    def lose(self, handle: Handle) -> None:
        raise AssertionError("it serves everything it ever will, and nothing of it is ours to restart")

    def starts(self) -> int:
        return 1


class CommandRig(Rig):
    """A process of our own."""

    def lose(self, handle: Handle) -> None:
        process = ProcessId.from_json(handle["process"])
        os.kill(process.pid, signal.SIGKILL)
        while processes.alive(process):
            time.sleep(0.01)

    def starts(self) -> int:
        return len((self.data_dir / "starts").read_text().splitlines())


class HttpRig(Rig):
    """A deployment service."""

    service: DeploymentService

    def lose(self, handle: Handle) -> None:
        self.service.deployed.clear()

    def starts(self) -> int:
        return self.service.posts


class VllmRig(Rig):
    """Two replicas of a vLLM server."""

    waits = False
    replicas: tuple[VllmServer, VllmServer]

    def model(self, state: str) -> str:
        path = self.data_dir / "adapter"
        path.mkdir(exist_ok=True)
        (path / "adapter_config.json").write_text("{}")
        return str(path)

    def lose(self, handle: Handle) -> None:
        self.replicas[1].adapters.clear()

    def starts(self) -> int:
        return self.replicas[0].loads


@asynccontextmanager
async def rig_of(kind: str, folder: Path) -> AsyncIterator[Rig]:
    """The rig of this kind; what it started is stopped at the end."""
    if kind == "static":
        async with serving(_health_of(folder / "model")) as url:
            yield StaticRig(DeployerConfig(kind="static", url=url), folder)
    elif kind == "command":
        argv = (sys.executable, str(SERVER), "{model_path}", "{port}")
        options = {"stop_grace_seconds": "5", "model": "{model_name}"}
        yield CommandRig(DeployerConfig(kind="command", command=argv, options=options), folder)
    elif kind == "http":
        service = DeploymentService()
        async with serving(service.app) as url:
            http = HttpRig(DeployerConfig(kind="http", url=f"{url}/deploy"), folder)
            http.service = service
            yield http
    elif kind == "vllm_lora":
        replicas = VllmServer(), VllmServer()
        async with serving(replicas[0].app) as one, serving(replicas[1].app) as other:
            vllm = VllmRig(DeployerConfig(kind="vllm_lora", urls=(one, other)), folder)
            vllm.replicas = replicas
            yield vllm
    else:
        pytest.fail(f"deployer.kind = {kind} has no rig: what every deployer does is tested on all kinds")


def _health_of(model: Path) -> Starlette:
    async def health(_: Request) -> Response:
        return Response(status_code=200 if model.read_text() == "good" else 503)

    return Starlette(routes=[Route("/health", health)])
