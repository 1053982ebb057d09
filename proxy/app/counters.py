"""Everything that a worker counts, from the rooms that count: what its file has a slot for, and what that means."""

from __future__ import annotations

from typing import Final

from proxy.cleaning.counters import CLEANING
from proxy.gateway.counters import GATEWAY
from proxy.metrics.slots import WorkerCounter, slots_of, texts_of
from proxy.spool.ills import SPOOL_TROUBLES
from proxy.web.counters import FEEDBACK

__all__ = ["COUNTERS", "COUNTER_TEXTS", "WORKER_COUNTERS"]

_SPOOL: Final = (
    WorkerCounter(name="spool_sync_errors_total", text="Failed fsyncs of the spool."),
    WorkerCounter(
        name="spool_vanished_total", text="How often spool files were removed while a worker used them, and restored."
    ),
    WorkerCounter(
        name="spool_lost_frames_total",
        text="Requests and votes in finished spool segments that were removed: lost unless they were already stored.",
    ),
    WorkerCounter(
        name="spool_unwell",
        text="Workers that cannot write their spool properly, by cause.",
        labels=(("what", tuple(SPOOL_TROUBLES)),),
    ),
)
COUNTERS: Final = (*GATEWAY, *CLEANING, *_SPOOL, *FEEDBACK)
WORKER_COUNTERS: Final = slots_of(COUNTERS)
"""Every slot of a worker's shared counters."""
COUNTER_TEXTS: Final = texts_of(COUNTERS)
"""Help texts of them."""
