"""The dataset builder: streams samples from the store, in batches, beside the event loop."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from policies.formats import FORMATS
from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.dataset.joining import Joining
from proxy.loop.dataset.preferred import Preferring
from proxy.loop.dataset.regenerated import Regenerated
from proxy.loop.dataset.rehearsal import Rehearsal
from proxy.loop.dataset.selection_pass import LineFormat, Progress, SelectionPass, read_all
from proxy.loop.dataset.space import Sized, ensure_space
from proxy.loop.dataset.staging import Split, Staging
from proxy.loop.dataset.writer import Writer, read_manifest
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.private import make_folder
from proxy.store.tables.keys import id_floor

__all__ = ["Preview", "SampleSource", "StoreDatasetBuilder"]

_T = TypeVar("_T")
_BATCH_CHARS = 2_000_000
_BATCH_SAMPLES = 200
_READ_ROWS = 500
_LOOKED_AT = 100
"""Samples that the room for a build is estimated from."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class SampleSource(Protocol):
    """What a build reads: `Store.samples`, or an archive's."""

    def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 500,
    ) -> AsyncIterator[Sample]:
        """Stream samples; `before_id` is exclusive."""
        ...

    def judged(self, *, before_id: str | None = None, chunk: int = 100) -> AsyncIterator[Sample]:
        """Stream what people corrected or disliked, also what is no sample."""
        ...


@runtime_checkable
class KnowsModels(Protocol):
    """A source that knows which models were trained here; samples of another keep the generation that they have."""

    async def generations(self) -> Mapping[str, int]:
        """By a model's name: how many trainings of this installation lie behind it; those with none may be left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a build over the newest records would keep, and its first lines."""

    seen: int
    kept: int
    dropped: dict[str, int]
    lines: tuple[dict[str, Any], ...]
    """Newest first."""


class StoreDatasetBuilder:
    """Builds datasets from the store (the port `DatasetBuilder`)."""

    def __init__(
        self,
        samples: SampleSource,
        config: DataGeneratorConfig,
        training_dir: Path,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        line_format: LineFormat | None = None,
    ) -> None:
        """Datasets go to `training_dir/<run_id>/`. `on_progress` is called after every batch, on the event loop.

        `line_format` writes the lines, instead of the config's `format_type`.
        """
        self._samples = samples
        self._config = config
        self._training_dir = training_dir.expanduser().absolute()
        self._on_progress = on_progress
        self._line_format = line_format
        self.building: Progress | None = None
        """How far the build that is under way has come."""

    async def build(self, request: DatasetRequest, *, limit: int | None = None) -> Manifest:
        """Write the files of `request.run_id`, or return the manifest of those that are already there.

        `limit`: look at so many records only, the newest.
        """
        folder = self._folder(request.run_id)
        finished = read_manifest(folder)
        if finished is not None and Path(finished.data_path).is_file():
            return finished
        self.building = Progress(seen=0, kept=0, dropped={})
        try:
            make_folder(folder)
            before_id = id_floor(round(request.until_s * 1e6))
            rehearsal = await self._rehearsal()
            await self._ensure_space(folder, before_id, limit)
            with Staging(folder / "staging.db") as staging:
                chosen = SelectionPass(self._config, staging, self._line_format)
                await self._fill(chosen, before_id, limit)
                return await _in_thread(lambda: Writer(folder, request, self._config, chosen, rehearsal).write())
        except (OSError, sqlite3.OperationalError) as error:
            raise TemporaryError(
                f"the dataset of {request.run_id} could not be written to {folder}: {error}"
            ) from error
        finally:
            self.building = None

    async def preview(self, *, until_s: float, scan: int = 2000, show: int = 10) -> Preview:
        """What a build would make of the newest `scan` records before `until_s`; writes nothing."""
        with Staging(None) as staging:
            chosen = SelectionPass(self._config, staging, self._line_format)
            await self._fill(chosen, id_floor(round(until_s * 1e6)), limit=scan)
            await _in_thread(chosen.finish)
            newest = list(staging.bodies(Split.TRAIN))[::-1][:show]
            return Preview(
                seen=chosen.seen,
                kept=staging.count(Split.TRAIN) + staging.count(Split.HOLDOUT),
                dropped=dict(chosen.dropped),
                lines=tuple(json.loads(line) for line in newest),
            )

    async def discard(self, run_id: str) -> None:
        """Remove data.jsonl and holdout.jsonl; manifest and lineage stay. Safe to repeat."""
        folder = self._folder(run_id)
        for name in ("data.jsonl", "holdout.jsonl"):  # gigabytes, perhaps, and a disk takes its time to let them go
            await asyncio.to_thread((folder / name).unlink, missing_ok=True)

    def _folder(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise PermanentError(
                f"run id {run_id!r} cannot be a folder name: use letters, digits, dot, dash, underscore"
            )
        return self._training_dir / run_id

    async def _rehearsal(self) -> Rehearsal | None:
        if not self._config.include_existing_data:
            return None
        return await _in_thread(lambda: Rehearsal(self._config.existing_data_path, self._config.format_type))

    async def _ensure_space(self, folder: Path, before_id: str, limit: int | None) -> None:
        """Raises TemporaryError where the disk of `folder` has no room for it, to judge by the newest samples."""
        if not isinstance(self._samples, Sized):
            return
        size = await self._samples.size()
        records = size.records if limit is None else min(limit, size.records)
        newest = [batch async for batch in self._batches(before_id, limit=_LOOKED_AT)]
        samples = [sample for batch in newest for sample in batch]
        await _in_thread(lambda: ensure_space(folder, samples, records, self._config))

    async def _fill(self, chosen: SelectionPass, before_id: str, limit: int | None) -> None:
        judged = self._samples.judged(before_id=before_id, chunk=_READ_ROWS)
        joining = Joining(self._samples)  # what was asked may stand in an earlier part
        async with aclosing(_batched(judged, None)) as batches:
            async for logged in batches:
                batch = await joining.join(logged)
                await _in_thread(partial(chosen.judged.remember, batch))
        async with aclosing(self._batches(before_id, limit)) as batches:
            async for batch in batches:
                await _in_thread(partial(chosen.take, batch))
                progress = chosen.progress()
                if self.building is not None:
                    self.building = progress
                self._on_progress(progress)
                if chosen.satisfied:
                    return

    async def _preferring(self) -> Preferring | None:
        """What people prefer, for formats that learn from it."""
        wanted = self._line_format is None and FORMATS[self._config.format_type].needs_votes
        return await Preferring.of(self._samples) if wanted else None

    def _regenerated(self) -> Regenerated | None:
        """What users had made anew, for the same formats, where that is chosen."""
        wanted = self._line_format is None and FORMATS[self._config.format_type].needs_votes
        return Regenerated.of(self._samples) if wanted and self._config.learn_from_regenerated else None

    async def _batches(self, before_id: str, limit: int | None) -> AsyncGenerator[list[Sample]]:
        """The samples before `before_id`, newest first, as they are judged: read, and with their generation."""
        generations = await self._samples.generations() if isinstance(self._samples, KnowsModels) else {}
        source = self._samples.iter(before_id=before_id, newest_first=True, chunk=_READ_ROWS)
        joining, preferring = Joining(self._samples), await self._preferring()
        regenerated = self._regenerated()
        async with aclosing(_batched(source, limit)) as batches:
            async for logged in batches:
                batch = await joining.join(logged)
                if preferring is not None:
                    batch = await preferring.put(batch, generations)
                if regenerated is not None:
                    batch = await regenerated.put(batch, generations)
                yield await _in_thread(partial(read_all, batch, generations))


async def _batched(source: AsyncIterator[Sample], limit: int | None) -> AsyncGenerator[list[Sample], None]:
    """Batches bounded in number and in characters and bytes; at most `limit` samples in all."""
    batch: list[Sample] = []
    seen = chars = 0
    async with aclosing(source) as samples:  # type: ignore[type-var]
        async for sample in samples:
            batch.append(sample)
            seen += 1
            chars += len(sample.query) + len(sample.response)
            chars += len(sample.exchange.request) + len(sample.exchange.response)
            if len(batch) >= _BATCH_SAMPLES or chars >= _BATCH_CHARS:
                yield batch
                batch, chars = [], 0
            if seen == limit:
                break
    if batch:
        yield batch


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run `work` beside the event loop. When cancelled, wait for its end: it uses files that are about to be closed."""
    running = asyncio.get_running_loop().run_in_executor(None, work)  # no task: its error would be logged as well
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
