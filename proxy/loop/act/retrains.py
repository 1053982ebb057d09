"""Retrains: from a trigger to a model that is registered. Each step is safe to do twice by its run id."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from policies.actions import PrepareData
from policies.effects import Declined, Done, Effect, Prepared, Taken, Trained
from policies.rows import BROUGHT, Model, Run
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.dataset.deletion import blank_words, delete_users, has_gap, numbers_of, read_document
from proxy.loop.ports import DatasetBuilder, DatasetRequest, Failed, Manifest, Succeeded, Trainer, TrainingRun
from proxy.private import make_folder, replace_private
from proxy.store.store import Store

__all__ = ["FAILURE_FILE", "LINEAGE_FILE", "REWRITE_FILE", "Retrains"]

LINEAGE_FILE: Final = "lineage.csv"
"""Beside a dataset's manifest: whose records are in it."""
REWRITE_FILE: Final = "rewrite.json"
"""In a run's folder: how the champion is asked otherwise than its clients ask."""
FAILURE_FILE: Final = "failure.txt"
"""In a run's folder: what a failed training said."""

_LONGEST_BUILD_S: Final = 86_400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrains:
    """Asks the dataset builder and the trainer."""

    store: Store
    datasets: DatasetBuilder
    trainer: Trainer
    training_dir: Path
    training_timeout_s: float
    fingerprint: str

    async def prepare(self, action: PrepareData, at: float) -> Effect:
        """Write the dataset, as of `at` (Unix seconds)."""
        request = DatasetRequest(run_id=action.run_id, until_s=at, config_fingerprint=self.fingerprint)
        try:
            manifest = await self.datasets.build(request)
        except PermanentError as exc:
            return Declined(reason=str(exc))
        corrected = await self._without_deleted(action.run_id, at)
        await self.store.runs.add_users(action.run_id, _trained_users(self.training_dir / action.run_id / LINEAGE_FILE))
        manifest = manifest if corrected is None else Manifest.of(corrected)
        return Prepared(
            manifest=manifest.as_json() if corrected is None else corrected,
            usable=manifest.samples - manifest.rehearsal_samples,
            left_out=dict(manifest.dropped),
            trainer=self.trainer.kind,
        )

    async def _without_deleted(self, run_id: str, at: float) -> dict[str, Any] | None:
        """Users who were deleted while the dataset was built have left it, too: the manifest then, else None."""
        deleted = await self.store.days.deleted_users()
        folder = self.training_dir / run_id
        since_us = int((at - _LONGEST_BUILD_S) * 1e6)
        late = {user for user, at_us in deleted.items() if at_us > since_us}
        if not late or not (folder / LINEAGE_FILE).exists():
            return None
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        done = await asyncio.to_thread(delete_users, folder, late, when)
        return await asyncio.to_thread(read_document, folder / "manifest.json") if done.lines else None

    async def start(self, run: Run, champion: Model) -> Effect:
        """Hand the run to the trainer."""
        manifest = run.manifest or {}
        holdout = manifest.get("holdout_path")
        order = TrainingRun(
            run_id=run.id,
            data_path=Path(manifest["data_path"]),
            holdout_path=Path(holdout) if holdout else None,
            output_dir=self.training_dir / run.id,
            champion=champion.name,
            timeout_s=self.training_timeout_s,
        )
        await asyncio.to_thread(_leave_rewrite, self.training_dir / run.id, champion)
        try:
            return Taken(handle=await self.trainer.start(order))
        except PermanentError as exc:
            await self.give_up(run)
            return Declined(reason=str(exc))

    async def accept(self, run: Run, champion: Model) -> Trained:
        """Register what the training returned, and clean its data up."""
        status = await self.trainer.poll(run.id, dict(run.handle or {}))
        if not isinstance(status, Succeeded):
            raise TemporaryError(f"run {run.id} had succeeded, but its trainer now says {status}")
        result = await self._result(run, status)
        path, detail = result.get("model_path"), {"result": result, "trained_beside": champion.id}
        if path is None and not isinstance(result.get("url"), str):  # a null stands for none, as for `accept`
            detail |= {"result": _asked_otherwise(result, champion), BROUGHT: True}
        model = await self.store.models.add(
            run.id.replace("run-", "model-", 1),
            path=None if path is None else str(path),
            rewrite=result.get("rewrite") or champion.rewrite,
            run_id=run.id,
            detail=detail,
        )
        await self.datasets.discard(run.id)
        return Trained(model=model, result=result)

    async def _result(self, run: Run, status: Succeeded) -> Mapping[str, Any]:
        """What the training returned; without texts where a user was deleted whose data it had, as it may quote it."""
        if not await asyncio.to_thread(has_gap, self.training_dir / run.id):
            return dict(status.result)
        await self._blank(run)
        return numbers_of({name: value for name, value in status.result.items() if name != "rewrite"})

    async def give_up(self, run: Run) -> Done:
        """Stop what may still run of a training that came to nothing, and keep what it said, and the data."""
        await self._keep_words(run)
        await self._stop(run)
        if await asyncio.to_thread(has_gap, self.training_dir / run.id):
            await self._blank(run)
        return Done()

    async def cancel(self, run: Run) -> None:
        """Stop it for a person, where it still trains."""
        if run.state == "training":
            await self._stop(run)

    async def _blank(self, run: Run) -> None:
        await asyncio.to_thread(blank_words, self.training_dir / run.id)

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


def _asked_otherwise(result: Mapping[str, Any], champion: Model) -> dict[str, Any]:
    """The result of a training that returned no model but a rewrite: the champion's server, asked otherwise.

    Where the rewrite was dropped, for it may quote a user who was deleted since, there is nothing to be served.
    """
    if not result.get("rewrite"):
        return {**result, "no_endpoint": "its rewrite may quote a user who was deleted since; train again"}
    return {**result, "url": champion.url, **({} if champion.model is None else {"model": champion.model})}


def _leave_rewrite(folder: Path, champion: Model) -> None:
    """Tell a training that looks for better words which are in use: a file in the run's folder, where there are any."""
    if champion.rewrite is not None:
        make_folder(folder)
        replace_private(folder / REWRITE_FILE, json.dumps(dict(champion.rewrite)))


def _write_words(path: Path, words: str) -> None:
    make_folder(path.parent)
    replace_private(path, f"{words}\n".encode(errors="replace"))  # it may quote what no encoding has


def _trained_users(lineage: Path) -> Iterator[int]:
    """Users with samples in the training file, from the dataset's lineage, where it has one: record_id,user,split,…"""
    if not lineage.exists():
        return
    with lineage.open() as file:
        for line in file:
            _, user, split, *_ = line.rstrip("\n").split(",", 3)
            if split == "train" and user:
                yield int(user)
