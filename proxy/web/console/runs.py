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

from proxy.printable import one_direction
from proxy.web.console.page import Console, is_fragment
from proxy.web.numbers import whole_of
from proxy.web.responses import ApiError, JsonResponse

__all__ = ["log_from", "run_routes"]

_LISTED: Final = 200
_LOG_BYTES: Final = 32_768
_LONGEST_LINE: Final = 4096
"""A line that is longer is shown before its end has come."""
_LAST_BYTE: Final = 2**53
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def run_routes(console: Console, training_dir: Path) -> list[Route]:
    """GET /runs, /runs/{id} and what its log has got since; logs are read below `training_dir`."""

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
            # while it grows, the page's script reads it: news of it is no news of the page
            "log": None
            if is_fragment(request) and found.ended_us is None
            else await asyncio.to_thread(log_from, training_dir, found.id, None),
        }
        return await console.render(request, "run.html", context)

    async def log(request: Request) -> Response:
        """From the byte `from` on; `ended` where nothing will come any more."""
        run_id, since = request.path_params["id"], whole_of(request, "from", 0, least=0, most=_LAST_BYTE)
        found = await console.store.runs.get(run_id)
        if found is None:
            raise ApiError(404, f"there is no run {run_id}")
        ended = found.ended_us is not None
        part = await asyncio.to_thread(log_from, training_dir, run_id, since, whole=ended)
        here = part or {"text": "", "next": 0, "gap": False}
        here["text"] = one_direction(here["text"])
        return JsonResponse({**here, "there": part is not None, "ended": ended})

    return [
        Route("/runs", console.page(runs)),
        Route("/runs/{id}", console.page(run)),
        Route("/runs/{id}/log", log),
    ]


def _facts(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The result as lines; an object's members as lines of their own (`metrics.loss`)."""
    lines: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            lines += [(f"{name}.{inner}", text) for inner, text in _facts(value)]
        else:
            lines.append((name, value))
    return lines


def log_from(training_dir: Path, run_id: str, offset: int | None, *, whole: bool = True) -> dict[str, Any] | None:
    """A log from a place in it on (None: its end), a bounded part of it: {"text", "next": where to go on, "gap":
    whether something was left out before it}. None where this host has no log of this run. Unless it is `whole`, a line
    that is still being written is left for the next time.

    A log that has become shorter is another one: its end is read.
    """
    if not _FOLDER.fullmatch(run_id):
        return None
    try:
        with (training_dir / run_id / "train.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            wanted = offset if offset is not None and offset <= size else 0
            start = file.seek(max(wanted, size - _LOG_BYTES))
            part = file.read(_LOG_BYTES)
    except OSError:
        return None
    gap = start > wanted
    if gap and b"\n" in part:
        cut = part.index(b"\n") + 1
        start, part = start + cut, part[cut:]
    if not whole and len(open_line := part[part.rfind(b"\n") + 1 :]) < _LONGEST_LINE:
        part = part[: len(part) - len(open_line)]
    return {"text": part.decode("utf-8", "replace"), "next": start + len(part), "gap": gap}
