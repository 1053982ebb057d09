"""The last step of a build: staged lines and rehearsal become files, each written aside, synced and renamed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from policies.formats import in_parts
from policies.records import Author
from policies.selection import DataGeneratorConfig, rehearsal_count
from proxy.loop.dataset.rehearsal import Rehearsal
from proxy.loop.dataset.selection_pass import SelectionPass
from proxy.loop.dataset.staging import Split
from proxy.loop.dataset.tokens import TokenCount
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.private import open_private

__all__ = ["Writer", "read_manifest"]

_AT_ONCE = 16
"""Lines: each may be as long as a whole body."""
_LINEAGE = ("record_id", "user", "split", "line", "model", "generation", "author", "vote", "preferred")


@dataclass(slots=True)
class Writer:
    """Turns a pass into files."""

    folder: Path
    request: DatasetRequest
    config: DataGeneratorConfig
    picking: SelectionPass
    rehearsal: Rehearsal | None

    def write(self) -> Manifest:
        """Write everything; returns what manifest.json says."""
        self.picking.finish(in_parts=self.rehearsal is not None and self.rehearsal.parts)
        staging = self.picking.staging
        new, holdout, rehearsed = staging.count(Split.TRAIN), staging.count(Split.HOLDOUT), 0
        tokens = TokenCount(self.config.tokenizer)
        parted = self.picking.in_parts
        mixed: Iterable[bytes] = staging.bodies(Split.TRAIN)
        if tokens.exact:
            mixed = _counted(mixed, tokens)
        else:
            tokens.add_characters(self.picking.kept.chars)
        if self.rehearsal is not None:
            rehearsed = rehearsal_count(new, self.rehearsal.available, self.config.existing_data_share)
            extra = _counted(self.rehearsal.take(rehearsed, self.request.run_id), tokens)
            mixed = _interleave(mixed, new, extra, rehearsed)
        data, apart = self.folder / "data.jsonl", self.folder / "holdout.jsonl"
        sha256 = _write_lines(data, map(_in_parts, mixed) if parted else mixed)
        if holdout:
            bodies = staging.bodies(Split.HOLDOUT)
            _write_lines(apart, map(_in_parts, bodies) if parted else bodies)
        else:
            apart.unlink(missing_ok=True)  # of an attempt that was interrupted
        _write_lines(self.folder / "lineage.csv", self._lineage(new, rehearsed))
        manifest = self._manifest(data, apart if holdout else None, sha256, tokens)
        _write_lines(self.folder / "manifest.json", [json.dumps(manifest.as_json(), indent=2).encode()])
        return manifest

    def _manifest(self, data: Path, apart: Path | None, sha256: str, tokens: TokenCount) -> Manifest:
        picking, staging, kept = self.picking, self.picking.staging, self.picking.kept
        first, last = staging.record_range(Split.TRAIN)
        new, cost = staging.count(Split.TRAIN), self.config.cost_per_million_tokens
        rehearsed = 0 if self.rehearsal is None else self.rehearsal.taken
        return Manifest(
            run_id=self.request.run_id,
            data_path=str(data),
            holdout_path=None if apart is None else str(apart),
            samples=new + rehearsed,
            holdout_samples=staging.count(Split.HOLDOUT),
            rehearsal_samples=rehearsed,
            rehearsal_malformed=0 if self.rehearsal is None else self.rehearsal.malformed,
            seen=picking.seen,
            records=picking.used,
            dropped=dict(sorted(picking.dropped.items())),
            examples={reason: tuple(ids) for reason, ids in sorted(picking.examples.items())},
            sha256=sha256,
            format_type=picking.line_format.name,
            first_record_id=first,
            last_record_id=last,
            config_fingerprint=self.request.config_fingerprint,
            models=dict(kept.models),
            authors={author.name.lower(): kept.authors[author] for author in Author},
            generations={str(generation): n for generation, n in sorted(kept.generations.items())},
            liked=kept.liked,
            preferred=kept.preferred,
            regenerated=kept.regenerated,
            reasoning={"lines": kept.reasoned, "kept": self.config.keep_reasoning},
            bytes=data.stat().st_size,
            tokens=tokens.tokens,
            tokens_by=tokens.by,
            estimated_cost=None if cost is None else round(tokens.tokens / 1e6 * cost, 6),
        )

    def _lineage(self, new: int, rehearsed: int) -> Iterator[bytes]:
        """The lines of lineage.csv. Rehearsal lines are of no record, but have their numbers in the file."""
        yield ",".join(_LINEAGE).encode()
        for split in Split:
            between = rehearsed if split is Split.TRAIN else 0
            for at, source in self.picking.staging.sources(split):
                yield _csv(
                    source.record_id,
                    "" if source.user is None else source.user,
                    split.name.lower(),
                    at + _given(at - 1, new, between),
                    source.model,
                    source.generation,
                    source.author.name.lower(),
                    "" if source.vote is None else format(source.vote, "g"),
                    "yes" if source.preferred else "regenerated" if source.regenerated else "",
                )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished dataset, or None."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    return Manifest.of(orjson.loads(path.read_bytes()))


def _interleave(first: Iterable[bytes], n_first: int, second: Iterator[bytes], n_second: int) -> Iterator[bytes]:
    """Both in order, spread evenly over each other."""
    given = 0
    for at, line in enumerate(first, start=1):
        yield line
        while given < _given(at, n_first, n_second) and (extra := next(second, None)) is not None:
            given += 1
            yield extra
    yield from second


def _given(at: int, n_first: int, n_second: int) -> int:
    """Lines of the second file that stand before the line after `at` lines of the first."""
    return -(-at * n_second // n_first) if n_first else 0


def _counted(rows: Iterable[bytes], tokens: TokenCount) -> Iterator[bytes]:
    for row in rows:
        tokens.add(row)
        yield row


def _in_parts(row: bytes) -> bytes:
    return orjson.dumps(in_parts(orjson.loads(row)))


def _csv(*cells: object) -> bytes:
    """One row; cells with commas or quotation marks are quoted."""
    line = ",".join(map(str, cells))
    if line.count(",") == len(cells) - 1 and '"' not in line and "\n" not in line and "\r" not in line:
        return line.encode("utf-8", "replace")
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue().encode("utf-8", "replace")


def _write_lines(path: Path, rows: Iterable[bytes]) -> str:
    """Write atomically and durably; returns the SHA-256 of the file, hex."""
    digest, rows = hashlib.sha256(), iter(rows)
    temporary = path.with_name(f"{path.name}.tmp")
    with open_private(temporary, "wb") as out:
        while some := list(islice(rows, _AT_ONCE)):
            written = b"\n".join([*some, b""])
            digest.update(written)
            out.write(written)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest.hexdigest()
