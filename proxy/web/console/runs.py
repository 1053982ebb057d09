"""Runs: every retraining with its data, what was left out and why, its result, and the end of its log."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.web.console.page import Console
from proxy.web.responses import ApiError

__all__ = ["run_routes"]

_LISTED: Final = 200
_LOG_BYTES: Final = 32_768
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def run_routes(console: Console, training_dir: Path) -> list[Route]:
    """GET /runs and /runs/{id}; logs are read below `training_dir`."""

    async def runs(request: Request) -> Response:
        found = await console.store.runs.list(_LISTED)
        return await console.render(request, "runs.html", {"runs": found, "most": _LISTED})

    async def run(request: Request) -> Response:
        store = console.store
        found = await store.runs.get(request.path_params["id"])
        if found is None:
            raise ApiError(404, f"there is no run {request.path_params['id']}")
        models = [model for model in await store.models.list() if model.run_id == found.id]
        trained = {model.id for model in models}
        experiments = [e for e in await store.experiments.list() if e.challenger_model_id in trained]
        status = await console.status()
        context = {
            "status": status,
            "run": found,
            "live": status.run if status.run is not None and status.run.id == found.id and not found.ended_us else None,
            "models": models,
            "experiments": experiments,
            "result": _facts(found.result or {}),
            "log": await asyncio.to_thread(_tail, training_dir, found.id),
        }
        return await console.render(request, "run.html", context)

    return [Route("/runs", console.page(runs)), Route("/runs/{id}", console.page(run))]


def _facts(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The result as lines; an object's members as lines of their own (`metrics.loss`)."""
    lines: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            lines += [(f"{name}.{inner}", text) for inner, text in _facts(value)]
        else:
            lines.append((name, value))
    return lines


def _tail(training_dir: Path, run_id: str) -> str | None:
    """The end of the trainer's log, from a whole line on; None where this host has none."""
    if not _FOLDER.fullmatch(run_id):
        return None
    try:
        with (training_dir / run_id / "train.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_BYTES))
            tail = file.read(_LOG_BYTES)
    except OSError:
        return None
    if size > _LOG_BYTES:
        tail = tail.partition(b"\n")[2]
    return tail.decode("utf-8", "replace")
