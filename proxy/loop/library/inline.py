"""Trainer, deployer and probe of the library: the application's own function trains, the application itself serves."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from proxy.errors import TemporaryError
from proxy.loop.adapters.trainers.calling import anchored, call
from proxy.loop.adapters.trainers.plain import NotPlainError, plain
from proxy.loop.adapters.trainers.results import accept
from proxy.loop.ports import Endpoint, Failed, Handle, Readiness, TrainingRun, TrainingStatus
from proxy.private import make_folder, replace_private

__all__ = ["AppDeployer", "AppProbe", "InlineTrainer", "Job", "TrainFunction"]

TrainFunction: TypeAlias = Callable[[str], Any]
"""The quick start's `train_model(data_path) -> {"model_path": …, metrics}`; may be async."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training that the thread of the caller is to run."""

    function: TrainFunction
    data_path: str
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[dict[str, Any]]

    def run(self) -> None:
        """Train. KeyboardInterrupt and SystemExit go on to the caller."""
        pid = os.getpid()
        outcome = _INTERRUPTED
        try:
            outcome = _outcome_of(self.function, self.data_path)
        finally:
            if os.getpid() == pid:  # not in a child that the function forked and that came back from it
                self._settle(outcome)

    def skip(self) -> None:
        """The caller has been interrupted and trains nothing any more."""
        self._settle(_INTERRUPTED)

    def _settle(self, outcome: dict[str, Any]) -> None:
        self.loop.call_soon_threadsafe(self.done.set_result, outcome)


_INTERRUPTED: dict[str, Any] = {"error": "the training was interrupted"}


class InlineTrainer:
    """Runs a function in the thread that waits for `jobs`: the caller's own, since a function may need that.

    The result is written to the run's folder before it counts, so that a crash right after the training does not
    train again.
    """

    kind = "callable"

    def __init__(self, training_dir: Path) -> None:
        self._training_dir = training_dir
        self.function: TrainFunction | None = None
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.failure: str | None = None
        """What the function raised the last time that it did, for whoever called it: it is written down nowhere else
        than in the run's folder."""

    def begin(self, function: TrainFunction | None) -> None:
        """An iteration begins, with this function or none."""
        self.function = function
        self.failure = None

    async def start(self, run: TrainingRun) -> Handle:
        """Train, unless this run has been trained already."""
        path = self._result_path(run.run_id)
        if not path.exists():
            if self.function is None:
                raise TemporaryError(f"run {run.run_id} needs a train_fn: pass one to run_iteration or run_loop")
            outcome = await self._in_callers_thread(self.function, str(run.data_path))
            self.failure = outcome.get("error")
            make_folder(path.parent)
            replace_private(path, orjson.dumps(outcome))
        return {"result_path": str(path)}

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """What the function returned, or how it failed."""
        try:
            outcome = orjson.loads(self._result_path(run_id).read_bytes())
        except (OSError, ValueError) as exc:
            return Failed(reason=f"the result of the training cannot be read: {exc}")
        if "error" in outcome:
            return Failed(reason=outcome["error"], kept=outcome.get("kept"))
        path = self._result_path(run_id)
        return accept(outcome["result"], base=Path.cwd(), home=path.parent)

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Nothing runs between two iterations."""

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """True where the run's result is there."""
        return self._result_path(run_id).exists()

    def _result_path(self, run_id: str) -> Path:
        return self._training_dir / run_id / "result.json"

    async def _in_callers_thread(self, function: TrainFunction, data_path: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        job = Job(function=function, data_path=data_path, loop=loop, done=loop.create_future())
        self.jobs.put(job)
        return await job.done


def _outcome_of(function: TrainFunction, data_path: str) -> dict[str, Any]:
    """{"result": plain JSON}, or {"error": with the function's own words, "kept": without}."""
    try:
        began = Path.cwd()
        result = call(function, data_path)
    except Exception as exc:  # noqa: BLE001 - the user's own function: whatever it raises is its result
        kept = f"train_fn raised {type(exc).__name__}"
        return {"error": f"{kept}: {exc}", "kept": kept}
    if not isinstance(result, Mapping):
        return {"error": f"the training returned {type(result).__name__}, not an object with model_path"}
    try:
        return {"result": plain(anchored(result, began))}
    except NotPlainError as exc:
        return {"error": str(exc), "kept": exc.kept}


class AppDeployer:
    """The application serves its models itself: a model is there as soon as it is named."""

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Nothing to start."""
        return {"model_id": model_id}

    async def ready(self, handle: Handle) -> Readiness:
        """At once."""
        return Endpoint(url="")

    async def healthy(self, handle: Handle) -> bool:
        """The application would know."""
        return True

    async def ensure(self, handle: Handle) -> Handle:
        """Nothing to bring back."""
        return handle

    async def retire(self, handle: Handle) -> None:
        """Nothing to stop."""


class AppProbe:
    """The model that the application began with is alive as long as the application is."""

    async def answers(self, url: str) -> bool:
        """Always."""
        return True
