"""Room on the disk for a build: estimated, said and asked for before it begins, not found out halfway.

What a build writes is what it keeps, twice: in its staging file and in the training file. How much that is per record
is seen from the newest ones.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from policies.records import Sample
from policies.selection import DataGeneratorConfig, Keep, SelectionState, select
from policies.wording import many, size
from proxy.errors import TemporaryError
from proxy.store.tables.values import StoreSize

__all__ = ["Sized", "ensure_space", "needed_bytes"]

_log = logging.getLogger(__name__)
_PER_RECORD: Final = 1200
"""Bytes of the staging file for a kept record beside its line: fingerprint, bands, where it came from."""
_PER_LINE: Final = 200
"""Bytes of a line beside its texts, in the file and in the lineage."""


@runtime_checkable
class Sized(Protocol):
    """A source that knows how much is in it."""

    async def size(self) -> StoreSize:
        """Records (an estimate) and bytes."""
        ...


def needed_bytes(newest: Sequence[Sample], records: int, config: DataGeneratorConfig) -> int:
    """Bytes that a build over `records` records takes at most on the disk, were all of them like the newest.

    Duplicates and caps count as kept, but for `max_samples`.
    """
    if not newest:
        return 0
    kept = [_texts(sample) for sample in newest if isinstance(select(sample, config, SelectionState()), Keep)]
    if not kept:
        return 0
    lines = records * len(kept) / len(newest)
    if config.max_samples is not None:
        lines = min(lines, config.max_samples)
    return round(lines * (2 * (sum(kept) / len(kept) + _PER_LINE) + _PER_RECORD))


def ensure_space(folder: Path, newest: Sequence[Sample], records: int, config: DataGeneratorConfig) -> None:
    """Raises TemporaryError where the disk of `folder` has not as much free."""
    needed, free = needed_bytes(newest, records, config), shutil.disk_usage(folder).free
    _log.info(
        "the dataset in %s needs at most %s of disk for about %s records; %s are free",
        folder, size(needed), many(records), size(free),
    )  # fmt: skip
    if needed > free:
        raise TemporaryError(
            f"the dataset needs up to {size(needed)} in {folder} for about {many(records)} records, and its disk has"
            f" {size(free)} free; make room there, choose another place (trainer.directory), or set"
            " generator_config.max_samples"
        )


def _texts(sample: Sample) -> int:
    """Bytes of what was said."""
    exchange = sample.exchange
    if exchange.request:
        return len(exchange.request) + len(sample.response.encode("utf-8", "replace"))
    return len(f"{sample.query}{sample.response}".encode("utf-8", "replace"))
