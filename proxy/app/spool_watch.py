"""What the workers of this host find wrong with their spools, as one sentence for all who ask how this host is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from proxy.app.troubles import Troubles
from proxy.metrics.gateway import stats_files
from proxy.metrics.shared import sum_counters
from proxy.spool.writer import SPOOL_TROUBLES

__all__ = ["watch_spool"]

_EVERY_S: Final = 1.0


async def watch_spool(run_dir: Path, troubles: Troubles) -> None:
    """Look at the workers' counters until cancelled. Needs no store, for that may be away for the same reason."""
    while True:
        found = sum_counters(stats_files(run_dir))
        unwell = [text for what, text in SPOOL_TROUBLES.items() if found.get(f'spool_unwell{{what="{what}"}}')]
        if unwell:
            troubles.report("spool", unwell[0])
        else:
            troubles.over("spool", "the spool can be written again")
        await asyncio.sleep(_EVERY_S)
