"""How many samples a training file could get: counted by index, so it may be asked at every look.

An upper bound. Who was corrected may have scored well besides, and duplicates and caps are only known once the file is
made; what the last file kept then replaces the estimate.
"""

from __future__ import annotations

from policies.formats import FORMATS
from policies.selection import DataGeneratorConfig
from proxy.store.store import Store

__all__ = ["usable_at_most"]


async def usable_at_most(store: Store, config: DataGeneratorConfig, since_us: int, until_us: int) -> int:
    """Samples of the window that `policies.selection` may keep: scored well enough, or corrected, or, in the formats
    that learn from them, disliked or compared by people with another answer."""
    most = await store.traffic.count_quality_samples(since_us, config.min_quality_score)
    most -= await store.traffic.count_quality_samples(until_us, config.min_quality_score)
    most += await store.traffic.count_corrections(since_us, until_us)
    if FORMATS[config.format_type].needs_votes:
        most += (await store.traffic.feedback_window(since_us, until_us)).negative
        most += await store.preferences.count_of_records(since_us, until_us)
    return most
