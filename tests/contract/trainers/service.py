"""A real training service behind the webhook that `proxy.loop.adapters.trainers.http` documents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.contract.trainers.training import train


class TrainingService:
    """Runs trainings in threads and remembers them by their idempotency key."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.refuse: tuple[int, dict[str, str]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = Starlette(
            routes=[
                Route("/train", self.start, methods=["POST"]),
                Route("/train/{run_id}", self.look, methods=["GET"]),
                Route("/train/{run_id}", self.stop, methods=["DELETE"]),
            ]
        )

    async def start(self, request: Request) -> Response:
        self.requests.append((request.method, request.headers.get("authorization")))
        if self.refuse is not None:
            return JSONResponse({"error": "no"}, self.refuse[0], self.refuse[1])
        order = await request.json()
        run_id = request.headers["idempotency-key"]
        assert run_id == order["run_id"]
        if run_id in self.runs:
            return Response(status_code=409)
        self.runs[run_id] = {"status": "queued"}
        self.orders[run_id] = order
        self._tasks.add(asyncio.get_running_loop().create_task(self._run(order)))
        return JSONResponse(self.runs[run_id], 202)

    async def look(self, request: Request) -> Response:
        run = self.runs.get(request.path_params["run_id"])
        return Response(status_code=404) if run is None else JSONResponse(run)

    async def stop(self, request: Request) -> Response:
        order = self.orders.get(request.path_params["run_id"])
        if order is None:
            return Response(status_code=404)
        (Path(order["output_dir"]) / "stop").touch()
        return Response(status_code=204)

    async def ended(self) -> None:
        """Wait for all trainings."""
        await asyncio.gather(*self._tasks)

    async def _run(self, order: dict[str, Any]) -> None:
        run = self.runs[order["run_id"]]

        def report(fraction: float, message: str) -> None:
            run.update(status="running", progress=fraction, message=message)

        try:
            result = await asyncio.to_thread(train, order["data_path"], order["output_dir"], order["run_id"], report)
            run.update(status="succeeded", result=result)
        except InterruptedError:
            run.update(status="cancelled")
        except Exception as error:
            run.update(status="failed", reason=str(error))
