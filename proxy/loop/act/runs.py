"""Retrains: from a trigger to a model that is registered. Each step is safe to do twice by its run id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from policies.actions import AcceptModel, CancelRun, FailRun, PrepareData, StartTraining
from policies.lifecycle import Event
from policies.snapshot import Retry
from policies.triggers import TriggerConfig, too_few_samples
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.act.context import ActionContext, ActionResult, changed, count
from proxy.loop.act.deployments import stopped
from proxy.loop.dataset.forgetting import blank_words, forget_users, holds_gap, numbers_of, read_document
from proxy.loop.ports import DatasetBuilder, DatasetRequest, Deployer, Failed, Manifest, Succeeded, Trainer, TrainingRun
from proxy.loop.state import with_retry
from proxy.private import make_folder, replace_private
from proxy.store.store import Store
from proxy.store.tables.control import ModelState, Run

__all__ = ["FAILURE_FILE", "LINEAGE_FILE", "Runs"]

LINEAGE_FILE: Final = "lineage.csv"
"""Beside a dataset's manifest: whose records are in it."""
FAILURE_FILE: Final = "failure.txt"
"""In a run's folder: what a failed training said."""

_LONGEST_BUILD_S: Final = 86_400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Performs the actions on runs."""

    store: Store
    datasets: DatasetBuilder
    trainer: Trainer
    deployer: Deployer
    triggers: TriggerConfig
    training_dir: Path
    training_timeout_s: float
    check_interval_s: float
    fingerprint: str

    async def prepare(self, action: PrepareData, now: ActionContext) -> ActionResult:
        """Write the dataset; what it holds decides where the run goes."""
        request = DatasetRequest(run_id=action.run_id, until_s=now.at, config_fingerprint=self.fingerprint)
        run = Run(
            id=action.run_id,
            state="preparing",
            trigger=action.trigger,
            started_us=now.at_us,
            trainer=self.trainer.kind,
        )
        try:
            manifest = await self.datasets.build(request)
        except PermanentError as exc:
            return self._not_prepared(now, run, str(exc))
        corrected = await self._without_deleted(run.id, now.at)
        await self.store.runs.add_users(run.id, _trained_users(self.training_dir / run.id / LINEAGE_FILE))
        manifest = manifest if corrected is None else Manifest.of(corrected)
        run = replace(run, manifest=manifest.as_json() if corrected is None else corrected)
        usable = manifest.samples - manifest.rehearsal_samples
        left_out = dict(manifest.dropped)
        now = replace(now, state=replace(now.state, usable_samples=usable, usable_at=now.at, left_out=left_out))
        too_few = too_few_samples(usable, self.triggers, left_out)
        if too_few is not None:
            return self._too_small(now, run, too_few)
        return self._prepared(action, now, run, manifest)

    async def _without_deleted(self, run_id: str, at: float) -> dict[str, Any] | None:
        """Users who were deleted while the dataset was built have left it, too: the manifest then, else None."""
        deleted = await self.store.days.deleted_users()
        folder = self.training_dir / run_id
        since_us = int((at - _LONGEST_BUILD_S) * 1e6)
        late = {user for user, at_us in deleted.items() if at_us > since_us}
        if not late or not (folder / LINEAGE_FILE).exists():
            return None
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        done = await asyncio.to_thread(forget_users, folder, late, when)
        return await asyncio.to_thread(read_document, folder / "manifest.json") if done.lines else None

    def _prepared(self, action: PrepareData, now: ActionContext, run: Run, manifest: Manifest) -> ActionResult:
        state, totals = now.state, count(now.state.totals, "runs")
        outcome = {"samples": manifest.samples, "data_path": manifest.data_path}
        if action.train:
            reason = f"{manifest.samples} samples for run {run.id} (trigger {run.trigger})"
            state = changed(
                now,
                Event.DATASET_READY,
                reason,
                run_id=run.id,
                totals=totals,
                prior_dataset_at=state.last_dataset_at,
                prior_retrain_at=state.last_retrain_at,
                last_dataset_at=now.at,
                last_retrain_at=now.at,
            )
            run = replace(run, state="prepared")
            return ActionResult(event=Event.DATASET_READY, state=state, reason=reason, runs=(run,), outcome=outcome)
        reason = f"{manifest.samples} samples in {manifest.data_path}; nothing is trained on them"
        # Asked for by a person it is a rehearsal and starts no cool-down; without a trainer it is all there is.
        turn: dict[str, Any] = {} if now.manual else {"last_dataset_at": now.at, "last_retrain_at": now.at}
        state = changed(now, Event.DATASET_ONLY, reason, totals=totals, **turn)
        run = replace(run, state="data_only", ended_us=now.at_us)
        return ActionResult(event=Event.DATASET_ONLY, state=state, reason=reason, runs=(run,), outcome=outcome)

    def _too_small(self, now: ActionContext, run: Run, reason: str) -> ActionResult:
        retry = Retry(action="PrepareData", at=now.at + self.check_interval_s, attempts=1, reason=reason)
        state = with_retry(changed(now, Event.DATASET_TOO_SMALL, reason, totals=count(now.state.totals, "runs")), retry)
        run = replace(run, state="too_small", ended_us=now.at_us, error=reason)
        return ActionResult(event=Event.DATASET_TOO_SMALL, state=state, reason=reason, runs=(run,))

    def _not_prepared(self, now: ActionContext, run: Run, error: str) -> ActionResult:
        reason = f"the dataset of {run.id} could not be written: {error}"
        totals = count(count(now.state.totals, "runs"), "failed_retrains")
        state = changed(now, Event.DATASET_FAILED, reason, totals=totals, **_failure(now))
        run = replace(run, state="failed", ended_us=now.at_us, error=error)
        return ActionResult(event=Event.DATASET_FAILED, state=state, reason=reason, runs=(run,))

    async def start(self, action: StartTraining, now: ActionContext) -> ActionResult:
        """Hand the run to the trainer."""
        run = _run(now)
        manifest = run.manifest or {}
        holdout = manifest.get("holdout_path")
        order = TrainingRun(
            run_id=run.id,
            data_path=Path(manifest["data_path"]),
            holdout_path=Path(holdout) if holdout else None,
            output_dir=self.training_dir / run.id,
            champion=now.participants.champion.name,
            timeout_s=self.training_timeout_s,
        )
        try:
            handle = await self.trainer.start(order)
        except PermanentError as exc:
            return await self.fail(FailRun(run_id=action.run_id, reason=str(exc)), now)
        reason = f"{self.trainer.kind} trainer has taken run {run.id}"
        run = replace(run, state="training", handle=handle)
        state = changed(now, Event.TRAINING_STARTED, reason)
        return ActionResult(event=Event.TRAINING_STARTED, state=state, reason=reason, runs=(run,))

    async def accept(self, action: AcceptModel, now: ActionContext) -> ActionResult:
        """Register what the training returned, and clean its data up."""
        run = _run(now)
        status = await self.trainer.poll(run.id, dict(run.handle or {}))
        if not isinstance(status, Succeeded):
            raise TemporaryError(f"run {run.id} had succeeded, but its trainer now says {status}")
        result = await self._result(run, status)
        path = result.get("model_path")
        model = await self.store.models.add(
            run.id.replace("run-", "model-", 1),
            path=None if path is None else str(path),
            run_id=run.id,
            detail={"result": result, "trained_beside": now.participants.champion.id},
        )
        await self.datasets.discard(run.id)
        reason = f"{run.id} returned {model.name}"
        totals = count(now.state.totals, "retrains")
        state = changed(now, Event.TRAINED, reason, challenger_id=model.id, totals=totals, failures_in_a_row=0)
        run = replace(run, state="trained", ended_us=now.at_us, result=result)
        return ActionResult(event=Event.TRAINED, state=state, reason=reason, runs=(run,), outcome={"model": model.name})

    async def _result(self, run: Run, status: Succeeded) -> dict[str, Any]:
        """What the training returned; without texts where a user was deleted whose data it had, as it may quote it."""
        folder = self.training_dir / run.id
        if not await asyncio.to_thread(holds_gap, folder):
            return dict(status.result)
        await asyncio.to_thread(blank_words, folder)
        return numbers_of(status.result)

    async def fail(self, action: FailRun, now: ActionContext) -> ActionResult:
        """Stop what may still run; the data is kept, and the samples count again for the next trigger."""
        run = _run(now)
        await self._keep_words(run)
        await self._stop(run)
        if await asyncio.to_thread(holds_gap, self.training_dir / run.id):
            await asyncio.to_thread(blank_words, self.training_dir / run.id)
        reason = f"{run.id} failed: {action.reason}"
        state = changed(
            now,
            Event.TRAINING_FAILED,
            reason,
            run_id=None,
            last_dataset_at=now.state.prior_dataset_at,
            last_retrain_at=now.state.prior_retrain_at,
            totals=count(now.state.totals, "failed_retrains"),
            **_failure(now),
        )
        run = replace(run, state="failed", ended_us=now.at_us, error=action.reason)
        return ActionResult(event=Event.TRAINING_FAILED, state=state, reason=reason, runs=(run,))

    async def cancel(self, action: CancelRun, now: ActionContext) -> ActionResult:
        """Stop a run for a person, in training or in deployment. The cool-down stays: nobody wants it back at once."""
        run, model = _run(now), now.participants.challenger
        if run.state == "training":
            await self._stop(run)
        reason = f"{run.id} was cancelled: {now.reason}"
        left = now.state.retiring if model is None else await stopped(self.deployer, model, now)
        state = changed(now, Event.RUN_CANCELLED, reason, run_id=None, challenger_id=None, retiring=left)
        run = replace(run, state="cancelled", ended_us=now.at_us, error="cancelled by a person")
        models = () if model is None else (replace(model, state=ModelState.FAILED, retired_us=now.at_us),)
        return ActionResult(event=Event.RUN_CANCELLED, state=state, reason=reason, runs=(run,), models=models)

    async def _keep_words(self, run: Run) -> None:
        """What the training said of its failure goes into its folder, where it lives and is deleted with its data."""
        if run.handle is None:
            return
        try:
            status = await self.trainer.poll(run.id, dict(run.handle))
            if isinstance(status, Failed) and status.kept is not None:
                folder = self.training_dir / run.id
                await asyncio.to_thread(_write_words, folder / FAILURE_FILE, status.reason)
        except (TemporaryError, PermanentError, OSError) as exc:
            _log.warning("run %s: what it says of its failure cannot be kept: %s", run.id, type(exc).__name__)

    async def _stop(self, run: Run) -> None:
        """Cancel what still runs. A trainer that cannot be reached does not keep the loop from going on."""
        if run.handle is None:
            return
        try:
            await self.trainer.cancel(run.id, dict(run.handle))
        except (TemporaryError, PermanentError, OSError) as exc:
            _log.warning("run %s could not be cancelled, it may still be running: %s", run.id, exc)


def _write_words(path: Path, words: str) -> None:
    make_folder(path.parent)
    replace_private(path, f"{words}\n".encode(errors="replace"))  # it may quote what no encoding has


def _run(now: ActionContext) -> Run:
    if now.run is None:
        raise PermanentError(f"run {now.state.run_id} is not in the database; was an older one restored?")
    return now.run


def _trained_users(lineage: Path) -> Iterator[int]:
    """Users with samples in the training file, from the dataset's lineage, where it has one: record_id,user,split,…"""
    if not lineage.exists():
        return
    with lineage.open() as file:
        for line in file:
            _, user, split, *_ = line.rstrip("\n").split(",", 3)
            if split == "train" and user:
                yield int(user)


def _failure(now: ActionContext) -> dict[str, Any]:
    """What a failed retrain does to the back-off."""
    return {"failures_in_a_row": now.state.failures_in_a_row + 1, "last_failure_at": now.at}
