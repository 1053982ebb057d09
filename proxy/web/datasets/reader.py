"""Everything that is known about the dataset of a run, for the console, the API and the command line alike.

The text of a line is only shown while each record behind it is in the store: `ratchet records delete` and retention
have then not taken it back, whatever a training file still holds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from policies.rows import Run
from proxy.store.store import Store
from proxy.store.tables.values import RecordRow
from proxy.web.datasets.difference import changed_settings, compare_counts, compare_records
from proxy.web.datasets.folder import SPLITS, DatasetFolder, DatasetLine, LineSource, is_run_id
from proxy.web.datasets.rendering import render
from proxy.web.datasets.summary import summary
from proxy.web.documents import iso, user_text

__all__ = ["DatasetReader", "line_document", "words_of"]

_RUNS: Final = 1000
"""Newest runs among which the former dataset is looked for."""
_WORDS: Final = 100
_RECORD_ID: Final = re.compile("[0-9a-f]{32}")
_COMPARED: Final = ("seen", "used", "left_out", "samples", "holdout_samples", "rehearsal_samples", "liked", "bytes",
                    "tokens", "estimated_cost")  # fmt: skip
_GONE: Final = "not shown: the record has been deleted"
_DROPPED: Final = "not shown: retention has deleted the record's text"
_NOT_TOLD: Final = "not shown: this dataset does not name the line's record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a record beside its line."""

    words: str
    """How its question begins; empty where its text has been dropped."""
    quality: float | None
    feedback: float | None
    model: str | None
    text: bool
    """Whether its text is still kept: retention drops texts before it drops records."""


def words_of(text: str | None) -> str:
    """How a text begins, on one line."""
    words = " ".join((text or "")[: 4 * _WORDS].split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"


def _known(row: RecordRow) -> Known:
    return Known(words=words_of(row.query), quality=row.quality, feedback=row.feedback, model=row.model_name,
                 text=row.query is not None or row.response_text is not None)  # fmt: skip


class DatasetReader:
    """Reads the datasets below `training_dir`, with what the store knows of their runs and records."""

    def __init__(self, training_dir: Path, store: Store | None, *, chosen: bool = False) -> None:
        """Without a store only what the files say is known: of what was just read from an archive.

        `chosen`: names are of folders that a person points at, whatever they are called.
        """
        self._training_dir = training_dir
        self._store = store
        self._chosen = chosen

    def folder(self, run_id: str) -> DatasetFolder:
        """The files of a run. Raises LookupError for a name that no run can have."""
        if not (self._chosen or is_run_id(run_id)):
            raise LookupError(f"there is no run {run_id}")
        return DatasetFolder(self._training_dir / run_id)

    async def document(self, run_id: str, *, examples: int = 20) -> dict[str, Any]:
        """Everything but the lines. Raises LookupError where there is no such run, or it has no dataset."""
        folder, run, manifest = await self._found(run_id)
        facts = summary(manifest)
        sizes = {split: await asyncio.to_thread(folder.size, split) for split in SPLITS}
        return {
            "run": run_id,
            "state": None if run is None else run.state,
            "built_at": None if run is None else iso(run.started_us),
            **facts,
            "dropped": await self._dropped(facts["dropped"], manifest.get("examples") or {}, examples),
            "files": sizes,
            "former": await self._former(run),
        }

    async def lines(self, run_id: str, split: str, page: int, per_page: int, why: str | None = None) -> dict[str, Any]:
        """A page of lines, in the order of the file: `lines` is null where the file is gone. `why`: only those whose
        records are there for this reason."""
        folder = self.folder(run_id)
        if why is not None:
            return await self._chosen_lines(folder, run_id, split, page, per_page, why)
        total = await asyncio.to_thread(folder.count, split)
        lines = await self.stretch(run_id, split, (page - 1) * per_page + 1, per_page)
        return {"run": run_id, "split": split, "page": page, "per_page": per_page, "total": total, "lines": lines}

    async def stretch(self, run_id: str, split: str, first: int | None, n: int) -> list[dict[str, Any]] | None:
        """`n` lines from the number `first` on, or the newest without; None where the file is gone."""
        folder, _, manifest = await self._found(run_id)
        if first is None:
            first = max(1, (await asyncio.to_thread(folder.count, split) or 0) - n + 1)
        found = await asyncio.to_thread(folder.lines, split, first, n)
        return None if found is None else await self._documents(folder, manifest, split, found)

    async def _chosen_lines(
        self, folder: DatasetFolder, run_id: str, split: str, page: int, per_page: int, why: str
    ) -> dict[str, Any]:
        _, _, manifest = await self._found(run_id)
        numbers = await asyncio.to_thread(folder.chosen, split, why)
        here = [] if numbers is None else list(numbers[(page - 1) * per_page : page * per_page])
        parts = [await asyncio.to_thread(folder.lines, split, number, 1) for number in here]
        whole = None not in parts and await asyncio.to_thread(folder.count, split) is not None
        found = [line for part in parts for line in part or ()]
        return {
            "run": run_id,
            "split": split,
            "page": page,
            "per_page": per_page,
            "total": None if numbers is None else len(numbers),
            "lines": await self._documents(folder, manifest, split, found) if whole else None,
        }

    async def _documents(
        self, folder: DatasetFolder, manifest: Mapping[str, Any], split: str, found: Sequence[DatasetLine]
    ) -> list[dict[str, Any]]:
        rehearsal = summary(manifest)["rehearsal_samples"] if split == "train" else 0
        told = await asyncio.to_thread(folder.tells_lines, split, rehearsal)
        known = await self._records(_ids(source for line in found for source in line.sources))
        hidden = [self._hidden(line, known, told=told) for line in found]
        return [line_document(line, known, why) for line, why in zip(found, hidden, strict=True)]

    async def left_out(self, run_id: str, reason: str) -> dict[str, Any]:
        """The records that the build noted of those that it left out for a reason: the newest of them, with their texts
        and numbers. Raises LookupError where nothing was left out for it."""
        _, _, manifest = await self._found(run_id)
        number = summary(manifest)["dropped"].get(reason)
        if number is None:
            raise LookupError(f"{run_id} has left nothing out for the reason {reason!r}")
        names = list((manifest.get("examples") or {}).get(reason) or ())
        able = [name for name in names if _RECORD_ID.fullmatch(name)]
        rows = {} if self._store is None else await self._store.records.rows_of(able)
        return {"reason": reason, "count": number, "rows": [(name, rows.get(name)) for name in names]}

    async def bodies(self, run_id: str, numbers: Sequence[int]) -> list[Any]:
        """Lines of the training file as the JSON that they are, in this order; the beginning of one too long."""
        folder = self.folder(run_id)
        found = [await asyncio.to_thread(folder.lines, "train", number, 1) for number in numbers]
        return [_parsed(line.body) for lines in found for line in lines or ()]

    async def left(self, run_id: str, n: int) -> list[dict[str, Any]]:
        """What lineage and store still have of a dataset whose lines are gone: its newest records."""
        sources = await asyncio.to_thread(self.folder(run_id).newest_sources, n)
        known = await self._records(_ids(sources))
        return [_source_document(source, known) for source in sources]

    async def difference(
        self, run_id: str, former_id: str | None = None, elsewhere: DatasetReader | None = None
    ) -> dict[str, Any]:
        """Against the dataset before it, or another one. Raises LookupError where there is none.

        `elsewhere` reads the other one, where it lies in another place.
        """
        folder, run, manifest = await self._found(run_id)
        former_id = former_id or await self._former(run)
        if former_id is None:
            raise LookupError(f"there is no dataset before {run_id}; name one to compare with")
        former_folder, _, former = await (elsewhere or self)._found(former_id)
        sets = await asyncio.to_thread(compare_records, former_folder, folder)
        named: Mapping[str, list[str]] = {} if sets is None else sets.examples
        known = await self._records({name for names in named.values() for name in names})
        before, after = summary(former), summary(manifest)
        models = {side: {name or "unknown": n for name, n in facts["models"].items()}
                  for side, facts in (("former", before), ("later", after))}  # fmt: skip
        return {
            "run": run_id,
            "former": former_id,
            "records": None if sets is None else {"new": sets.new, "gone": sets.gone, "same": sets.same},
            "examples": {what: [_example(name, known) for name in names] for what, names in named.items()},
            "counts": compare_counts(*({name: facts[name] for name in _COMPARED} for facts in (before, after))),
            "dropped": compare_counts(before["dropped"], after["dropped"]),
            "models": compare_counts(models["former"], models["later"]),
            "ancestry": {"former": before["ancestry"], "later": after["ancestry"]},
            "settings": await self._settings(before, after),
        }

    async def others(self, run_id: str) -> list[str]:
        """Runs with a dataset to compare with, newest first."""
        if self._store is None:
            return []
        return [run.id for run in await self._store.runs.list(_RUNS) if run.manifest and run.id != run_id]

    def _hidden(self, line: DatasetLine, known: Mapping[str, Known], *, told: bool) -> str | None:
        """Why the text of a line is not shown."""
        if self._store is None:
            return None
        if not told:
            return _NOT_TOLD  # and nobody knows whose text this would be
        behind = [known.get(source.record_id) for source in line.sources]
        if None in behind:
            return _GONE
        return None if all(record is not None and record.text for record in behind) else _DROPPED

    async def _records(self, ids: Iterable[str]) -> dict[str, Known]:
        """The records with these ids, as far as the store has them."""
        if self._store is None:
            return {}
        able = [name for name in ids if _RECORD_ID.fullmatch(name)]  # a cut or edited file has others
        return {name: _known(row) for name, row in (await self._store.records.rows_of(able)).items()}

    async def _found(self, run_id: str) -> tuple[DatasetFolder, Run | None, Mapping[str, Any]]:
        folder = self.folder(run_id)
        run = None if self._store is None else await self._store.runs.get(run_id)
        manifest = await asyncio.to_thread(folder.manifest) or (None if run is None else run.manifest)
        if manifest is None:
            raise LookupError(f"there is no run {run_id}" if run is None else f"{run_id} has no dataset")
        return folder, run, manifest

    async def _former(self, run: Run | None) -> str | None:
        """The newest run before this one that has a dataset."""
        if run is None or self._store is None:
            return None
        earlier = ((other.started_us, other.id) for other in await self._store.runs.list(_RUNS) if other.manifest)
        return max((at for at in earlier if at < (run.started_us, run.id)), default=(0, None))[1]

    async def _dropped(
        self, dropped: Mapping[str, int], named: Mapping[str, Sequence[str]], n: int
    ) -> list[dict[str, Any]]:
        """Reasons, the most frequent first, each with up to `n` records."""
        examples = {reason: list(named.get(reason) or ())[:n] for reason in dropped}
        known = await self._records({name for names in examples.values() for name in names})
        return [
            {"reason": reason, "count": count, "examples": [_example(name, known) for name in examples[reason]]}
            for reason, count in dropped.items()
        ]

    async def _settings(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """What changed between the two; None where the settings of one are not known."""
        if self._store is None or not before["config_fingerprint"] or not after["config_fingerprint"]:
            return None
        former = await self._store.configs.find(before["config_fingerprint"])
        later = await self._store.configs.find(after["config_fingerprint"])
        return None if former is None or later is None else changed_settings(former.content, later.content)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


def line_document(line: DatasetLine, known: Mapping[str, Known], hidden: str | None = None) -> dict[str, Any]:
    """A line as rows of a conversation, with where it comes from; `hidden` says why there is no text."""
    rendering = None if hidden else render(line.body)
    return {
        "number": line.number,
        "format": None if rendering is None else rendering.format,
        "members": [] if rendering is None else list(rendering.members),
        "hidden": hidden,
        "rehearsal": not line.sources and hidden != _NOT_TOLD,
        "sources": [_source_document(source, known) for source in line.sources],
        "rows": [] if rendering is None else [asdict(row) for row in rendering.rows],
    }


def _source_document(source: LineSource, known: Mapping[str, Known]) -> dict[str, Any]:
    found = known.get(source.record_id)
    return {
        "record": source.record_id,
        "there": found is not None,
        "words": None if found is None else found.words,
        "user": user_text(source.user),
        "model": source.model or (None if found is None else found.model),
        "generation": source.generation,
        "author": source.author,
        "vote": source.vote if source.vote is not None or found is None else found.feedback,
        "quality": None if found is None else found.quality,
    }


def _example(record_id: str, known: Mapping[str, Known]) -> dict[str, Any]:
    found = known.get(record_id)
    return {"record": record_id, "there": found is not None, "words": None if found is None else found.words}


def _ids(sources: Iterable[LineSource]) -> set[str]:
    return {source.record_id for source in sources}
