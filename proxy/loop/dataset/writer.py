"""The last step of a build: staged lines and rehearsal become files, each written aside, synced and renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import orjson

from policies.selection import DataGeneratorConfig, rehearsal_count
from proxy.loop.dataset.picking import Picking
from proxy.loop.dataset.rehearsal import Rehearsal
from proxy.loop.dataset.staging import Split
from proxy.loop.ports import DatasetRequest, Manifest

__all__ = ["Writer", "read_manifest"]


@dataclass(slots=True)
class Writer:
    """Turns a pass into files."""

    folder: Path
    request: DatasetRequest
    config: DataGeneratorConfig
    picking: Picking
    rehearsal: Rehearsal | None

    def write(self) -> Manifest:
        """Write everything; returns what manifest.json says."""
        self.picking.finish()
        staging = self.picking.staging
        new, holdout, rehearsed = staging.count(Split.TRAIN), staging.count(Split.HOLDOUT), 0
        mixed: Iterable[bytes] = staging.bodies(Split.TRAIN)
        if self.rehearsal is not None:
            rehearsed = rehearsal_count(new, self.rehearsal.available, self.config.existing_data_share)
            mixed = _interleave(mixed, new, self.rehearsal.take(rehearsed, self.request.run_id), rehearsed)
            if self.rehearsal.malformed:
                self.picking.dropped["rehearsal_malformed"] = self.rehearsal.malformed
        data, held = self.folder / "data.jsonl", self.folder / "holdout.jsonl"
        sha256 = _write_lines(data, mixed)
        if holdout:
            _write_lines(held, staging.bodies(Split.HOLDOUT))
        else:
            held.unlink(missing_ok=True)  # of an attempt that was cut short
        self._lineage()
        first, last = staging.record_range(Split.TRAIN)
        manifest = Manifest(
            run_id=self.request.run_id,
            data_path=str(data),
            holdout_path=str(held) if holdout else None,
            samples=new + rehearsed,
            holdout_samples=holdout,
            rehearsal_samples=rehearsed,
            seen=self.picking.seen,
            dropped=dict(sorted(self.picking.dropped.items())),
            sha256=sha256,
            format_type=self.picking.line_format.name,
            first_record_id=first,
            last_record_id=last,
            config_fingerprint=self.request.config_fingerprint,
            models=dict(Counter(line.model for line in staging.lines(Split.TRAIN))),
        )
        _write_lines(self.folder / "manifest.json", [json.dumps(manifest.as_json(), indent=2).encode()])
        return manifest

    def _lineage(self) -> None:
        rows = (
            f"{source.record_id},{'' if source.user is None else source.user},{split.name.lower()}".encode()
            for split in Split
            for source in self.picking.staging.sources(split)
        )
        _write_lines(self.folder / "lineage.csv", chain([b"record_id,user,split"], rows))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished dataset, or None."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    content = orjson.loads(path.read_bytes())
    return Manifest(**{item.name: content[item.name] for item in fields(Manifest)})


def _interleave(first: Iterable[bytes], n_first: int, second: Iterator[bytes], n_second: int) -> Iterator[bytes]:
    """Both in order, spread evenly over each other."""
    given = 0
    for at, line in enumerate(first, start=1):
        yield line
        while given * n_first < at * n_second and (extra := next(second, None)) is not None:
            given += 1
            yield extra
    yield from second


def _write_lines(path: Path, rows: Iterable[bytes]) -> str:
    """Write atomically and durably; returns the SHA-256 of the file, hex."""
    digest = hashlib.sha256()
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as out:
        for row in rows:
            line = row + b"\n"
            digest.update(line)
            out.write(line)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest.hexdigest()
