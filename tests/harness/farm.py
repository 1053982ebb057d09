"""Where models are trained and served in tests of many hosts: a machine of its own, behind the webhooks of `http`.

It counts what it was really asked to do: a training that is asked for twice under one key is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.demo.processes import DemoProcess

__all__ = ["Farm"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_TRAIN: Final = """
import json, sys
from proxy.demo.training import train_model
print(json.dumps(train_model(sys.argv[1])))
"""
_SERVE: Final = """
import sys, uvicorn
from pathlib import Path
from proxy.demo.model import Assistant
from proxy.demo.server import create_app
app = create_app(Assistant.load(Path(sys.argv[1])), "model")
uvicorn.run(app, host=sys.argv[2], port=int(sys.argv[3]), log_level="warning", access_log=False)
"""


class Farm:
    """Use it in a `with`: at the end every model's server is stopped."""

    def __init__(self, address: str, directory: Path) -> None:
        self.trainings: list[str] = []
        """Keys of the trainings that were started."""
        self.deployments: list[str] = []
        """Names of the models whose server was started."""
        self._address = address
        self._directory = directory
        self._runs: dict[str, dict[str, Any]] = {}
        self._servers: dict[str, tuple[str, int, ExitStack]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
        self.app = Starlette(
            routes=[
                Route("/train", self._train, methods=["POST"]),
                Route("/train/{key}", self._trained, methods=["GET"]),
                Route("/train/{key}", self._cancel, methods=["DELETE"]),
                Route("/deploy", self._deploy, methods=["POST"]),
                Route("/deploy/{key}", self._deployed, methods=["GET"]),
                Route("/deploy/{key}", self._retire, methods=["DELETE"]),
            ]
        )

    def __enter__(self) -> Farm:
        return self

    def __exit__(self, *exc: object) -> None:
        for key in list(self._servers):
            self._stop(key)

    def serve(self, key: str, model: Path) -> str:
        """Start a server for this model; returns its url."""
        with socket.socket() as probe:
            probe.bind((self._address, 0))
            port = int(probe.getsockname()[1])
        stack = ExitStack()
        argv = [sys.executable, "-c", _SERVE, str(model), self._address, str(port)]
        stack.enter_context(DemoProcess(argv, log=self._directory / f"server-{key}.log", env=self._environ))
        url = f"http://{self._address}:{port}"
        self._servers[key] = url, port, stack
        return url

    async def ready(self, key: str) -> bool:
        """Whether that server listens."""
        _, port, _ = self._servers[key]
        try:
            _, writer = await asyncio.open_connection(self._address, port)
        except OSError:
            return False
        writer.close()
        return True

    async def _train(self, request: Request) -> Response:
        order, key = await request.json(), request.headers["idempotency-key"]
        if key in self._runs:
            return Response(status_code=409)
        self.trainings.append(key)
        self._runs[key] = {"status": "running"}
        task = asyncio.get_running_loop().create_task(self._work(key, order["data_path"]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse(self._runs[key], 202)

    async def _work(self, key: str, data_path: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _TRAIN, data_path, stdout=asyncio.subprocess.PIPE, env=self._environ
        )
        said, _ = await process.communicate()
        if process.returncode == 0:
            self._runs[key] = {"status": "succeeded", "result": json.loads(said)}
        else:
            self._runs[key] = {"status": "failed", "reason": f"exit code {process.returncode}"}

    async def _trained(self, request: Request) -> Response:
        run = self._runs.get(request.path_params["key"])
        return Response(status_code=404) if run is None else JSONResponse(run)

    async def _cancel(self, request: Request) -> Response:
        return Response(status_code=404)

    async def _deploy(self, request: Request) -> Response:
        order, key = await request.json(), request.headers["idempotency-key"]
        if key in self._servers:
            return Response(status_code=409)
        self.deployments.append(order["name"])
        self.serve(key, Path(order["model_path"]))
        return Response(status_code=202)

    async def _deployed(self, request: Request) -> Response:
        key = request.path_params["key"]
        if key not in self._servers:
            return Response(status_code=404)
        if not await self.ready(key):
            return JSONResponse({"status": "pending", "reason": "loading"})
        return JSONResponse({"status": "ready", "url": self._servers[key][0]})

    async def _retire(self, request: Request) -> Response:
        known = request.path_params["key"] in self._servers
        if known:
            await asyncio.to_thread(self._stop, request.path_params["key"])
        return Response(status_code=204 if known else 404)

    def _stop(self, key: str) -> None:
        self._servers.pop(key)[2].close()
